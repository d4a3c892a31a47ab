package acme

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// What certmagic says is not said twice, and its progress only to who wants to see
// everything; that an order was taken back is no error.
func TestCertmagicsLog(t *testing.T) {
	for _, tt := range []struct {
		level zapcore.Level
		want  []string
	}{
		{zapcore.DebugLevel, []string{"certificate obtained successfully", "HTTP request failed", "could not get certificate from issuer", "will retry", "job failed"}},
		{zapcore.InfoLevel, []string{"HTTP request failed", "could not get certificate from issuer", "will retry", "job failed"}},
		{zapcore.ErrorLevel, []string{"could not get certificate from issuer", "will retry", "job failed"}},
	} {
		core, lines := observer.New(tt.level)
		told := func(_, issuer string, _ error) bool { return issuer == "only" }
		refused := errors.New("refused")
		order := subject{name: "blog.example.test"}
		order.orderFailed(refused)
		log := observeIssuers(zap.New(core), told, order.told).Named("obtain").With(zap.String("identifier", "blog.example.test"))
		log.Debug("checking cache")
		log.Info("certificate obtained successfully")
		log.Warn("HTTP request failed")
		log.Error("could not get certificate from issuer", zap.String("issuer", "only"), zap.Error(refused))
		log.Error("could not get certificate from issuer", zap.String("issuer", "first"), zap.Error(refused))
		log.Error("will retry", zap.Error(fmt.Errorf("[blog.example.test] Obtain: %w", refused)))
		log.Error("will retry", zap.Error(errors.New("[blog.example.test] Obtain: saving assets: disk full")))
		log.Error("job failed", zap.Error(errors.New("disk full")))
		log.Error("job failed", zap.Error(fmt.Errorf("blog.example.test: obtaining certificate: %w", context.Canceled)))
		var got []string
		for _, line := range lines.All() {
			got = append(got, line.Message)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("at level %v (-want +got):\n%s", tt.level, diff)
		}
	}
}

// An order that an only issuer refuses is one line, ours; certmagic's wording of it
// may change.
func TestFailedOrderIsToldOnce(t *testing.T) {
	core, lines := observer.New(zapcore.ErrorLevel)
	m := newManager(t, Options{Zap: zap.New(core)})
	nobody := Issuer{CA: "https://127.0.0.1:1/directory"}
	m.Manage(Settings{Issuers: []Issuer{nobody}}, hosts("refused.example.test"), nil)
	order := m.table.Load().orders["refused.example.test"]
	eventually(t, "a failure", 20*time.Second, order.failing)
	m.Retry() // the job that failed has ended, and said what it had to say, when the next one fails
	eventually(t, "another failure", 20*time.Second, func() bool {
		_, next := order.last()
		return !next.IsZero()
	})
	for _, line := range lines.All() {
		t.Errorf("also logged: %s %v", line.Message, line.ContextMap())
	}
}

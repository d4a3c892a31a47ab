package acme

import (
	"context"
	"errors"
	"fmt"
	"testing"

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
		{zapcore.DebugLevel, []string{"certificate obtained successfully", "HTTP request failed", "could not get certificate from issuer", "job failed"}},
		{zapcore.InfoLevel, []string{"HTTP request failed", "could not get certificate from issuer", "job failed"}},
		{zapcore.ErrorLevel, []string{"could not get certificate from issuer", "job failed"}},
	} {
		core, lines := observer.New(tt.level)
		told := func(_, issuer string, _ error) bool { return issuer == "only" }
		log := observeIssuers(zap.New(core), told).Named("obtain").With(zap.String("identifier", "blog.example.test"))
		log.Debug("checking cache")
		log.Info("certificate obtained successfully")
		log.Warn("HTTP request failed")
		log.Error("could not get certificate from issuer", zap.String("issuer", "only"), zap.Error(errors.New("refused")))
		log.Error("could not get certificate from issuer", zap.String("issuer", "first"), zap.Error(errors.New("refused")))
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

package xconnect_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"

	_ "detour/gateway/xconnect"

	"golang.org/x/net/http2"
)

// The server's first SETTINGS frame says whether it takes extended CONNECT.
func TestServerOffersExtendedConnect(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()

	conf := srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	conf.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", srv.Listener.Addr().String(), conf)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	fr := http2.NewFramer(conn, conn)
	if err := fr.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	f, err := fr.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	settings, ok := f.(*http2.SettingsFrame)
	if !ok {
		t.Fatalf("first frame = %v; want SETTINGS", f)
	}
	if v, _ := settings.Value(http2.SettingEnableConnectProtocol); v != 1 {
		t.Errorf("SETTINGS_ENABLE_CONNECT_PROTOCOL = %d; want 1", v)
	}
}

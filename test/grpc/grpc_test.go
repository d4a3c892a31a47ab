// Package grpc_test sends real gRPC through the proxy: the trailers carry a
// call's status, so one that gets lost turns success into failure.
package grpc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"detour/gateway"
	"detour/logging"
	"detour/proxy"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// engine lets the same tests run on each: go test ./test/grpc -engine=net/http.
var engine = flag.String("engine", "detour", "what serves and forwards")

const (
	host  = "grpc.example.test"
	calls = 1000 // of each kind
	// workers call at once: enough that streams of one connection overlap.
	workers = 16
)

// service answers as the interoperability tests' protocol asks, with a trailer
// that tells which call it belongs to.
type service struct {
	pb.UnimplementedTestServiceServer
}

func tag(ctx context.Context) string {
	md, _ := metadata.FromIncomingContext(ctx)
	if v := md.Get("tag"); len(v) > 0 {
		return v[0]
	}
	return ""
}

func answer(s *pb.EchoStatus) error {
	if s == nil {
		return nil
	}
	return status.Error(codes.Code(s.Code), s.Message)
}

func (service) UnaryCall(ctx context.Context, in *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	grpc.SetTrailer(ctx, metadata.Pairs("tag", tag(ctx)))
	if err := answer(in.ResponseStatus); err != nil {
		return nil, err
	}
	return &pb.SimpleResponse{Payload: in.Payload}, nil
}

func (service) StreamingOutputCall(in *pb.StreamingOutputCallRequest, s grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error {
	s.SetTrailer(metadata.Pairs("tag", tag(s.Context())))
	for _, p := range in.ResponseParameters {
		if err := s.Send(&pb.StreamingOutputCallResponse{Payload: &pb.Payload{Body: make([]byte, p.Size)}}); err != nil {
			return err
		}
	}
	return answer(in.ResponseStatus)
}

func (service) StreamingInputCall(s grpc.ClientStreamingServer[pb.StreamingInputCallRequest, pb.StreamingInputCallResponse]) error {
	s.SetTrailer(metadata.Pairs("tag", tag(s.Context())))
	size := 0
	for {
		in, err := s.Recv()
		if err == io.EOF {
			return s.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: int32(size)})
		}
		if err != nil {
			return err
		}
		size += len(in.Payload.GetBody())
	}
}

// FullDuplexCall echoes, and ends when a message carries a status, although
// the client may still be sending; without a message to come it waits.
func (service) FullDuplexCall(s grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error {
	s.SetTrailer(metadata.Pairs("tag", tag(s.Context())))
	for {
		in, err := s.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := answer(in.ResponseStatus); err != nil {
			return err
		}
		if err := s.Send(&pb.StreamingOutputCallResponse{Payload: in.Payload}); err != nil {
			return err
		}
	}
}

// EmptyCall waits until the caller gives up.
func (service) EmptyCall(ctx context.Context, _ *pb.Empty) (*pb.Empty, error) {
	<-ctx.Done()
	return nil, status.FromContextError(ctx.Err()).Err()
}

// kinds are the calls, each with what must come back.
var kinds = []struct {
	name string
	call func(ctx context.Context, c pb.TestServiceClient, tag string) error
}{
	{"unary", func(ctx context.Context, c pb.TestServiceClient, tag string) error {
		var trailer metadata.MD
		out, err := c.UnaryCall(ctx, &pb.SimpleRequest{Payload: &pb.Payload{Body: []byte(tag)}}, grpc.Trailer(&trailer))
		if err != nil {
			return err
		}
		if got := string(out.Payload.Body); got != tag {
			return fmt.Errorf("payload %q; want %q", got, tag)
		}
		return checkTrailer(trailer, tag)
	}},
	{"error status", func(ctx context.Context, c pb.TestServiceClient, tag string) error {
		var trailer metadata.MD
		_, err := c.UnaryCall(ctx, &pb.SimpleRequest{ResponseStatus: &pb.EchoStatus{Code: int32(codes.DataLoss), Message: "lost " + tag + " ✓\n"}}, grpc.Trailer(&trailer))
		if s := status.Convert(err); s.Code() != codes.DataLoss || s.Message() != "lost "+tag+" ✓\n" {
			return fmt.Errorf("status %v; want DataLoss and the message", s)
		}
		return checkTrailer(trailer, tag)
	}},
	{"server stream", func(ctx context.Context, c pb.TestServiceClient, tag string) error {
		sizes := []*pb.ResponseParameters{{Size: 10}, {Size: 0}, {Size: 20_000}}
		s, err := c.StreamingOutputCall(ctx, &pb.StreamingOutputCallRequest{ResponseParameters: sizes})
		if err != nil {
			return err
		}
		for i, p := range sizes {
			m, err := s.Recv()
			if err != nil || len(m.Payload.Body) != int(p.Size) {
				return fmt.Errorf("message %d: %d bytes, %v", i, len(m.GetPayload().GetBody()), err)
			}
		}
		return atEnd(s, codes.OK, tag)
	}},
	{"server stream that fails", func(ctx context.Context, c pb.TestServiceClient, tag string) error {
		s, err := c.StreamingOutputCall(ctx, &pb.StreamingOutputCallRequest{
			ResponseParameters: []*pb.ResponseParameters{{Size: 100}},
			ResponseStatus:     &pb.EchoStatus{Code: int32(codes.Aborted)},
		})
		if err != nil {
			return err
		}
		if _, err := s.Recv(); err != nil {
			return err
		}
		return atEnd(s, codes.Aborted, tag)
	}},
	{"client stream", func(ctx context.Context, c pb.TestServiceClient, tag string) error {
		s, err := c.StreamingInputCall(ctx)
		if err != nil {
			return err
		}
		for range 3 {
			if err := s.Send(&pb.StreamingInputCallRequest{Payload: &pb.Payload{Body: make([]byte, 1000)}}); err != nil {
				return err
			}
		}
		out, err := s.CloseAndRecv()
		if err != nil || out.AggregatedPayloadSize != 3000 {
			return fmt.Errorf("sum %v, %v; want 3000", out, err)
		}
		return checkTrailer(s.Trailer(), tag)
	}},
	{"both stream", func(ctx context.Context, c pb.TestServiceClient, tag string) error {
		s, err := c.FullDuplexCall(ctx)
		if err != nil {
			return err
		}
		for i := range 3 {
			want := fmt.Sprint(tag, i)
			if err := s.Send(&pb.StreamingOutputCallRequest{Payload: &pb.Payload{Body: []byte(want)}}); err != nil {
				return err
			}
			m, err := s.Recv()
			if err != nil || string(m.Payload.Body) != want {
				return fmt.Errorf("echo %q, %v; want %q", m.GetPayload().GetBody(), err, want)
			}
		}
		if err := s.CloseSend(); err != nil {
			return err
		}
		return atEnd(s, codes.OK, tag)
	}},
	{"server ends while the client sends", func(ctx context.Context, c pb.TestServiceClient, tag string) error {
		s, err := c.FullDuplexCall(ctx)
		if err != nil {
			return err
		}
		if err := s.Send(&pb.StreamingOutputCallRequest{ResponseStatus: &pb.EchoStatus{Code: int32(codes.ResourceExhausted)}}); err != nil {
			return err
		}
		for range 20 { // more than that only measures how fast it is thrown away
			if s.Send(&pb.StreamingOutputCallRequest{Payload: &pb.Payload{Body: make([]byte, 100)}}) != nil {
				break
			}
		}
		return atEnd(s, codes.ResourceExhausted, tag)
	}},
	{"cancellation", func(ctx context.Context, c pb.TestServiceClient, _ string) error {
		ctx, cancel := context.WithCancel(ctx)
		s, err := c.FullDuplexCall(ctx)
		if err != nil {
			cancel()
			return err
		}
		err = s.Send(&pb.StreamingOutputCallRequest{Payload: &pb.Payload{Body: []byte("x")}})
		if err == nil {
			_, err = s.Recv()
		}
		cancel()
		if err != nil {
			return err
		}
		if _, err := s.Recv(); status.Code(err) != codes.Canceled {
			return fmt.Errorf("after cancel: %v; want Canceled", err)
		}
		return nil
	}},
	{"deadline", func(ctx context.Context, c pb.TestServiceClient, _ string) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		defer cancel()
		if _, err := c.EmptyCall(ctx, &pb.Empty{}); status.Code(err) != codes.DeadlineExceeded {
			return fmt.Errorf("%v; want DeadlineExceeded", err)
		}
		return nil
	}},
}

func checkTrailer(trailer metadata.MD, tag string) error {
	if v := trailer.Get("tag"); len(v) != 1 || v[0] != tag {
		return fmt.Errorf("trailer %v; want the tag %q", trailer, tag)
	}
	return nil
}

func atEnd[T any](s grpc.ServerStreamingClient[T], want codes.Code, tag string) error {
	if _, err := s.Recv(); err == io.EOF && want != codes.OK || err != io.EOF && status.Code(err) != want {
		return fmt.Errorf("end of stream: %v; want %v", err, want)
	}
	return checkTrailer(s.Trailer(), tag)
}

func TestGRPC(t *testing.T) {
	cert, roots, rootsPEM := certificate(t)
	secure := credentials.NewServerTLSFromCert(&cert)
	newServer := map[string]func(gateway.ServerOptions) gateway.Server{
		"net/http": gateway.NewServer,
		"detour":   gateway.NewEngineServer,
	}[*engine]
	if newServer == nil {
		t.Fatalf("-engine=%s is none of net/http, detour", *engine)
	}
	for name, upstream := range map[string]proxy.UpstreamOptions{
		"h2c":   {Scheme: "h2c", Address: serveGRPC(t)},
		"https": {Scheme: "https", Address: serveGRPC(t, grpc.Creds(secure)), RootsPEM: rootsPEM},
	} {
		t.Run(name, func(t *testing.T) {
			stats := new(proxy.Stats)
			edge := serveProxy(t, newServer, upstream, cert, stats)
			conn, err := grpc.NewClient("passthrough:///"+host,
				grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(roots, host)),
				grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, "tcp", edge)
				}))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			client := pb.NewTestServiceClient(conn)
			for _, k := range kinds {
				t.Run(k.name, func(t *testing.T) { repeat(t, client, k.call) })
			}
			for deadline := time.Now().Add(20 * time.Second); stats.InFlight.Load() != 0; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%d requests are still in flight", stats.InFlight.Load())
				}
			}
			if message, _ := stats.LastError(); message != "" {
				t.Errorf("the proxy saw an upstream's failure: %s", message)
			}
		})
	}
}

// repeat calls often and from several goroutines at once.
func repeat(t *testing.T, c pb.TestServiceClient, call func(context.Context, pb.TestServiceClient, string) error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var working sync.WaitGroup
	for w := range workers {
		working.Go(func() {
			for i := w; i < calls; i += workers {
				tag := fmt.Sprint("call-", i)
				if err := call(metadata.AppendToOutgoingContext(ctx, "tag", tag), c, tag); err != nil {
					t.Errorf("call %d: %v", i, err)
					return
				}
			}
		})
	}
	working.Wait()
}

func serveGRPC(t *testing.T, o ...grpc.ServerOption) (addr string) {
	t.Helper()
	ln := listen(t)
	srv := grpc.NewServer(o...)
	pb.RegisterTestServiceServer(srv, service{})
	go srv.Serve(ln)
	t.Cleanup(srv.Stop)
	return ln.Addr().String()
}

func serveProxy(t *testing.T, newServer func(gateway.ServerOptions) gateway.Server, o proxy.UpstreamOptions, cert tls.Certificate, stats *proxy.Stats) (addr string) {
	t.Helper()
	o.Engine = *engine == "detour"
	upstream, err := proxy.NewUpstream(o, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(upstream.Retire)
	table, err := proxy.NewTable(proxy.TableOptions{Routes: []*proxy.Route{{
		Host: host, Names: []string{host}, Online: true, Pool: proxy.NewPool([]*proxy.Upstream{upstream}, nil), Compress: true, Stats: stats,
	}}})
	if err != nil {
		t.Fatal(err)
	}
	handler := logging.AccessLog(proxy.NewHandler(proxy.HandlerOptions{Table: table}), func() *logging.Sink { return nil })
	srv := newServer(gateway.ServerOptions{
		Handler: handler,
		TLS:     &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}},
	})
	ln := listen(t)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve() = %v; want %v", err, http.ErrServerClosed)
		}
	})
	return ln.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func certificate(t *testing.T) (cert tls.Certificate, roots *x509.CertPool, rootsPEM string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		DNSNames:              []string{host},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	rootsPEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(rootsPEM))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots, rootsPEM
}

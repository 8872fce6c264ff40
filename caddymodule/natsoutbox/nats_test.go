package natsoutbox

import (
	"context"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule"
	"github.com/windsome/caddy-wepay/caddymodule/outboxtest"
)

// startServer starts a server that keeps its streams in a directory of the test.
func startServer(t testing.TB, change func(*serverOptions)) *natsserver.Server {
	t.Helper()
	options := &serverOptions{
		ServerName: "one", Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true, JetStream: true, StoreDir: t.TempDir(),
	}
	if change != nil {
		change(options)
	}
	s, err := natsserver.NewServer(options)
	if err != nil {
		t.Fatalf("making a NATS server: %v", err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the NATS server does not come up")
	}
	return s
}

// newOutbox returns an outbox as Caddy would have provisioned it.
func newOutbox(t testing.TB, n *NATS) *NATS {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	if err := n.Provision(ctx); err != nil {
		t.Fatalf("Provision: %v", err)
	}
	n.logger = zap.NewNop()
	return n
}

func TestContract(t *testing.T) {
	s := startServer(t, nil)
	outboxtest.Run(t, func(t testing.TB) func() caddymodule.Outbox {
		stream := streamOf(t)
		return func() caddymodule.Outbox {
			return newOutbox(t, &NATS{URLs: []string{s.ClientURL()}, Stream: stream, Replicas: 1})
		}
	})
}

type serverOptions = natsserver.Options

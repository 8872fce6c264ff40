// Package natsoutbox keeps a fleet's events in NATS JetStream: what one Caddy
// has taken any of them hands over, and a machine that is lost takes nothing
// with it. Nothing else imports it; build a Caddy with it by
//
//	xcaddy build --with github.com/windsome/caddy-wepay/caddymodule \
//		--with github.com/windsome/caddy-wepay/caddymodule/natsoutbox
package natsoutbox

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule"
)

func init() {
	caddy.RegisterModule(&NATS{})
}

// NATS is an outbox in NATS JetStream, for several Caddys that share it. WeChat
// hears SUCCESS when most of the servers that keep the stream have the event.
// Needs NATS 2.11 or later.
//
// NATS by itself writes to the disk within two minutes: with one replica, or
// with all in one place, set `sync_interval: always` for its JetStream, or a
// loss of power may take what was acknowledged.
type NATS struct {
	// The servers' addresses, such as `nats://10.0.0.1:4222`; `tls://` where
	// they have a certificate. A user or a token may stand in front of the host.
	// One is enough to find the others of a cluster.
	URLs []string `json:"urls,omitempty"`

	// The stream that keeps the events, made when there is none. Dead letters
	// are in another, with `_DEAD` behind its name. Default: `WEPAY`.
	Stream string `json:"stream,omitempty"`

	// How many servers keep each event: 1, 3 or 5. Default: 3.
	Replicas int `json:"replicas,omitempty"`

	// A file of credentials, as `nsc` makes it.
	Credentials string `json:"credentials,omitempty"`

	// What to trust, and what to show, where a connection is encrypted.
	TLS *TLS `json:"tls,omitempty"`

	caddymodule.OutboxOptions

	server server
	stream names
	logger *zap.Logger

	mu    sync.Mutex
	store *store              // nil: not yet open
	open  context.Context     // ends with Close
	close context.CancelFunc  // ends it
	held  map[*lease]struct{} // what is not settled; nil: not open
}

// CaddyModule returns the Caddy module information.
func (*NATS) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "wepay.outbox.nats",
		New: func() caddy.Module { return new(NATS) },
	}
}

// Provision sets up the outbox. It reads files and connects to nothing.
func (n *NATS) Provision(ctx caddy.Context) error {
	n.logger = ctx.Logger()
	repl := caddy.NewReplacer()
	stream, err := replace(repl, "stream", n.Stream)
	if err != nil {
		return err
	}
	if n.stream, err = parseNames(stream); err != nil {
		return err
	}
	if n.Replicas == 0 {
		n.Replicas = 3
	}
	if !slices.Contains([]int{1, 3, 5}, n.Replicas) {
		return fmt.Errorf("replicas: must be 1, 3 or 5, not %d", n.Replicas)
	}
	if n.server, err = n.provisionServer(repl); err != nil {
		return err
	}
	return n.OutboxOptions.Provision()
}

// replace returns a value with what its placeholders stand for.
func replace(repl *caddy.Replacer, option, value string) (string, error) {
	replaced, err := repl.ReplaceOrErr(value, true, true)
	if err != nil {
		return "", fmt.Errorf("%s: resolving a placeholder: %w", option, err)
	}
	return replaced, nil
}

// stores are the streams that this process is connected to: the configs of a
// reload share them, whatever their other options are.
var stores = caddy.NewUsagePool()

// openTimeout bounds an Open: servers that are just starting may take so long to
// answer and to find a leader.
const openTimeout = 15 * time.Second

// Open connects, or joins those of this process that are connected, and makes
// the streams or checks them.
func (n *NATS) Open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return err
	}
	value, _, err := stores.LoadOrNew(n.key(), func() (caddy.Destructor, error) {
		return newStore(ctx, n.server, n.stream, n.logger)
	})
	if err != nil {
		return err
	}
	s := value.(*store)
	if err := s.prepare(ctx, n.Replicas); err != nil {
		_, _ = stores.Delete(n.key()) // why it cannot be used is more than how it ended
		return fmt.Errorf("NATS at %s: %w", n.server.hosts, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.store, n.held = s, make(map[*lease]struct{})
	n.open, n.close = context.WithCancel(s.open)
	return nil
}

// key tells apart what cannot share a connection.
func (n *NATS) key() string { return n.server.hash + "/" + string(n.stream) }

// A Close that NATS does not answer has two parts: to give back the leases, and
// to wait for what is on its way. Together they may take half a
// second as the process ends; see caddymodule.Outbox.
const (
	releaseTimeout = 250 * time.Millisecond
	drainTimeout   = 200 * time.Millisecond
)

// Close gives back the leases, and the connection to others or as the last.
func (n *NATS) Close() error {
	n.mu.Lock()
	if n.held == nil {
		n.mu.Unlock()
		return nil
	}
	n.close()
	held := slices.Collect(maps.Keys(n.held))
	n.held = nil
	n.mu.Unlock()
	n.store.release(held, releaseTimeout)
	_, err := stores.Delete(n.key())
	return err
}

// Interface guards
var (
	_ caddy.Provisioner     = (*NATS)(nil)
	_ caddyfile.Unmarshaler = (*NATS)(nil)
	_ caddymodule.Outbox    = (*NATS)(nil)
)

package natsoutbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/windsome/caddy-wepay/caddymodule"
)

// reachTimeout is how long whoever looks into the outbox waits for NATS to
// answer at all.
const reachTimeout = 3 * time.Second

// reach makes sure that NATS answers. Somebody who looks is told soon that it
// does not; those who have to do with WeChat have time-outs of their own.
func (s *store) reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	err := s.retry(ctx, func(ctx context.Context) error {
		if !s.nc.IsConnected() {
			return nats.ErrDisconnected
		}
		err := s.nc.FlushWithContext(ctx)
		if errors.Is(err, nats.ErrConnectionClosed) && !s.nc.IsClosed() { // this connection, and not the next
			return nats.ErrDisconnected
		}
		return err
	})
	if err == nil || errors.Is(err, caddymodule.ErrOutboxClosed) {
		return err
	}
	return fmt.Errorf("%w: NATS at %s does not answer; see its servers and the network to them: %w", caddymodule.ErrOutboxAway, s.hosts, err)
}

package natsoutbox

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/windsome/caddy-wepay/caddymodule"
)

// turn is whose turn it is to ask NATS for something that others want as well.
// Who waits for it goes when the context ends.
type turn struct{ *semaphore.Weighted }

func newTurn() turn { return turn{semaphore.NewWeighted(1)} }

func (t turn) take(ctx context.Context) error { return t.Acquire(ctx, 1) }

func (t turn) end() { t.Release(1) }

// room is what a stream whose bytes are limited takes still.
type room struct {
	turn
	asked time.Time
	limit int64 // bytes; none: 0 or below
	used  int64
}

const (
	// reserved is the part of a limited stream that new events leave free. To
	// lease an event, to settle it and to drop it are messages, too: a stream full
	// to the last byte would hold up what is in it, and never get emptier.
	reserved = 8

	// A stream's size is asked for this often while events come, and more often
	// when it seems to be full.
	askEvery     = time.Second
	askFullEvery = 100 * time.Millisecond

	// overhead is about what a message takes besides the payload, in bytes.
	overhead = 1 << 10
)

// checkRoom refuses an event that a stream has no room for, except for what it
// keeps free.
func (s *store) checkRoom(ctx context.Context, e *caddymodule.Event) error {
	r := &s.room
	if err := r.take(ctx); err != nil {
		return err
	}
	defer r.end()
	size := int64(len(e.Payload) + overhead)
	fits := func() bool { return r.limit <= 0 || r.used+size <= r.limit-r.limit/reserved }
	if age := time.Since(r.asked); age > askEvery || age > askFullEvery && !fits() {
		err := s.retry(ctx, func(ctx context.Context) error {
			began := s.clock.local()
			info, err := s.events.Info(ctx)
			if err == nil {
				s.clock.note(info.TimeStamp, began)
				r.asked, r.limit, r.used = time.Now(), info.Config.MaxBytes, int64(info.State.Bytes)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("asking for the size of the stream %s: %w", s.stream, err)
		}
	}
	if !fits() {
		return fmt.Errorf("the stream %s is full: it holds %d bytes of %d, of which an eighth is kept free to hand over what is there; "+
			"raise its max_bytes, or see why it does not get emptier", s.stream, r.used, r.limit)
	}
	r.used += size
	return nil
}

package apiv2

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/windsome/caddy-wepay/wepay"
)

// kept is a key that is fetched from WeChat, once for all who wait, and kept
// for a time.
type kept[K any] struct {
	lives  time.Duration
	flight singleflight.Group

	mu      sync.Mutex
	key     K
	expires time.Time
	failed  error     // what came of fetching it last
	asked   time.Time // when that was
}

// get returns the key, fetching it where there is none, unless that failed less
// than a time ago. The fetch outlives a caller who gives up, for the others who
// wait; the client's time-out ends it.
func (k *kept[K]) get(ctx context.Context, now func() time.Time, again time.Duration, fetch func(context.Context) (K, error)) (K, error) {
	if key, found := k.cached(now()); found {
		return key, nil
	}
	if err := k.failing(now(), again); err != nil {
		var none K
		return none, err
	}
	fetched := k.flight.DoChan("", func() (any, error) {
		// Whoever came between the look above and this flight has it already.
		if key, found := k.cached(now()); found {
			return key, nil
		}
		key, err := fetch(context.WithoutCancel(ctx))
		if err == nil {
			k.keep(key, now().Add(k.lives))
		} else {
			k.fail(err, now())
		}
		return key, err
	})
	select {
	case result := <-fetched:
		return result.Val.(K), result.Err
	case <-ctx.Done():
		var none K
		return none, fmt.Errorf("%w: waiting for a key: %w", wepay.ErrNoAnswer, context.Cause(ctx))
	}
}

func (k *kept[K]) cached(now time.Time) (K, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.key, !now.After(k.expires)
}

func (k *kept[K]) keep(key K, until time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.key, k.expires, k.failed = key, until, nil
}

func (k *kept[K]) fail(err error, at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failed, k.asked = err, at
}

// failing returns why fetching failed, if that is less than a time ago.
func (k *kept[K]) failing(now time.Time, again time.Duration) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failed == nil || now.Sub(k.asked) >= again {
		return nil
	}
	return k.failed
}

// forget has the next one fetch the key anew.
func (k *kept[K]) forget() {
	var none K
	k.keep(none, time.Time{})
}

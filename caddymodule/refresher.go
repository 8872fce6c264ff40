package caddymodule

import (
	"context"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/windsome/caddy-wepay/wepay/apiv3"
)

// refresher has platform certificates fetched before they are needed. Each
// account's are due by themselves; where fetching fails those held before go on,
// and whatever needs others has them fetched itself.
type refresher struct {
	keyRings *keyRings
	logger   *zap.Logger
	metrics  *metrics
	task     *task
}

// The refresher's rounds: how long after one the next begins, on average, so that
// the servers of a fleet do not ask at the same times; and how many accounts ask
// at once.
const (
	refreshPause    = time.Minute
	refreshesAtOnce = 8
	refreshLoadTime = 10 * time.Second // how long the storage may take, for each account
)

// startRefresher begins rounds, until stop.
func startRefresher(keyRings *keyRings, logger *zap.Logger, metrics *metrics) *refresher {
	r := &refresher{keyRings: keyRings, logger: logger, metrics: metrics}
	r.task = startTask(func(ctx context.Context) {
		for {
			r.round(ctx)
			select {
			case <-time.After(refreshPause/2 + rand.N(refreshPause)):
			case <-ctx.Done():
				return
			}
		}
	})
	return r
}

// stop ends it, and waits for no answer.
func (r *refresher) stop() { r.task.stop() }

// round refreshes what is due.
func (r *refresher) round(ctx context.Context) {
	var fetches errgroup.Group
	fetches.SetLimit(refreshesAtOnce)
	for _, keyRing := range r.keyRings.all {
		fetches.Go(func() error {
			if ctx.Err() == nil {
				r.refresh(ctx, keyRing)
			}
			return nil
		})
	}
	_ = fetches.Wait() // refresh has logged what failed
}

// refresh has an account's certificates fetched if they are due, and tells when
// all expire.
func (r *refresher) refresh(ctx context.Context, keyRing *apiv3.KeyRing) {
	loading, cancel := context.WithTimeout(ctx, refreshLoadTime)
	defer cancel()
	keyRing.Load(loading)
	names := r.keyRings.names[keyRing]
	if at, ever := keyRing.Due(); ever && !time.Now().Before(at) {
		if err := keyRing.Refresh(ctx); err != nil && ctx.Err() == nil {
			r.logger.Warn("fetching platform certificates failed, and is tried again", zap.Strings("merchants", names), zap.Error(err))
		}
	}
	if expires := keyRing.Expires(); !expires.IsZero() {
		r.metrics.platformCertificate(names, expires)
	}
}

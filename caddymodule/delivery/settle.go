package delivery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// settleTimeout bounds how long a store may take to settle an event.
const settleTimeout = 10 * time.Second

// Where a store cannot settle an event, it is asked again after
// waits that double from the first to the longest.
const (
	firstSettleWait   = 100 * time.Millisecond
	longestSettleWait = 5 * time.Second
)

// giveBack ends a lease of which nothing came, and has the event wait. It does not
// count as an attempt.
func (w *queueWorker) giveBack(lease *store.Lease, until time.Time, wait time.Duration) {
	lease.Event.Due = w.due(wait)
	w.store(lease, until)
}

// due is when an event is due that waits: never further ahead than the longest
// wait, whatever an order service asks for.
func (w *queueWorker) due(wait time.Duration) time.Time {
	return w.Clock.Now().Add(min(wait, w.Policy.LongestWait))
}

// errAway is why an event is given up that is too old, and was not tried again.
var errAway = errors.New("the order service is away")

// giveUpUntried gives up an event that is too old to wait for an order service
// that is away: as no event is tried then but one now and then, it would wait for
// ever.
func (w *queueWorker) giveUpUntried(lease *store.Lease, until time.Time, err error) {
	e := lease.Event
	if e.Reason != "" {
		err = fmt.Errorf("%w, as before: %s", err, e.Reason)
	}
	e.Reason = err.Error()
	e.State, e.Due, e.Ended = store.Dead, time.Time{}, w.Clock.Now()
	w.conclude(lease, until, "dead", err)
}

// tooOld reports whether an event is given up unless it is taken now. Its age
// alone does not say that, since a clock may be wrong: it has been tried often
// enough as well, or its order service has been away for long enough, and this
// process does not just begin.
func (w *queueWorker) tooOld(e *store.Event) bool {
	if w.Clock.Age(e.Since) < w.Policy.GiveUp || w.Clock.Running() < w.Policy.leastTime() {
		return false
	}
	return e.Attempts >= w.Policy.leastAttempts() || w.service.openFor(time.Now()) >= w.Policy.leastTime()
}

// settle stores what came of an attempt.
func (w *queueWorker) settle(lease *store.Lease, until time.Time, err error) {
	e := lease.Event
	e.Attempts++
	result := "delivered"
	if err == nil {
		e.State, e.Due, e.Ended = store.Delivered, time.Time{}, w.Clock.Now()
		e.Reason, e.Refused, e.Answer = "", false, ""
	} else {
		result = w.postpone(e, err)
	}
	w.conclude(lease, until, result, err)
}

// conclude tells what has become of an event, and stores it.
func (w *queueWorker) conclude(lease *store.Lease, until time.Time, result string, err error) {
	e := lease.Event
	w.Attempted(e, result)
	fields := []zap.Field{
		zap.String("merchant", e.Merchant), zap.String("event", e.ID), zap.String("kind", string(e.Kind)), zap.Int("attempts", e.Attempts),
	}
	switch {
	case e.State == store.Dead:
		w.Logger.Error("event given up: `caddy wepay events replay` hands it over again", append(fields, zap.Error(err))...)
	case e.Refused:
		w.Logger.Error("the order service refuses an event", append(fields, zap.Time("due", e.Due), zap.Error(err))...)
	case err != nil:
		w.Logger.Warn("event not delivered", append(fields, zap.Time("due", e.Due), zap.Error(err))...)
	default:
		if c := w.Logger.Check(zap.DebugLevel, "event delivered"); c != nil {
			c.Write(fields...)
		}
	}
	if w.store(lease, until) && e.State == store.Dead {
		w.Dead(e)
	}
}

// postpone has an event wait after an attempt that failed, or gives it up, and
// returns a word for it.
func (w *queueWorker) postpone(e *store.Event, err error) string {
	var failed *notTaken
	if !errors.As(err, &failed) {
		failed = &notTaken{err: err}
	}
	e.Reason, e.Refused, e.Answer = failed.err.Error(), failed.refused(), failed.answer
	if old := w.tooOld(e); old || failed.gone() {
		e.State, e.Due, e.Ended = store.Dead, time.Time{}, w.Clock.Now()
		w.aged.Store(old)
		return "dead"
	}
	wait := w.Policy.wait(e.Attempts)
	// Less by up to a fifth, so that what failed together does not come again
	// together.
	wait -= rand.N(wait/5 + 1)
	e.Due = w.due(max(wait, failed.retryAfter))
	if e.Refused {
		return "refused"
	}
	return "failed"
}

// store settles a lease, and reports whether that was done. Where it fails it is
// tried again as long as the lease lasts and nothing stops it; then the
// event is handed over again.
func (w *queueWorker) store(lease *store.Lease, until time.Time) bool {
	err := w.tryStore(lease)
	if err == nil {
		return true
	}
	e, tries := lease.Event, 1
	logger := w.Logger.With(zap.String("merchant", e.Merchant), zap.String("event", e.ID))
	if w.mayPass(err) {
		logger.Error("settling an event fails: it is tried again while the lease lasts", zap.Error(err))
	}
	for ; w.mayPass(err); tries++ {
		wait := growing(firstSettleWait, longestSettleWait, tries)
		if time.Until(until) < wait {
			break
		}
		pause(w.leasing, wait)
		err = w.tryStore(lease)
	}
	if err != nil && (tries == 1 || !w.stored(e)) {
		logger.Error("settling an event failed: it may be handed over again", zap.Int("tries", tries), zap.Error(err))
		return false
	}
	logger.Info("event settled after all", zap.Int("tries", tries))
	return true
}

func (w *queueWorker) tryStore(lease *store.Lease) error {
	ctx, cancel := context.WithTimeout(w.settling, settleTimeout)
	defer cancel()
	return w.Store.Settle(ctx, lease)
}

// mayPass reports whether there is time for a store that failed to do better.
func (w *queueWorker) mayPass(err error) bool {
	return err != nil && !errors.Is(err, store.ErrLeaseLost) && !errors.Is(err, store.ErrClosed) && w.leasing.Err() == nil
}

// stored reports whether the store has an event as it is here, to the
// millisecond: it may have stored it, and only the answer was lost.
func (w *queueWorker) stored(e *store.Event) bool {
	ctx, cancel := context.WithTimeout(w.settling, settleTimeout)
	defer cancel()
	there, err := w.Store.Get(ctx, e.ID)
	return err == nil && there.State == e.State && there.Attempts == e.Attempts && same(there.Due, e.Due) && same(there.Ended, e.Ended)
}

func same(a, b time.Time) bool { return a.Sub(b).Abs() < time.Millisecond }

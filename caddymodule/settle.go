package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"
)

// settleTimeout bounds how long an outbox may take to note what came of an
// event.
const settleTimeout = 10 * time.Second

// Where an outbox cannot note what came of an event, it is asked again after
// waits that double from the first to the longest.
const (
	firstSettleWait   = 100 * time.Millisecond
	longestSettleWait = 5 * time.Second
)

// giveBack ends a lease of which nothing came. It does not count as an attempt.
func (l *lane) giveBack(lease *Lease, until, due time.Time) {
	lease.Event.Due = due
	l.store(lease, until)
}

// errAway is why an event is given up that is too old, and was not tried again.
var errAway = errors.New("the order service is away")

// giveUpUntried gives up an event that is too old to wait for an order service
// that is away: as no event is tried then but one now and then, it would wait for
// ever.
func (l *lane) giveUpUntried(lease *Lease, until time.Time, err error) {
	e := lease.Event
	if e.Reason != "" {
		err = fmt.Errorf("%w, as before: %s", err, e.Reason)
	}
	e.Reason = err.Error()
	e.State, e.Ended = Dead, time.Now()
	l.conclude(lease, until, "dead", err)
}

// tooOld reports whether an event is given up unless it is taken now.
func (l *lane) tooOld(e *Event, now time.Time) bool {
	return now.Sub(e.Since) >= time.Duration(l.options.GiveUp)
}

// settle stores what came of an attempt.
func (l *lane) settle(lease *Lease, until time.Time, err error) {
	e, now := lease.Event, time.Now()
	e.Attempts++
	result := "delivered"
	if err == nil {
		e.State, e.Ended, e.Reason, e.Refused = Delivered, now, "", false
	} else {
		result = l.postpone(e, err, now)
	}
	l.conclude(lease, until, result, err)
}

// conclude tells what has become of an event, and stores it.
func (l *lane) conclude(lease *Lease, until time.Time, result string, err error) {
	e := lease.Event
	l.metrics.deliveries.WithLabelValues(e.Merchant, result).Inc()
	fields := []zap.Field{
		zap.String("merchant", e.Merchant), zap.String("event", e.ID), zap.String("kind", string(e.Kind)), zap.Int("attempts", e.Attempts),
	}
	switch {
	case e.State == Dead:
		l.logger.Error("event given up: `caddy wepay outbox replay` hands it over again", append(fields, zap.Error(err))...)
	case e.Refused:
		l.logger.Error("the order service refuses an event", append(fields, zap.Time("due", e.Due), zap.Error(err))...)
	case err != nil:
		l.logger.Warn("event not delivered", append(fields, zap.Time("due", e.Due), zap.Error(err))...)
	default:
		if c := l.logger.Check(zap.DebugLevel, "event delivered"); c != nil {
			c.Write(fields...)
		}
	}
	if l.store(lease, until) && e.State == Dead {
		l.giveUp(e)
	}
}

// postpone has an event wait after an attempt that failed, or gives it up, and
// returns a word for it.
func (l *lane) postpone(e *Event, err error, now time.Time) string {
	var failed *notTaken
	if !errors.As(err, &failed) {
		failed = &notTaken{err: err}
	}
	e.Reason, e.Refused = failed.err.Error(), failed.refused()
	if old := l.tooOld(e, now); old || failed.gone() {
		e.State, e.Ended = Dead, now
		l.aged.Store(old)
		return "dead"
	}
	wait := growing(time.Duration(l.options.Retry[0]), time.Duration(l.options.Retry[1]), e.Attempts)
	// Less by up to a fifth, so that what failed together does not come again
	// together.
	wait -= rand.N(wait/5 + 1)
	e.Due = now.Add(max(wait, min(failed.retryAfter, time.Duration(l.options.GiveUp))))
	if e.Refused {
		return "refused"
	}
	return "failed"
}

// store settles a lease, and reports whether that was done. Where it fails it is
// tried again as long as the lease lasts and nobody wants to stop; then the
// event is handed over again.
func (l *lane) store(lease *Lease, until time.Time) bool {
	err := l.tryStore(lease)
	if err == nil {
		return true
	}
	e, tries := lease.Event, 1
	logger := l.logger.With(zap.String("merchant", e.Merchant), zap.String("event", e.ID))
	if l.mayPass(err) {
		logger.Error("settling an event fails: it is tried again while the lease lasts", zap.Error(err))
	}
	for ; l.mayPass(err); tries++ {
		wait := growing(firstSettleWait, longestSettleWait, tries)
		if time.Until(until) < wait {
			break
		}
		l.pause(l.leasing, wait)
		err = l.tryStore(lease)
	}
	if err != nil && (tries == 1 || !l.stored(e)) {
		logger.Error("settling an event failed: it may be handed over again", zap.Int("tries", tries), zap.Error(err))
		return false
	}
	logger.Info("event settled after all", zap.Int("tries", tries))
	return true
}

func (l *lane) tryStore(lease *Lease) error {
	ctx, cancel := context.WithTimeout(l.settling, settleTimeout)
	defer cancel()
	return l.outbox.Settle(ctx, lease)
}

// mayPass reports whether there is time for an outbox that failed to do better.
func (l *lane) mayPass(err error) bool {
	return err != nil && !errors.Is(err, ErrLeaseLost) && !errors.Is(err, ErrOutboxClosed) && l.leasing.Err() == nil
}

// stored reports whether the outbox has an event as it is here, to the
// millisecond: it may have stored it, and only the answer was lost.
func (l *lane) stored(e *Event) bool {
	ctx, cancel := context.WithTimeout(l.settling, settleTimeout)
	defer cancel()
	there, err := l.outbox.Get(ctx, e.ID)
	return err == nil && there.State == e.State && there.Attempts == e.Attempts && same(there.Due, e.Due) && same(there.Ended, e.Ended)
}

func same(a, b time.Time) bool { return a.Sub(b).Abs() < time.Millisecond }

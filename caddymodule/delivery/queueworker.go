package delivery

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/windsome/caddy-wepay/caddymodule/internal/sampler"
	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// queueWorker hands over the events of one queue.
type queueWorker struct {
	*Dispatcher

	queue    store.Queue
	endpoint *Endpoint
	service  *service
	slots    chan struct{}       // taken by what is leased
	own      *semaphore.Weighted // workers that the queue may have; whose waiters are served in turn
	aged     atomic.Bool         // an event was given up for its age, and there may be more
}

// precedingWait is how long after a payment is due its refund is looked at
// again.
const precedingWait = time.Second

// run leases events as long as there are slots for them.
func (w *queueWorker) run() {
	var deliveries sync.WaitGroup
	defer deliveries.Wait()
	var failures sampler.Sampler
	for w.leasing.Err() == nil {
		leases, err := w.lease()
		if err != nil {
			if w.leasing.Err() == nil {
				w.logLeasing(&failures, err)
				pause(w.leasing, time.Second)
			}
			continue
		}
		w.logLeasing(&failures, nil)
		until := time.Now().Add(w.term())
		for _, lease := range leases {
			deliveries.Go(func() {
				defer func() { <-w.slots }()
				w.handOver(lease, until)
			})
		}
	}
}

// logLeasing logs that leasing fails, once a minute, or works again.
func (w *queueWorker) logLeasing(failures *sampler.Sampler, err error) {
	const leasing = "leasing"
	logger := w.Logger.With(zap.String("merchant", w.queue.Merchant), zap.String("kind", string(w.queue.Kind)))
	switch {
	case err == nil && failures.Over(leasing):
		logger.Info("events are leased again")
	case err != nil && failures.Log(leasing):
		logger.Error("leasing events fails: it is tried again each second", zap.Error(err))
	}
}

// term is how long a lease lasts: time to wait for a worker, and to deliver.
func (w *queueWorker) term() time.Duration { return w.endpoint.Timeout + time.Minute }

// lease takes as many events as there are slots, once some are free: looking for
// one costs as much as for all. The slots are theirs.
func (w *queueWorker) lease() ([]*store.Lease, error) {
	taken := 0
	defer func() {
		for range taken {
			<-w.slots
		}
	}()
	for taken < cap(w.slots)/leasedPart {
		select {
		case <-w.leasing.Done():
			return nil, w.leasing.Err()
		case w.slots <- struct{}{}:
			taken++
		}
	}
	free := cap(w.slots)
	if !w.aged.Load() { // else what is too old is given up while nothing may be sent, too
		var err error
		if free, err = w.service.await(w.leasing, free); err != nil {
			return nil, err
		}
	}
	for taken < free {
		select {
		case w.slots <- struct{}{}:
			taken++
			continue
		default:
		}
		break
	}
	leases, err := w.Store.Lease(w.leasing, w.queue, min(taken, free), w.term())
	if err != nil {
		return nil, err
	}
	taken -= len(leases)
	return leases, nil
}

// handOver delivers an event as soon as there is a worker, unless something
// stands against it now, and ends its lease, which lasts until a time.
func (w *queueWorker) handOver(lease *store.Lease, until time.Time) {
	switch wait, tried, err := w.attempt(lease.Event, until); {
	case tried:
		w.settle(lease, until, err)
	case err != nil:
		w.giveUpUntried(lease, until, err)
	default:
		w.giveBack(lease, until, wait)
	}
}

// attempt delivers an event, and reports whether that was tried to the end and
// what came of it; else after which wait it is due again, or why it is too late
// for that. It holds a worker meanwhile, and none while the event is settled.
func (w *queueWorker) attempt(e *store.Event, until time.Time) (wait time.Duration, tried bool, err error) {
	if w.own.Acquire(w.leasing, 1) != nil {
		return 0, false, nil
	}
	defer w.own.Release(1)
	if w.pool.acquire(w.leasing, w.service) != nil {
		return 0, false, nil
	}
	defer w.pool.release(w.service)
	now := time.Now()
	if until.Sub(now) < w.endpoint.Timeout {
		return 0, false, nil
	}
	if wait, held := w.heldUp(e); held {
		return wait, false, nil
	}
	ok, probe, wait := w.service.enter(now)
	if !ok {
		if w.tooOld(e) {
			return 0, false, errAway
		}
		w.aged.Store(false)
		return wait, false, nil
	}
	err = w.endpoint.Deliver(w.delivering, e)
	if err != nil && w.delivering.Err() != nil {
		// Whether it was taken is unknown: it is delivered again, by others.
		return 0, false, nil
	}
	w.report(err, probe)
	return 0, true, err
}

// heldUp reports whether another event is to be handed over before this one,
// and after which wait to look again.
func (w *queueWorker) heldUp(e *store.Event) (wait time.Duration, held bool) {
	if e.After == "" {
		return 0, false
	}
	ctx, cancel := context.WithTimeout(w.delivering, settleTimeout)
	defer cancel()
	switch preceding, err := w.Store.Get(ctx, e.After); {
	case errors.Is(err, store.ErrNoEvent):
		return 0, false
	case err != nil:
		w.Logger.Error("looking for the event before failed", zap.String("event", e.ID), zap.Error(err))
		return precedingWait, true
	case preceding.State != store.Waiting:
		return 0, false
	default:
		return max(preceding.Due.Sub(w.Clock.Now()), 0) + precedingWait, true
	}
}

// report tells the breaker what came of a delivery. An order service that
// refuses an event is there, and may take others.
func (w *queueWorker) report(err error, probe bool) {
	var failed *notTaken
	if !errors.As(err, &failed) || failed.refused() {
		w.service.succeed()
		return
	}
	w.service.fail(time.Now(), probe, min(failed.retryAfter, w.Policy.LongestWait))
}

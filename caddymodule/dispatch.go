package caddymodule

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"
)

// dispatcher hands over what waits in an outbox: leases events, delivers them,
// and settles what came of it. Each queue goes its own pace.
type dispatcher struct {
	outbox    Outbox
	callbacks map[string]*callback // by merchants' names
	options   *OutboxOptions
	logger    *zap.Logger
	metrics   *metrics
	giveUp    func(*Event) // called for an event that is dead now

	workers *hands
	share   int // of the workers that one queue may have

	leasing, delivering, settling context.Context
	stopLeasing, abort, abandon   context.CancelFunc
	lanes                         sync.WaitGroup
}

// leasedAhead is how many events are leased for each worker: one that is handed
// over, and others that are being noted or wait for it, so that no worker waits
// for the disk.
const leasedAhead = 8

// precedingWait is how long after a payment is due its refund is looked at
// again.
const precedingWait = time.Second

func newDispatcher(outbox Outbox, callbacks map[string]*callback, logger *zap.Logger, metrics *metrics, giveUp func(*Event)) *dispatcher {
	options := outbox.Options()
	d := &dispatcher{
		outbox: outbox, callbacks: callbacks, options: options, logger: logger, metrics: metrics, giveUp: giveUp,
		workers: newHands(options.Workers),
		share:   max(options.Workers/2, 1),
	}
	d.leasing, d.stopLeasing = context.WithCancel(context.Background())
	d.delivering, d.abort = context.WithCancel(context.Background())
	d.settling, d.abandon = context.WithCancel(context.Background())
	return d
}

// start begins to hand over. Stop ends it.
func (d *dispatcher) start() {
	services := d.services()
	for merchant, callback := range d.callbacks {
		for _, kind := range callback.kinds {
			service := services[callback.urlOf(kind)]
			if service == nil {
				continue // what waits from before stays until there is one again
			}
			lane := &lane{
				dispatcher: d, queue: Queue{merchant, kind}, callback: callback, service: service,
				places: make(chan struct{}, leasedAhead*d.share),
				own:    semaphore.NewWeighted(int64(d.share)),
			}
			d.lanes.Go(lane.run)
		}
	}
}

// service is what is known of an order service.
type service struct {
	*circuit
	handed
}

// services returns the order services by their URLs: merchants may share one.
func (d *dispatcher) services() map[string]*service {
	services := make(map[string]*service)
	for _, callback := range d.callbacks {
		for _, kind := range callback.kinds {
			if url := callback.urlOf(kind); url != "" {
				services[url] = &service{circuit: newCircuit(time.Duration(d.options.Retry[1]))}
			}
		}
	}
	d.workers.sole = len(services) == 1
	return services
}

// stop leases nothing more and waits for what is on its way. In the last fifth
// of the grace period that is given back, to be delivered by the next
// dispatcher.
func (d *dispatcher) stop(grace time.Duration) {
	d.stopLeasing()
	defer time.AfterFunc(grace-grace/5, d.abort).Stop()
	defer time.AfterFunc(grace, d.abandon).Stop()
	d.lanes.Wait()
	d.abort()
	d.abandon()
}

// graceFor returns a grace period in which stop cuts off no delivery that takes so
// long.
func graceFor(delivery time.Duration) time.Duration { return delivery*5/4 + time.Second }

// lane hands over the events of one queue.
type lane struct {
	*dispatcher

	queue    Queue
	callback *callback
	service  *service
	places   chan struct{}       // taken by what is leased
	own      *semaphore.Weighted // workers that the queue may have; whose waiters are served in turn
	aged     atomic.Bool         // an event was given up for its age, and there may be more
}

// run leases events as long as there are places for them.
func (l *lane) run() {
	var deliveries sync.WaitGroup
	defer deliveries.Wait()
	var told time.Time // when it was last said that leasing fails; zero: it does not
	for l.leasing.Err() == nil {
		leases, err := l.lease()
		if err != nil {
			if l.leasing.Err() == nil {
				told = l.tell(told, err)
				l.pause(l.leasing, time.Second)
			}
			continue
		}
		told = l.tell(told, nil)
		until := time.Now().Add(l.term())
		for _, lease := range leases {
			deliveries.Go(func() {
				defer func() { <-l.places }()
				l.handOver(lease, until)
			})
		}
	}
}

// tellEvery is how often it is said that leasing still fails.
const tellEvery = time.Minute

// tell says that leasing fails, or does no more, unless that was said lately.
func (l *lane) tell(told time.Time, err error) time.Time {
	if err == nil && told.IsZero() || err != nil && time.Since(told) < tellEvery {
		return told
	}
	logger := l.logger.With(zap.String("merchant", l.queue.Merchant), zap.String("kind", string(l.queue.Kind)))
	if err == nil {
		logger.Info("events are leased again")
		return time.Time{}
	}
	logger.Error("leasing events fails: it is tried again each second", zap.Error(err))
	return time.Now()
}

// pause waits, or until the context ends.
func (*dispatcher) pause(ctx context.Context, wait time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(wait):
	}
}

// term is how long a lease lasts: time to wait for a worker, and to deliver.
func (l *lane) term() time.Duration { return l.callback.timeout + time.Minute }

// lease takes events as there are places, one at least. The places are theirs.
func (l *lane) lease() ([]*Lease, error) {
	select {
	case <-l.leasing.Done():
		return nil, l.leasing.Err()
	case l.places <- struct{}{}:
	}
	taken := 1
	defer func() {
		for range taken {
			<-l.places
		}
	}()
	free := cap(l.places)
	if !l.aged.Load() { // else what is too old is given up while nothing may be sent, too
		var err error
		if free, err = l.service.await(l.leasing, free); err != nil {
			return nil, err
		}
	}
	for taken < free {
		select {
		case l.places <- struct{}{}:
			taken++
			continue
		default:
		}
		break
	}
	leases, err := l.outbox.Lease(l.leasing, l.queue, taken, l.term())
	if err != nil {
		return nil, err
	}
	taken -= len(leases)
	return leases, nil
}

// handOver delivers an event as soon as there is a worker, unless something
// stands against it now, and ends its lease, which lasts until a time.
func (l *lane) handOver(lease *Lease, until time.Time) {
	switch due, tried, err := l.attempt(lease.Event, until); {
	case tried:
		l.settle(lease, until, err)
	case err != nil:
		l.giveUpUntried(lease, until, err)
	default:
		l.giveBack(lease, until, due)
	}
}

// attempt delivers an event, and reports whether that was tried to the end and
// what came of it; else when it is due again, or why it is too late for that. It
// holds a worker meanwhile, and none while that is noted.
func (l *lane) attempt(e *Event, until time.Time) (due time.Time, tried bool, err error) {
	if l.own.Acquire(l.leasing, 1) != nil {
		return time.Now(), false, nil
	}
	defer l.own.Release(1)
	if l.workers.acquire(l.leasing, l.service) != nil {
		return time.Now(), false, nil
	}
	defer l.workers.release(l.service)
	now := time.Now()
	if until.Sub(now) < l.callback.timeout {
		return now, false, nil
	}
	if due, held := l.heldUp(e, now); held {
		return due, false, nil
	}
	ok, probe, retry := l.service.enter(now)
	if !ok {
		if l.tooOld(e, now) {
			return now, false, errAway
		}
		l.aged.Store(false)
		return retry, false, nil
	}
	err = l.callback.deliver(l.delivering, e)
	if err != nil && l.delivering.Err() != nil {
		// Whether it was taken nobody knows: it is delivered again, by others.
		return time.Now(), false, nil
	}
	l.report(err, probe)
	return time.Time{}, true, err
}

// heldUp reports whether another event is to be handed over before this one,
// and when to look again.
func (l *lane) heldUp(e *Event, now time.Time) (due time.Time, held bool) {
	if e.After == "" {
		return time.Time{}, false
	}
	ctx, cancel := context.WithTimeout(l.delivering, settleTimeout)
	defer cancel()
	switch preceding, err := l.outbox.Get(ctx, e.After); {
	case errors.Is(err, ErrNoEvent):
		return time.Time{}, false
	case err != nil:
		l.logger.Error("looking for the event before failed", zap.String("event", e.ID), zap.Error(err))
		return now.Add(precedingWait), true
	case preceding.State != Waiting:
		return time.Time{}, false
	case preceding.Due.After(now):
		return preceding.Due.Add(precedingWait), true
	default:
		return now.Add(precedingWait), true
	}
}

// report tells the circuit what came of a delivery. An order service that
// refuses an event is there, and may take others.
func (l *lane) report(err error, probe bool) {
	var failed *notTaken
	if !errors.As(err, &failed) || failed.refused() {
		l.service.succeed()
		return
	}
	l.service.fail(time.Now(), probe, min(failed.retryAfter, time.Duration(l.options.GiveUp)))
}

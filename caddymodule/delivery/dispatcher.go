// Package delivery hands the events of a store over to the merchants' order
// services: a pool of workers takes them from the queues, posts them to an
// endpoint, and settles what came of it. What an endpoint did not take is tried
// again after growing waits.
package delivery

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/windsome/caddy-wepay/caddymodule/internal/clock"
	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// Config is what a dispatcher works with.
type Config struct {
	Store     store.Store          // which is open
	Endpoints map[string]*Endpoint // by merchants' names
	Policy    Policy
	Clock     *clock.Clock
	Logger    *zap.Logger

	// Attempted is called for each event that was handed over or tried to be:
	// delivered, failed, refused or dead.
	Attempted func(e *store.Event, result string)

	// Dead is called for an event that has been given up.
	Dead func(*store.Event)
}

// Dispatcher hands over what waits in a store: leases events, delivers them, and
// settles what came of it. Each queue goes its own pace.
type Dispatcher struct {
	Config
	pool  *workerPool
	share int // of the workers that one queue may have

	leasing, delivering, settling context.Context
	stopLeasing, abort, abandon   context.CancelFunc
	queues                        sync.WaitGroup
}

// leasedAhead is how many events are leased for each worker: one that is handed
// over, and others that are being settled or wait for it, so that no worker waits
// for the disk.
const leasedAhead = 8

// leasedPart is the part of them that is to be free before others are leased.
const leasedPart = 4

// New returns a dispatcher that does nothing yet.
func New(config Config) *Dispatcher {
	d := &Dispatcher{
		Config: config,
		pool:   newWorkerPool(config.Policy.Workers),
		share:  max(config.Policy.Workers/2, 1),
	}
	d.leasing, d.stopLeasing = context.WithCancel(context.Background())
	d.delivering, d.abort = context.WithCancel(context.Background())
	d.settling, d.abandon = context.WithCancel(context.Background())
	return d
}

// Start begins to hand over. Stop ends it.
func (d *Dispatcher) Start() {
	services := d.services()
	for merchant, endpoint := range d.Endpoints {
		for _, kind := range endpoint.Kinds {
			service := services[endpoint.URLOf(kind)]
			if service == nil {
				continue // what waits from before stays until there is one again
			}
			worker := &queueWorker{
				Dispatcher: d, queue: store.Queue{Merchant: merchant, Kind: kind}, endpoint: endpoint, service: service,
				slots: make(chan struct{}, leasedAhead*d.share),
				own:   semaphore.NewWeighted(int64(d.share)),
			}
			d.queues.Go(worker.run)
		}
	}
}

// service is what is known of an order service.
type service struct {
	*breaker
	poolShare
}

// services returns the order services by their URLs: merchants may share one.
func (d *Dispatcher) services() map[string]*service {
	services := make(map[string]*service)
	for _, endpoint := range d.Endpoints {
		for _, kind := range endpoint.Kinds {
			if url := endpoint.URLOf(kind); url != "" {
				services[url] = &service{breaker: newBreaker(d.Policy.LongestWait)}
			}
		}
	}
	d.pool.sole = len(services) == 1
	return services
}

// Stop leases nothing more and waits for what is on its way. In the last fifth
// of the grace period that is given back, to be delivered by the next
// dispatcher.
func (d *Dispatcher) Stop(grace time.Duration) {
	d.stopLeasing()
	defer time.AfterFunc(grace-grace/5, d.abort).Stop()
	defer time.AfterFunc(grace, d.abandon).Stop()
	d.queues.Wait()
	d.abort()
	d.abandon()
}

// GraceFor returns a grace period in which Stop cuts off no delivery that takes so
// long.
func GraceFor(delivery time.Duration) time.Duration { return delivery*5/4 + time.Second }

// pause waits, or until the context ends.
func pause(ctx context.Context, wait time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(wait):
	}
}

package caddymodule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/admin"
	"github.com/windsome/caddy-wepay/caddymodule/delivery"
	"github.com/windsome/caddy-wepay/caddymodule/internal/clock"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	_ "github.com/windsome/caddy-wepay/caddymodule/store/sqlstore" // the stores that come with the app
	"github.com/windsome/caddy-wepay/wepay"
)

// steady is the process's clock for when events are due and how old they are. It
// goes on through reloads.
var steady = clock.System()

const (
	// openTimeout bounds how long a store may take to open: a million events take
	// a second or two, a server elsewhere that is just starting more.
	openTimeout = 30 * time.Second

	// clocksDiffer is how far the clocks of servers that share a store may differ
	// before an event of one looks to another as due too far ahead.
	clocksDiffer = time.Minute

	// defaultGracePeriod is how long a shutdown waits for deliveries where the
	// config has no grace_period.
	defaultGracePeriod = 5 * time.Second

	// closePeriod is what the store has of a grace_period to close; see
	// store.Store.
	closePeriod = 500 * time.Millisecond
)

// provisionStore loads the store, which is opened when the app starts.
func (a *App) provisionStore(ctx caddy.Context) error {
	if err := errors.Join(a.provisionDelivery(), a.provisionLedger()); err != nil {
		return a.positions.locate(err)
	}
	if a.StoreRaw == nil {
		return nil
	}
	loaded, err := ctx.LoadModule(a, "StoreRaw")
	if err != nil {
		return a.positions.locate(&wepay.FieldError{Field: "store", Reason: "loading", Err: err})
	}
	s, ok := loaded.(store.Store)
	if !ok {
		return a.positions.locate(&wepay.FieldError{Field: "store", Reason: fmt.Sprintf("%T is no store", loaded)})
	}
	events, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("getting the events app: %w", err)
	}
	a.counted = &storeMetrics{store: s, logger: a.logger}
	a.opened = make(chan struct{})
	a.store, a.ledger.Store, a.events = s, s, events.(*caddyevents.App)
	if err := a.events.On("stopping", stopHandler{a}); err != nil {
		return fmt.Errorf("asking to be told when Caddy stops: %w", err)
	}
	return nil
}

// stopHandler begins to stop when Caddy does. Caddy stops its apps one by one, in
// no order, and the sites may take all of the grace period.
type stopHandler struct{ app *App }

// Handle implements [caddyevents.Handler].
func (h stopHandler) Handle(context.Context, caddy.Event) error {
	h.app.stopDelivering()
	return nil
}

// stopDelivering begins to end the handing over, for which Cleanup waits.
func (a *App) stopDelivering() {
	if a.dispatcher == nil || a.stopping != nil {
		return
	}
	grace := a.grace(caddy.Exiting())
	a.stopping = startTask(func(context.Context) {
		if a.asking != nil {
			a.asking.Stop()
		}
		a.dispatcher.Stop(grace)
	})
}

// provisionDelivery reads what only a store has a use for.
func (a *App) provisionDelivery() (err error) {
	for directive, given := range map[string]bool{"deliver": a.Deliver != nil, "keep": a.Keep != 0, "keep_rows": a.KeepRows != 0} {
		if given && a.StoreRaw == nil {
			return &wepay.FieldError{Field: directive, Reason: "needs a store"}
		}
	}
	if a.policy, err = a.Deliver.policy(); err != nil {
		return &wepay.FieldError{Field: "deliver", Reason: err.Error()}
	}
	a.Keep = cmp.Or(a.Keep, caddy.Duration(defaultKeep))
	a.KeepRows = cmp.Or(a.KeepRows, max(caddy.Duration(defaultKeepRows), a.Keep))
	switch {
	case time.Duration(a.Keep) < leastKeep:
		return &wepay.FieldError{Field: "keep", Reason: "must be at least 25h: WeChat repeats a notification for 24 hours"}
	case a.KeepRows < a.Keep:
		return &wepay.FieldError{Field: "keep_rows", Reason: "must not be less than keep"}
	}
	return nil
}

// Store returns the store of the config; nil: it has none.
func (a *App) Store() store.Store { return a.store }

func (a *App) startStore() error {
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	options := store.Options{
		LongestWait: a.policy.LongestWait + clocksDiffer, LongestOrderWait: a.ledger.Schedule.LongestWait() + clocksDiffer,
		Keep: time.Duration(a.Keep), KeepRows: time.Duration(a.KeepRows), Now: steady.Now,
	}
	if err := a.store.Open(ctx, options); err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	a.asking = a.newRecovery()
	a.reconciler = a.newReconciler()
	close(a.opened)
	if err := a.findGracePeriod(); err != nil {
		return err
	}
	steady.OnStep(a.warnOfStep)
	a.reporting = startTask(a.reportEvents)
	a.dispatcher = delivery.New(delivery.Config{
		Store: a.store, Endpoints: a.orderServices(), Policy: a.policy, Clock: steady, Logger: a.logger,
		Attempted: a.metrics.attempted, Dead: a.emitDead,
	})
	a.dispatcher.Start()
	if a.ledger.Schedule != nil || a.reconciler != nil {
		a.asking.Start()
	}
	return nil
}

// orderServices returns where events go, by merchants' names.
func (a *App) orderServices() map[string]*delivery.Endpoint {
	endpoints := make(map[string]*delivery.Endpoint, len(a.accounts))
	for merchant, account := range a.accounts {
		endpoints[merchant.Name] = account.endpoint
	}
	return endpoints
}

// warnOfStep says that the system's clock was set, and what follows.
func (a *App) warnOfStep(step, ahead time.Duration) {
	direction := "forward"
	if step < 0 {
		direction = "back"
	}
	a.logger.Warn("the system clock was set: when events are due and how old they are follows it slowly, and nothing is given up for it",
		zap.String("direction", direction), zap.Duration("by", step.Abs()), zap.Duration("still_ahead", ahead))
}

// findGracePeriod asks the HTTP app, which is set up by now, how long a
// shutdown may take.
func (a *App) findGracePeriod() error {
	app, err := a.ctx.AppIfConfigured("http")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("getting the http app: %w", err)
	}
	a.gracePeriod = time.Duration(app.(*caddyhttp.App).GracePeriod)
	return nil
}

// grace is how long to wait for deliveries. A reload is in no hurry: it waits, as
// it does for requests, until each has been taken or has failed, since who gives
// up on one that is under way has it delivered once more.
func (a *App) grace(exiting bool) time.Duration {
	switch {
	case a.gracePeriod > 0:
		return a.gracePeriod - min(closePeriod, a.gracePeriod/4)
	case exiting:
		return defaultGracePeriod
	default:
		return delivery.GraceFor(time.Duration(a.CallbackTimeout))
	}
}

// reportEvents alerts the operator: events that were given up or quarantined,
// and events that wait and are not handed over, since their merchant is gone or
// has no URL for them.
func (a *App) reportEvents(ctx context.Context) {
	counts, err := a.store.Count(ctx)
	if err != nil {
		if ctx.Err() == nil {
			a.logger.Error("counting the store's events failed", zap.Error(err))
		}
		return
	}
	endpoints := a.orderServices()
	for _, count := range counts {
		logger := a.logger.With(zap.String("merchant", count.Merchant), zap.Int("events", count.Events))
		switch count.State {
		case store.Waiting:
			reportWaiting(logger, endpoints[count.Merchant])
		case store.Dead:
			logger.Warn("events were given up: see `caddy wepay events list --state dead`")
		case store.Quarantined:
			logger.Warn("events contradict what is known of their orders, and are not handed over: see `caddy wepay events list --state quarantined`")
		}
	}
}

// reportWaiting logs that events of a merchant wait, and if they wait in vain.
func reportWaiting(logger *zap.Logger, endpoint *delivery.Endpoint) {
	if endpoint == nil {
		logger.Error("events wait for a merchant that is not configured: they are handed over when there is one of that name")
		return
	}
	var without []string
	for _, kind := range endpoint.Kinds {
		if endpoint.URLOf(kind) == "" {
			without = append(without, string(kind))
		}
	}
	// Most merchants have no cb_event_url, and never such an event.
	usual := slices.DeleteFunc(slices.Clone(without), func(kind string) bool { return kind == string(wepay.OtherEvent) })
	switch {
	case len(usual) == 0:
		logger.Info("events are waiting")
	case len(without) == len(endpoint.Kinds):
		logger.Error("events wait for a merchant without cb_notify_url: they are handed over when it has one")
	default:
		logger.Error("events wait for a merchant without cb_notify_url: those of these kinds, if there are any, are handed over when it has one",
			zap.Strings("kinds", without))
	}
}

// inStore runs something that needs the store, on the app whose store is open. Caddy
// starts its apps in no order, so that sites may serve before the store is open: it
// will be in a moment. A request that a reload overtakes works with the config that is
// live by then.
func (a *App) inStore(ctx context.Context, run func(live *App) error) error {
	select {
	case <-a.opened:
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", store.ErrClosed, context.Cause(ctx))
	}
	err := run(a)
	if !errors.Is(err, store.ErrClosed) {
		return err
	}
	live, liveErr := liveApp()
	if liveErr != nil || live == a || live.store == nil {
		return err
	}
	return run(live)
}

// Interface guard
var _ admin.App = (*App)(nil)

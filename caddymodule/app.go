// Package caddymodule ends WeChat Pay (微信支付) inside a Caddy web server: the
// app "wepay" holds the merchants, the handler "http.handlers.wepay" offers
// their operations to the site's own services and takes WeChat's
// notifications. Package wepay has what is WeChat's; here is what is Caddy's.
package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/internal/sampler"
	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

func init() {
	caddy.RegisterModule(&App{})
}

// App holds the merchants of WeChat Pay that the sites of this server serve,
// each with connections, keys and certificate of its own.
type App struct {
	// The merchants, in the order in which they are tried when a request does
	// not say which one it means.
	Merchants []*MerchantConfig `json:"merchants,omitempty"`

	// A JSON file of further merchants, one object or an array of them, with the
	// keys `name`, `env`, `type`, `appId`, `mchId`, `subAppId`, `subMchId`,
	// `notifyUrl`, `partnerKey`, `pfx`, `passphrase` and `cbNotifyUrl`. Keys that
	// begin with `_` are comments; `pfx` is looked for beside the file.
	ConfigFile string `json:"config_file,omitempty"`

	// WeChat Pay's access points, the first and those to fail over to. Default:
	// `https://api.mch.weixin.qq.com` and `https://api2.mch.weixin.qq.com`.
	Endpoint oneOrMore `json:"endpoint,omitempty"`

	// The server that gives the public key of bank payouts. Default:
	// `https://fraud.mch.weixin.qq.com`.
	RiskEndpoint string `json:"risk_endpoint,omitempty"`

	// The server that exchanges login codes for openids. Default:
	// `https://api.weixin.qq.com`.
	LoginEndpoint string `json:"login_endpoint,omitempty"`

	// How long one access point may take to answer. Default: 8s.
	CallTimeout caddy.Duration `json:"call_timeout,omitempty"`

	// How long the order service may take over a notification. Without an outbox
	// WeChat waits for that, and for no more than 5 seconds. Default: 4s, with an
	// outbox 15s.
	CallbackTimeout caddy.Duration `json:"callback_timeout,omitempty"`

	// How connections to WeChat Pay are made: the reverse proxy's
	// [HTTP transport](/docs/json/apps/http/servers/routes/handle/reverse_proxy/transport/http/).
	// Each merchant gets one of its own, with its certificate. Default: HTTP/1.1
	// with idle connections kept for 50s.
	TransportRaw json.RawMessage `json:"transport,omitempty" caddy:"namespace=http.reverse_proxy.transport inline_key=protocol"`

	// How connections to the order services are made: the reverse proxy's HTTP
	// transport.
	CallbackTransportRaw json.RawMessage `json:"callback_transport,omitempty" caddy:"namespace=http.reverse_proxy.transport inline_key=protocol"`

	// Where notifications are kept from the moment WeChat hears SUCCESS until
	// the order service has taken them. Default: nowhere; then WeChat hears
	// SUCCESS once the order service has taken them.
	OutboxRaw json.RawMessage `json:"outbox,omitempty" caddy:"namespace=wepay.outbox inline_key=store"`

	// Where the Caddyfile says each directive, for errors.
	Source source `json:"source,omitempty"`

	logger    *zap.Logger
	metrics   *metrics
	merchants *wepay.Merchants
	accounts  map[*wepay.Merchant]*account
	platforms *platforms
	login     *wepay.Login

	outbox     Outbox // nil without one
	counted    *outboxMetrics
	opened     chan struct{} // closed once the outbox is open
	dispatcher *dispatcher
	keeper     *keeper // nil where no merchant has API v3
	refused    sampler.Sampler

	ctx         caddy.Context
	events      *caddyevents.App
	gracePeriod time.Duration // of the HTTP app; 0: none is configured
}

// The time limits' defaults; see App.
const (
	defaultCallTimeout     = apiv2.DefaultTimeout
	defaultCallbackTimeout = 4 * time.Second

	// defaultDeliveryTimeout is the one of callbacks that WeChat does not wait
	// for.
	defaultDeliveryTimeout = 15 * time.Second
)

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "wepay",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision sets up the merchants. Nothing that another process or another
// config could hold is opened here.
func (a *App) Provision(ctx caddy.Context) error {
	a.logger = ctx.Logger()
	if a.CallTimeout == 0 {
		a.CallTimeout = caddy.Duration(defaultCallTimeout)
	}
	if err := a.provisionOutbox(ctx); err != nil {
		return err
	}
	if a.CallbackTimeout == 0 {
		a.CallbackTimeout = caddy.Duration(defaultCallbackTimeout)
		if a.outbox != nil {
			a.CallbackTimeout = caddy.Duration(defaultDeliveryTimeout)
		}
	}
	a.refused.Counted = func(more map[string]int) {
		a.logger.Warn("more was refused in the last minute", zap.Any("refused", more))
	}
	a.metrics = newMetrics()
	if err := registerMetrics(ctx); err != nil {
		return err
	}
	if a.CallTimeout < 0 || a.CallbackTimeout < 0 {
		return errors.New("call_timeout and callback_timeout must be above 0")
	}
	configs := a.Merchants
	if a.ConfigFile != "" {
		fromFile, err := readConfigFile(a.ConfigFile)
		if err != nil {
			return a.Source.locate(err)
		}
		configs = append(configs[:len(configs):len(configs)], fromFile...)
	}
	return a.provisionMerchants(ctx, configs)
}

// provisionOutbox loads the outbox, which is opened when the app starts.
func (a *App) provisionOutbox(ctx caddy.Context) error {
	if a.OutboxRaw == nil {
		return nil
	}
	loaded, err := ctx.LoadModule(a, "OutboxRaw")
	if err != nil {
		return a.Source.locate(&wepay.FieldError{Field: "outbox", Reason: "loading", Err: err})
	}
	outbox, ok := loaded.(Outbox)
	if !ok {
		return a.Source.locate(&wepay.FieldError{Field: "outbox", Reason: fmt.Sprintf("%T is no store", loaded)})
	}
	events, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("getting the events app: %w", err)
	}
	a.counted = &outboxMetrics{outbox: outbox, logger: a.logger}
	a.opened = make(chan struct{})
	a.outbox, a.events, a.ctx = outbox, events.(*caddyevents.App), ctx
	return nil
}

// Start opens the outbox and hands over what waits in it, and begins to keep
// platform certificates fresh.
func (a *App) Start() error {
	if a.outbox != nil {
		if err := a.startOutbox(); err != nil {
			return err
		}
	}
	if len(a.platforms.all) > 0 {
		a.keeper = startKeeper(a.platforms, a.logger, a.metrics)
	}
	return nil
}

func (a *App) startOutbox() error {
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	if err := a.outbox.Open(ctx); err != nil {
		return fmt.Errorf("opening the outbox: %w", err)
	}
	close(a.opened)
	if err := a.findGracePeriod(); err != nil {
		return err
	}
	a.reportOutbox(ctx)
	a.dispatcher = newDispatcher(a.outbox, a.callbacks(), a.logger, a.metrics, a.emitDead)
	a.dispatcher.start()
	return nil
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

// defaultGracePeriod is how long a shutdown waits for deliveries where the config
// has no grace_period.
const defaultGracePeriod = 5 * time.Second

// closePeriod is what the outbox has of a grace_period to close; see Outbox.
const closePeriod = 500 * time.Millisecond

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
		return graceFor(time.Duration(a.CallbackTimeout))
	}
}

// reportOutbox logs what somebody should know of: events that were given up,
// and events that wait and are not handed over, since their merchant is gone or
// has no URL for them.
func (a *App) reportOutbox(ctx context.Context) {
	counts, err := a.outbox.Count(ctx)
	if err != nil {
		a.logger.Error("counting the outbox's events failed", zap.Error(err))
		return
	}
	callbacks := a.callbacks()
	for _, count := range counts {
		logger := a.logger.With(zap.String("merchant", count.Merchant), zap.Int("events", count.Events))
		switch count.State {
		case Waiting:
			reportWaiting(logger, callbacks[count.Merchant])
		case Dead:
			logger.Warn("events were given up: see `caddy wepay outbox list --state dead`")
		}
	}
}

// reportWaiting logs that events of a merchant wait, and if they wait in vain.
func reportWaiting(logger *zap.Logger, merchant *callback) {
	if merchant == nil {
		logger.Error("events wait for a merchant that is not configured: they are handed over when there is one of that name")
		return
	}
	var without []string
	for _, kind := range merchant.kinds {
		if merchant.urlOf(kind) == "" {
			without = append(without, string(kind))
		}
	}
	switch len(without) {
	case 0:
		logger.Info("events are waiting")
	case len(merchant.kinds):
		logger.Error("events wait for a merchant without cb_notify_url: they are handed over when it has one")
	default:
		logger.Error("events wait for a merchant without cb_notify_url: those of these kinds, if there are any, are handed over when it has one",
			zap.Strings("kinds", without))
	}
}

// emitDead tells the events app, where scripts and alarms are, of an event that
// was given up.
func (a *App) emitDead(e *Event) {
	a.events.Emit(a.ctx, "event_dead", map[string]any{
		"merchant": e.Merchant, "event": e.ID, "kind": string(e.Kind), "attempts": e.Attempts, "reason": e.Reason,
	})
}

// openTimeout bounds how long a store may take to open: a million events take a
// second or two, a server elsewhere that is just starting more.
const openTimeout = 30 * time.Second

// callbacks returns the order services of all merchants, by their names.
func (a *App) callbacks() map[string]*callback {
	callbacks := make(map[string]*callback, len(a.accounts))
	for merchant, account := range a.accounts {
		callbacks[merchant.Name] = account.callback
	}
	return callbacks
}

// Stop ends the handing over, and the keeping of certificates. The outbox stays
// open for requests that are still being answered.
func (a *App) Stop() error {
	if a.keeper != nil {
		a.keeper.stop()
	}
	if a.dispatcher != nil {
		a.dispatcher.stop(a.grace(caddy.Exiting()))
	}
	a.refused.Flush()
	return nil
}

// Cleanup ends the fetching of certificates, and closes the outbox, if this app
// has opened it.
func (a *App) Cleanup() error {
	if a.platforms != nil {
		a.platforms.close()
	}
	if a.outbox == nil {
		return nil
	}
	if err := a.outbox.Close(); err != nil {
		return fmt.Errorf("closing the outbox: %w", err)
	}
	return nil
}

// site returns the merchants that a site serves, by their names; all of them
// without names.
func (a *App) site(names []string) (*wepay.Merchants, error) {
	if len(a.merchants.All()) == 0 {
		return nil, errors.New("no merchant is configured: the global option wepay needs a merchant block or a config_file")
	}
	if len(names) == 0 {
		return a.merchants, nil
	}
	var chosen []*wepay.Merchant
	for _, name := range names {
		merchant := a.merchants.Named(name)
		if merchant == nil {
			return nil, &wepay.FieldError{Field: "merchants", Reason: fmt.Sprintf("there is no merchant %q", name)}
		}
		if slices.Contains(chosen, merchant) {
			return nil, &wepay.FieldError{Field: "merchants", Reason: fmt.Sprintf("names %q twice", name)}
		}
		chosen = append(chosen, merchant)
	}
	return wepay.NewMerchants(chosen...)
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)

// Package caddymodule handles WeChat Pay (微信支付) inside a Caddy web server: the
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
	strictjson "github.com/go-json-experiment/json"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/admin"
	"github.com/windsome/caddy-wepay/caddymodule/delivery"
	"github.com/windsome/caddy-wepay/caddymodule/internal/sampler"
	"github.com/windsome/caddy-wepay/caddymodule/recovery"
	"github.com/windsome/caddy-wepay/caddymodule/recovery/reconcile"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
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

	// How long the order service may take over a notification. Without a store
	// WeChat waits for that, and for no more than 5 seconds. Default: 4s, with a
	// store 15s.
	CallbackTimeout caddy.Duration `json:"callback_timeout,omitempty"`

	// How connections to WeChat Pay are made: the reverse proxy's
	// [HTTP transport](/docs/json/apps/http/servers/routes/handle/reverse_proxy/transport/http/).
	// Each merchant gets one of its own, with its certificate. Default: HTTP/1.1
	// with idle connections kept for 50s.
	TransportRaw json.RawMessage `json:"transport,omitempty" caddy:"namespace=http.reverse_proxy.transport inline_key=protocol"`

	// How connections to the order services are made: the reverse proxy's HTTP
	// transport.
	CallbackTransportRaw json.RawMessage `json:"callback_transport,omitempty" caddy:"namespace=http.reverse_proxy.transport inline_key=protocol"`

	// Where notifications are stored from before WeChat hears SUCCESS until
	// the order service has taken them, and for a while after. Default: nowhere;
	// then WeChat hears SUCCESS once the order service has taken them.
	StoreRaw json.RawMessage `json:"store,omitempty" caddy:"namespace=wepay.store inline_key=engine"`

	// How what is in the store is handed over.
	Deliver *Deliver `json:"deliver,omitempty"`

	// How long the store keeps what has ended whole; after that its payload goes.
	// At least 25h: WeChat repeats a notification for 24 hours. Default: 7d.
	Keep caddy.Duration `json:"keep,omitempty"`

	// How long the store keeps the rest of it. Default: 400d.
	KeepRows caddy.Duration `json:"keep_rows,omitempty"`

	// How WeChat is asked about orders that nothing is heard of, with a store: an
	// order that is found paid is handed over as if WeChat had notified. Default: it
	// is asked by WeChat's advice.
	Recover *Recover `json:"recover,omitempty"`

	positions positions
	logger    *zap.Logger
	metrics   *metrics
	merchants *wepay.Merchants
	accounts  map[*wepay.Merchant]*account
	handlers  []*Handler // of the sites
	keyRings  *keyRings
	login     *wepay.Login

	policy     delivery.Policy
	store      store.Store // nil without one
	counted    *storeMetrics
	opened     chan struct{} // closed once the store is open
	dispatcher *delivery.Dispatcher
	stopping   *task // ends the dispatcher and the recovery
	ledger     *recovery.Ledger
	asking     *recovery.Recovery // nil: the store is not open yet
	reporting  *task
	reconciled []*wepay.Merchant     // those whose bills are reconciled
	reconciler *reconcile.Reconciler // nil: there are none
	refresher  *refresher            // nil where no merchant has API v3
	refused    sampler.Sampler
	strays     strays

	ctx         caddy.Context
	events      *caddyevents.App
	gracePeriod time.Duration // of the HTTP app; 0: none is configured
}

// The time limits' defaults; see App.
const (
	defaultCallTimeout     = wepay.DefaultTimeout
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
	a.ctx, a.logger = ctx, ctx.Logger()
	a.positions = positionsOf(a)
	for _, merchant := range a.Merchants {
		merchant.positions = positionsOf(merchant)
	}
	if a.CallTimeout == 0 {
		a.CallTimeout = caddy.Duration(defaultCallTimeout)
	}
	if err := a.provisionStore(ctx); err != nil {
		return err
	}
	if a.CallbackTimeout == 0 {
		a.CallbackTimeout = caddy.Duration(defaultCallbackTimeout)
		if a.store != nil {
			a.CallbackTimeout = caddy.Duration(defaultDeliveryTimeout)
		}
	}
	a.refused.Counted = func(more map[string]int) {
		a.logger.Warn("more was refused in the last minute", zap.Any("refused", more))
	}
	a.metrics = newMetrics()
	if err := admin.RegisterMetrics(ctx); err != nil {
		return err
	}
	if a.CallTimeout < 0 || a.CallbackTimeout < 0 {
		return errors.New("call_timeout and callback_timeout must be above 0")
	}
	if a.store == nil && time.Duration(a.CallbackTimeout) >= weChatPatience {
		a.doubtful("callback_timeout", fmt.Sprintf("WeChat waits %s for an answer, and without a store for the order service's: make it shorter, or add a store", weChatPatience))
	}
	configs := a.Merchants
	if a.ConfigFile != "" {
		fromFile, err := readConfigFile(a.ConfigFile)
		if err != nil {
			return a.positions.locate(err)
		}
		configs = append(configs[:len(configs):len(configs)], fromFile...)
	}
	return a.provisionMerchants(ctx, configs)
}

// liveApp returns the app of the config that is live.
func liveApp() (*App, error) {
	live, err := admin.Live()
	if err != nil {
		return nil, err
	}
	return live.(*App), nil
}

// UnmarshalJSON reads the app as MerchantConfig.UnmarshalJSON does a merchant.
func (a *App) UnmarshalJSON(text []byte) error {
	type plain App
	return strictjson.Unmarshal(text, (*plain)(a), strictConfig)
}

// Start opens the store and hands over what waits in it, and begins to keep
// platform certificates fresh.
func (a *App) Start() error {
	a.doubtRoutes()
	if a.store != nil {
		if err := a.startStore(); err != nil {
			return err
		}
	}
	if len(a.keyRings.all) > 0 {
		a.refresher = startRefresher(a.keyRings, a.logger, a.metrics)
	}
	return nil
}

// Stop begins to end the handing over, within the grace period that the sites
// have at the same time, and ends the fetching of certificates. The store stays
// open for requests that are still being answered.
func (a *App) Stop() error {
	if a.refresher != nil {
		a.refresher.stop()
	}
	if a.reporting != nil {
		a.reporting.stop()
	}
	a.stopDelivering()
	a.refused.Flush()
	return nil
}

// validated is why Caddy cleans up a config that `caddy validate` has found valid,
// and never started.
const validated = "validation complete"

// Cleanup waits for the end of the handing over, and closes the store, if this
// app has opened it.
func (a *App) Cleanup() error {
	if cause := context.Cause(a.ctx); cause != nil && cause.Error() == validated {
		a.doubtRoutes()
	}
	if a.keyRings != nil {
		a.keyRings.close()
	}
	if a.stopping != nil {
		a.stopping.stop()
	}
	if a.store == nil {
		return nil
	}
	if err := a.store.Close(); err != nil {
		return fmt.Errorf("closing the store: %w", err)
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

// Package caddymodule ends WeChat Pay (微信支付) inside a Caddy web server: the
// app "wepay" holds the merchants, the handler "http.handlers.wepay" offers
// their operations to the site's own services and takes WeChat's
// notifications. Package wepay has what is WeChat's; here is what is Caddy's.
package caddymodule

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

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

	// How long a notification may take in all, until the order service has taken
	// it. WeChat waits 5 seconds. Default: 4s.
	CallbackTimeout caddy.Duration `json:"callback_timeout,omitempty"`

	// How connections to WeChat Pay are made: the reverse proxy's
	// [HTTP transport](/docs/json/apps/http/servers/routes/handle/reverse_proxy/transport/http/).
	// Each merchant gets one of its own, with its certificate. Default: HTTP/1.1
	// with idle connections kept for 50s.
	TransportRaw json.RawMessage `json:"transport,omitempty" caddy:"namespace=http.reverse_proxy.transport inline_key=protocol"`

	// How connections to the order services are made: the reverse proxy's HTTP
	// transport.
	CallbackTransportRaw json.RawMessage `json:"callback_transport,omitempty" caddy:"namespace=http.reverse_proxy.transport inline_key=protocol"`

	// Where the Caddyfile says each directive, for errors.
	Source source `json:"source,omitempty"`

	logger    *zap.Logger
	metrics   *metrics
	merchants *wepay.Merchants
	accounts  map[*wepay.Merchant]*account
	login     *wepay.Login
}

// account is a merchant at work: its way to WeChat Pay and to its order
// service.
type account struct {
	client   *apiv2.Client
	callback *callback
}

// The time limits' defaults; see App.
const (
	defaultCallTimeout     = apiv2.DefaultTimeout
	defaultCallbackTimeout = 4 * time.Second
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
	if a.CallbackTimeout == 0 {
		a.CallbackTimeout = caddy.Duration(defaultCallbackTimeout)
	}
	var err error
	if a.metrics, err = newMetrics(ctx.GetMetricsRegistry()); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
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

func (a *App) provisionMerchants(ctx caddy.Context, configs []*MerchantConfig) error {
	endpoints, err := replaceAll(caddy.NewReplacer(), "endpoint", a.Endpoint)
	if err != nil {
		return a.Source.locate(err)
	}
	for _, endpoint := range endpoints {
		if err := wepay.MerchantRules.CheckValue("endpoint", endpoint); err != nil {
			return a.Source.locate(err)
		}
	}
	if len(endpoints) == 0 {
		endpoints = wepay.DefaultEndpoints
	}
	risk, err := a.server("risk_endpoint", a.RiskEndpoint, apiv2.DefaultRiskEndpoint)
	if err != nil {
		return err
	}
	if err := a.provisionLogin(ctx); err != nil {
		return err
	}
	callbacks, err := loadTransport(ctx, a.CallbackTransportRaw)
	if err != nil {
		return a.Source.locate(&wepay.FieldError{Field: "callback_transport", Reason: "loading", Err: err})
	}
	a.accounts = make(map[*wepay.Merchant]*account, len(configs))
	var all []*wepay.Merchant
	now := time.Now()
	for _, config := range configs {
		merchant, secrets, err := config.load(endpoints, now)
		if err != nil {
			return config.Source.locate(&wepay.MerchantError{Merchant: config.Name, Err: err})
		}
		for _, warning := range merchant.Warnings(now) {
			a.logger.Warn("merchant is doubtful", zap.String("merchant", merchant.Name), zap.String("reason", warning))
		}
		transport, err := loadMerchantTransport(ctx, a.TransportRaw, merchant)
		if err != nil {
			return a.Source.locate(&wepay.FieldError{Field: "transport", Reason: "loading", Err: err})
		}
		a.accounts[merchant] = &account{
			client: apiv2.NewClient(merchant,
				apiv2.WithTransport(transport),
				apiv2.WithTimeout(time.Duration(a.CallTimeout)),
				apiv2.WithRiskEndpoint(risk),
			),
			callback: &callback{
				url:       merchant.CallbackURL(wepay.Payment),
				refundURL: merchant.CallbackURL(wepay.Refunded),
				secrets:   secrets,
				transport: callbacks,
				timeout:   time.Duration(a.CallbackTimeout),
			},
		}
		a.metrics.certificate(merchant)
		all = append(all, merchant)
	}
	if a.merchants, err = wepay.NewMerchants(all...); err != nil {
		return locateConflict(configs, err)
	}
	return nil
}

// server resolves the URL of one of WeChat's other servers.
func (a *App) server(directive, given, standard string) (string, error) {
	url, err := replace(caddy.NewReplacer(), directive, cmp.Or(given, standard))
	if err == nil {
		if invalid := wepay.NotifyURL(url); invalid != nil {
			err = &wepay.FieldError{Field: directive, Reason: invalid.Error()}
		}
	}
	if err != nil {
		return "", a.Source.locate(err)
	}
	return url, nil
}

// provisionLogin sets up the way to the login server, which wants no
// certificate and serves all merchants.
func (a *App) provisionLogin(ctx caddy.Context) error {
	endpoint, err := a.server("login_endpoint", a.LoginEndpoint, wepay.DefaultLoginEndpoint)
	if err != nil {
		return err
	}
	transport, err := loadTransport(ctx, a.TransportRaw)
	if err != nil {
		return a.Source.locate(&wepay.FieldError{Field: "transport", Reason: "loading", Err: err})
	}
	a.login = &wepay.Login{Endpoint: endpoint, Transport: transport, Timeout: time.Duration(a.CallTimeout)}
	return nil
}

// locateConflict names the place of the merchant that does not go with an
// earlier one.
func locateConflict(configs []*MerchantConfig, err error) error {
	var conflict *wepay.MerchantError
	if errors.As(err, &conflict) {
		for _, config := range slices.Backward(configs) {
			if config.Name == conflict.Merchant {
				return config.Source.locate(err)
			}
		}
	}
	return err
}

// Start does nothing: what the app holds is ready when it is provisioned.
func (a *App) Start() error { return nil }

// Stop does nothing: connections end with the config's context.
func (a *App) Stop() error { return nil }

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
	_ caddy.App         = (*App)(nil)
	_ caddy.Provisioner = (*App)(nil)
)

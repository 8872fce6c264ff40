package caddymodule

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
)

// provisionMerchants puts the merchants of these configs to work.
func (a *App) provisionMerchants(ctx caddy.Context, configs []*MerchantConfig) error {
	endpoints, err := a.endpoints()
	if err != nil {
		return err
	}
	if err := a.provisionLogin(ctx); err != nil {
		return err
	}
	shared, err := a.share(ctx)
	if err != nil {
		return err
	}
	a.accounts = make(map[*wepay.Merchant]*account, len(configs))
	var all []*wepay.Merchant
	now := time.Now()
	for _, config := range configs {
		merchant, secrets, err := config.load(endpoints, now)
		if err != nil {
			return config.positions.locate(&wepay.MerchantError{Merchant: config.Name, Err: err})
		}
		if err := a.provisionBooks(config, merchant); err != nil {
			return config.positions.locate(&wepay.MerchantError{Merchant: config.Name, Err: err})
		}
		for _, warning := range merchant.Warnings(now) {
			a.doubt(merchant, warning)
		}
		account, err := a.newAccount(merchant, shared)
		if err != nil {
			return err
		}
		account.endpoint.Secrets = secrets
		a.doubtEndpoints(account)
		a.accounts[merchant] = account
		a.metrics.certificate(merchant)
		all = append(all, merchant)
	}
	if a.merchants, err = wepay.NewMerchants(all...); err != nil {
		return locateConflict(configs, err)
	}
	a.warnOfRefunds()
	a.warnOfEvents()
	a.keyRings = shared.keyRings
	a.keyRings.KeyRings = apiv3.NewKeyRings(a.keyRings.all...)
	return nil
}

// endpoints are those of merchants that have none of their own.
func (a *App) endpoints() ([]string, error) {
	endpoints, err := replaceAll(caddy.NewReplacer(), "endpoint", a.Endpoint)
	if err != nil {
		return nil, a.positions.locate(err)
	}
	for _, endpoint := range endpoints {
		if err := wepay.MerchantRules.CheckValue("endpoint", endpoint); err != nil {
			return nil, a.positions.locate(err)
		}
	}
	if len(endpoints) == 0 {
		endpoints = wepay.DefaultEndpoints
	}
	return endpoints, nil
}

// share sets up what the accounts have in common.
func (a *App) share(ctx caddy.Context) (shared, error) {
	s := shared{ctx: ctx, keyRings: newKeyRings(&certificateStore{ctx.Storage(), a.logger})}
	var err error
	if s.risk, err = a.server("risk_endpoint", a.RiskEndpoint, apiv2.DefaultRiskEndpoint); err != nil {
		return s, err
	}
	if s.callbacks, err = loadTransport(ctx, a.CallbackTransportRaw); err != nil {
		return s, a.positions.locate(&wepay.FieldError{Field: "callback_transport", Reason: "loading", Err: err})
	}
	a.doubtTransport("callback_transport", s.callbacks)
	return s, nil
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
		return "", a.positions.locate(err)
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
		return a.positions.locate(&wepay.FieldError{Field: "transport", Reason: "loading", Err: err})
	}
	a.doubtTransport("transport", transport)
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
				return config.positions.locate(err)
			}
		}
	}
	return err
}

package caddymodule

import (
	"fmt"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/delivery"
	"github.com/windsome/caddy-wepay/caddymodule/recovery"
	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
)

// account is a merchant at work: its ways to WeChat Pay and to its order
// service.
type account struct {
	merchant *wepay.Merchant
	v2       *apiv2.Client  // nil without partner_key
	v3       *apiv3.Client  // nil without what API v3's calls need
	keyRing  *apiv3.KeyRing // what WeChat is known by over API v3; nil: by nothing
	endpoint *delivery.Endpoint
}

// newAccount puts a merchant to work. Entries of one account at WeChat share
// what it knows WeChat by.
func (a *App) newAccount(merchant *wepay.Merchant, s shared) (*account, error) {
	transport, err := loadMerchantTransport(s.ctx, a.TransportRaw, merchant)
	if err != nil {
		return nil, a.positions.locate(&wepay.FieldError{Field: "transport", Reason: "loading", Err: err})
	}
	quoter := merchant.Quoter()
	account := &account{merchant: merchant, endpoint: &delivery.Endpoint{
		URL:       merchant.CallbackURL(wepay.Payment),
		RefundURL: merchant.CallbackURL(wepay.Refunded),
		EventURL:  merchant.CallbackURL(wepay.OtherEvent),
		Kinds:     merchant.Kinds(),
		Quoter:    *quoter,
		Transport: orderTransport{s.callbacks, quoter},
		Timeout:   time.Duration(a.CallbackTimeout),
	}}
	options := wepay.ClientOptions{
		Transport: transport, Timeout: time.Duration(a.CallTimeout), RiskEndpoint: s.risk,
		Omitted: a.warnOfOmission, Unusable: a.warnOfUnusable,
	}
	if merchant.Uses(wepay.V2) {
		account.v2 = apiv2.NewClient(merchant, a.recorded(options, wepay.V2))
	}
	account.keyRing = s.keyRings.of(merchant, options)
	switch {
	case account.keyRing != nil && merchant.RequireV3() == nil:
		account.v3 = apiv3.NewClient(merchant, account.keyRing, a.recorded(options, wepay.V3))
	case account.keyRing == nil && merchant.Uses(wepay.V3):
		a.doubt(merchant, "apiv3_key stands without public_key, and without private_key and mch_serial (or pfx, or cert): notifications of API v3 cannot be verified")
	}
	return account, nil
}

// recorded are the options of a client whose calls are recorded, where there is a
// store.
func (a *App) recorded(options wepay.ClientOptions, api wepay.API) wepay.ClientOptions {
	if a.store != nil {
		options.Sending = a.record(api)
	}
	return options
}

// shared is what the accounts of an app have in common.
type shared struct {
	ctx       caddy.Context
	risk      string // where bank payouts' public key comes from
	callbacks *transport
	keyRings  *keyRings
}

// api says which API carries an operation: the merchant's own, unless only the
// other one has it.
func (a *account) api(op wepay.Operation) wepay.API {
	switch {
	case a.merchant.API == wepay.V3 && apiv3.Has(op), apiv3.Has(op) && !apiv2.Has(op):
		return wepay.V3
	default:
		return wepay.V2
	}
}

// gateway returns what carries an operation. The error is client's.
func (a *account) gateway(op wepay.Operation) (wepay.Gateway, error) { return a.client(a.api(op)) }

// client returns the client of an API. The error wraps wepay.ErrNotAble and names what
// the merchant lacks for that.
func (a *account) client(api wepay.API) (recovery.Client, error) {
	switch {
	case api == wepay.V3 && a.v3 == nil:
		return nil, a.merchant.RequireV3()
	case api == wepay.V3:
		return a.v3, nil
	case a.v2 == nil:
		return nil, a.merchant.NotAble("partner_key")
	default:
		return a.v2, nil
	}
}

// warnOfOmission says what a caller misses of what WeChat told.
func (a *App) warnOfOmission(o wepay.Omission) {
	a.logger.Warn("reply taken", zap.String("merchant", o.Merchant.Name), zap.String("operation", string(o.Operation)),
		zap.String("number", o.Number), zap.String("omitted", o.Omitted))
}

// warnOfUnusable says which platform certificate is left out.
func (a *App) warnOfUnusable(merchant *wepay.Merchant, err error) {
	a.logger.Warn("platform certificate left out", zap.String("merchant", merchant.Name), zap.Error(err))
}

// warnOfRefunds says which merchants the notification of a refund cannot tell
// apart: over API v3 it does not say its appid.
func (a *App) warnOfRefunds() {
	byMchID := make(map[string][]*wepay.Merchant)
	for _, m := range a.merchants.All() {
		for _, other := range byMchID[m.MchID] {
			if difference := refundsDiffer(m, other); difference != "" {
				a.doubt(m, fmt.Sprintf(
					"API v3 does not say the appid of a refund, so that its notification cannot be told from one of merchant %q, %s: have the two sent to pay_notify/%s and pay_notify/%s",
					other.Name, difference, m.Name, other.Name))
			}
		}
		byMchID[m.MchID] = append(byMchID[m.MchID], m)
	}
}

// warnOfEvents says which merchants an event that names no appid cannot tell apart.
func (a *App) warnOfEvents() {
	byMchID := make(map[string]*wepay.Merchant) // the first that has a cb_event_url
	for _, m := range a.merchants.All() {
		first := byMchID[m.MchID]
		switch {
		case m.CbEventURL == "":
		case first == nil:
			byMchID[m.MchID] = m
		case m.EventsDiffer(first):
			a.doubt(m, fmt.Sprintf(
				"a complaint does not say an appid, so that it cannot be told from one of merchant %q, which has another cb_event_url: have WeChat send such events to pay_notify/%s or pay_notify/%s",
				first.Name, m.Name, first.Name))
		}
	}
}

// refundsDiffer says what is lost where a refund's notification over API v3 could
// be for either of two merchants of one account; "": nothing.
func refundsDiffer(m, other *wepay.Merchant) string {
	payloadV3, otherV3 := m.Payload == wepay.V3, other.Payload == wepay.V3
	switch {
	case m.AppID == other.AppID || m.SubMchID != other.SubMchID: // NewMerchants compares those of one appid
		return ""
	case m.API != wepay.V3 && other.API != wepay.V3, m.APIv3Key == "", m.APIv3Key != other.APIv3Key:
		return ""
	case strings.HasSuffix(m.NotifyURL, "/"+m.Name) && strings.HasSuffix(other.NotifyURL, "/"+other.Name):
		return ""
	case m.CallbackURL(wepay.Refunded) != other.CallbackURL(wepay.Refunded) || payloadV3 != otherV3:
		return "which goes elsewhere"
	case payloadV3:
		return "" // whose payload has none
	default:
		return "and is handed over without an appid"
	}
}

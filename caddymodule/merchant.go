package caddymodule

import (
	"cmp"
	"crypto/tls"
	"encoding/json"
	"os"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/windsome/caddy-wepay/wepay"
)

// MerchantConfig configures one merchant. Every value takes placeholders such
// as `{env.NAME}` and `{file./path}`, resolved once when the config is loaded.
type MerchantConfig struct {
	// The site's own word for the merchant, unique.
	Name string `json:"name"`

	// Where customers pay: `H5` (a page inside WeChat), `WXAPP` (a mini
	// program), `APP`, `MWEB` (a page in another mobile browser) or `NATIVE` (a
	// QR code). Default: `H5`.
	Env string `json:"env,omitempty"`

	// `普通商户` (`merchant`) or `服务商` (`partner`). Default: `服务商` with a
	// `sub_mch_id`, else `普通商户`.
	Type string `json:"type,omitempty"`

	// The appid that the merchant's orders are placed with.
	AppID string `json:"app_id,omitempty"`

	// The merchant's number (商户号).
	MchID string `json:"mch_id,omitempty"`

	// The sub-merchant's own appid (服务商 only).
	SubAppID string `json:"sub_app_id,omitempty"`

	// The sub-merchants' numbers (服务商 only): the first is meant unless a
	// request names another of them; `*` lets requests name any.
	SubMchID oneOrMore `json:"sub_mch_id,omitempty"`

	// The API v2 key (API密钥), 32 characters.
	PartnerKey string `json:"partner_key,omitempty"`

	// How orders are signed: `MD5` or `HMAC-SHA256`. Default: `MD5`.
	SignType string `json:"sign_type,omitempty"`

	// The merchant's certificate and key as WeChat issues them, a .p12 file.
	// Without it, and without `cert`, refunds are not possible.
	PFX string `json:"pfx,omitempty"`

	// The passphrase of the .p12 file. Default: the `mch_id`.
	Passphrase string `json:"passphrase,omitempty"`

	// The merchant's certificate as a PEM file, instead of `pfx`.
	Cert string `json:"cert,omitempty"`

	// The key of `cert` as a PEM file.
	CertKey string `json:"cert_key,omitempty"`

	// Where WeChat sends notifications of payments: this server's pay_notify
	// route as the internet sees it.
	NotifyURL string `json:"notify_url,omitempty"`

	// The order service that is told of verified payments.
	CbNotifyURL string `json:"cb_notify_url,omitempty"`

	// The order service that is told of refunds. Default: `cb_notify_url`.
	CbRefundNotifyURL string `json:"cb_refund_notify_url,omitempty"`

	// Secrets (`whsec_` and base64) that what the order service gets is signed
	// with, by Standard Webhooks; several while one is being replaced.
	CallbackSecret oneOrMore `json:"callback_secret,omitempty"`

	// WeChat Pay's access points for this merchant. Default: the app's.
	Endpoint oneOrMore `json:"endpoint,omitempty"`

	// Use WeChat's sandbox.
	Sandbox bool `json:"sandbox,omitempty"`

	// Lets the routes that send money out work: red packets, transfers and bank
	// payouts. Whoever may ask for them can empty the account.
	Payouts bool `json:"payouts,omitempty"`

	// Lets any call of API v2 be asked for under `v2/`.
	Passthrough bool `json:"passthrough,omitempty"`

	// The appid's secret (AppSecret), for openids from login codes.
	AppSecret string `json:"app_secret,omitempty"`

	// Hands out the session_key of a mini program's login, which decrypts the
	// user's data.
	SessionKey bool `json:"session_key,omitempty"`

	// Where the Caddyfile says each directive, for errors.
	Source source `json:"source,omitempty"`
}

// load resolves placeholders, reads files and returns a merchant that is valid
// at a time, with what signs its callbacks. What it resolves is kept out of
// the config, which others may print.
func (c *MerchantConfig) load(endpoints []string, at time.Time) (*wepay.Merchant, []*standardwebhooks.Webhook, error) {
	resolved, err := c.resolve()
	if err != nil {
		return nil, nil, err
	}
	if resolved.Name == "" {
		return nil, nil, &wepay.FieldError{Field: "name", Reason: "is required", Missing: true}
	}
	merchant := &wepay.Merchant{
		Name:        resolved.Name,
		Env:         cmp.Or(wepay.Env(resolved.Env), wepay.H5),
		AppID:       resolved.AppID,
		MchID:       resolved.MchID,
		SubAppID:    resolved.SubAppID,
		PartnerKey:  resolved.PartnerKey,
		SignType:    cmp.Or(wepay.SignType(resolved.SignType), wepay.MD5),
		NotifyURL:   resolved.NotifyURL,
		CbNotifyURL: resolved.CbNotifyURL,

		CbRefundNotifyURL: resolved.CbRefundNotifyURL,
		Payouts:           resolved.Payouts,
		Passthrough:       resolved.Passthrough,
		AppSecret:         resolved.AppSecret,
		SessionKey:        resolved.SessionKey,

		Endpoints: resolved.Endpoint,
		Sandbox:   resolved.Sandbox,
	}
	if len(resolved.SubMchID) > 0 {
		merchant.SubMchID, merchant.SubMchIDs = resolved.SubMchID[0], resolved.SubMchID[1:]
		if merchant.SubMchID == wepay.AnySubMerchant {
			merchant.SubMchID, merchant.SubMchIDs = "", resolved.SubMchID
		}
	}
	if len(merchant.Endpoints) == 0 {
		merchant.Endpoints = endpoints
	}
	if merchant.Type, err = resolved.merchantType(); err != nil {
		return nil, nil, &wepay.FieldError{Field: "type", Reason: err.Error()}
	}
	if merchant.Certificate, err = resolved.certificate(at); err != nil {
		return nil, nil, err
	}
	if err := merchant.Validate(at); err != nil {
		return nil, nil, err
	}
	secrets, err := parseSecrets(resolved.CallbackSecret)
	return merchant, secrets, err
}

// resolve returns the config with its placeholders replaced. One that is
// unknown or empty is an error: an empty key would sign all the same.
func (c *MerchantConfig) resolve() (*MerchantConfig, error) {
	repl := caddy.NewReplacer()
	resolved := *c
	for _, directive := range resolved.values() {
		var err error
		if *directive.value, err = replace(repl, directive.name, *directive.value); err != nil {
			return nil, err
		}
	}
	var err error
	if resolved.CallbackSecret, err = replaceAll(repl, "callback_secret", c.CallbackSecret); err != nil {
		return nil, err
	}
	if resolved.SubMchID, err = replaceAll(repl, "sub_mch_id", c.SubMchID); err != nil {
		return nil, err
	}
	resolved.Endpoint, err = replaceAll(repl, "endpoint", c.Endpoint)
	return &resolved, err
}

// checkSubMchID says what is wrong with one of those that a partner acts for.
func checkSubMchID(id string) error {
	if id == wepay.AnySubMerchant {
		return nil
	}
	return wepay.MerchantRules.CheckValue("sub_mch_id", id)
}

// oneOrMore is a value that JSON may give alone or as an array.
type oneOrMore []string

// UnmarshalJSON reads either form.
func (values *oneOrMore) UnmarshalJSON(data []byte) error {
	var one string
	if err := json.Unmarshal(data, &one); err == nil {
		*values = oneOrMore{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(values))
}

// directive is a directive with one value.
type directive struct {
	name  string
	value *string
}

// values are the directives of a merchant that have one value.
func (c *MerchantConfig) values() []directive {
	return []directive{
		{"env", &c.Env},
		{"type", &c.Type},
		{"app_id", &c.AppID},
		{"mch_id", &c.MchID},
		{"sub_app_id", &c.SubAppID},
		{"partner_key", &c.PartnerKey},
		{"sign_type", &c.SignType},
		{"pfx", &c.PFX},
		{"passphrase", &c.Passphrase},
		{"cert", &c.Cert},
		{"cert_key", &c.CertKey},
		{"notify_url", &c.NotifyURL},
		{"cb_notify_url", &c.CbNotifyURL},
		{"cb_refund_notify_url", &c.CbRefundNotifyURL},
		{"app_secret", &c.AppSecret},
	}
}

func replace(repl *caddy.Replacer, directive, value string) (string, error) {
	replaced, err := repl.ReplaceOrErr(value, true, true)
	if err != nil {
		return "", &wepay.FieldError{Field: directive, Reason: "resolving a placeholder", Err: err}
	}
	return replaced, nil
}

func replaceAll(repl *caddy.Replacer, directive string, values []string) ([]string, error) {
	var replaced []string
	for _, value := range values {
		value, err := replace(repl, directive, value)
		if err != nil {
			return nil, err
		}
		replaced = append(replaced, value)
	}
	return replaced, nil
}

func (c *MerchantConfig) merchantType() (wepay.Type, error) {
	switch {
	case c.Type != "":
		return wepay.ParseType(c.Type)
	case len(c.SubMchID) > 0:
		return wepay.Partner, nil
	default:
		return wepay.Direct, nil
	}
}

// certificate reads the merchant's certificate, or returns nil without one.
func (c *MerchantConfig) certificate(at time.Time) (*tls.Certificate, error) {
	switch {
	case c.PFX != "" && c.Cert != "":
		return nil, &wepay.FieldError{Field: "cert", Reason: "stands beside pfx: only one of them may"}
	case c.PFX != "":
		return usable(at, "pfx", c.PFX, c.readPFX)
	case c.Cert != "":
		return usable(at, "cert", c.Cert, c.readPEM)
	default:
		return nil, nil
	}
}

// usable reads a certificate that can be used at a time; errors name the
// directive and the file.
func usable(at time.Time, directive, file string, read func() (*tls.Certificate, error)) (*tls.Certificate, error) {
	cert, err := read()
	if err == nil {
		err = wepay.CheckValidity(cert.Leaf, at)
	}
	if err != nil {
		return nil, &wepay.FieldError{Field: directive, Reason: file, Err: err}
	}
	return cert, nil
}

func (c *MerchantConfig) readPFX() (*tls.Certificate, error) {
	data, err := os.ReadFile(c.PFX)
	if err != nil {
		return nil, err
	}
	return wepay.ParsePKCS12(data, cmp.Or(c.Passphrase, c.MchID))
}

func (c *MerchantConfig) readPEM() (*tls.Certificate, error) {
	cert, err := os.ReadFile(c.Cert)
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(c.CertKey)
	if err != nil {
		return nil, err
	}
	return wepay.ParsePEM(cert, key)
}

// parseSecrets reads secrets of Standard Webhooks. Its library takes text
// without the prefix, too, which may be anything, so the prefix is asked for
// here.
func parseSecrets(secrets []string) ([]*standardwebhooks.Webhook, error) {
	var webhooks []*standardwebhooks.Webhook
	for _, secret := range secrets {
		webhook, err := standardwebhooks.NewWebhook(secret)
		if err != nil || !strings.HasPrefix(secret, "whsec_") || len(secret) == len("whsec_") {
			return nil, &wepay.FieldError{Field: "callback_secret", Reason: "must be whsec_ and base64"}
		}
		webhooks = append(webhooks, webhook)
	}
	return webhooks, nil
}

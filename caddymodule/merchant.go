package caddymodule

import (
	"cmp"
	"encoding/json"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	strictjson "github.com/go-json-experiment/json"
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

	// Whose number an app's SDK gets as `partnerid` (服务商 only): the partner's own,
	// with `mch_id`, or the sub-merchant's, with `sub_mch_id`. Default: `mch_id` for
	// orders over API v3, `sub_mch_id` over API v2.
	PartnerID string `json:"partnerid,omitempty"`

	// The API that orders, refunds and all other operations go through, `v2` or
	// `v3`. What only one of them has goes through that one, where its keys are
	// given as well; notifications of both are taken by what they are. Default:
	// `v2`.
	API string `json:"api,omitempty"`

	// The API v2 key (API密钥), 32 characters. With `api` `v3` it may be left out.
	PartnerKey string `json:"partner_key,omitempty"`

	// How orders are signed: `MD5` or `HMAC-SHA256`. Default: `MD5`.
	SignType string `json:"sign_type,omitempty"`

	// The merchant's certificate and key as WeChat issues them, a .p12 file.
	// Without it, and without `cert`, refunds over API v2 are not possible.
	PFX string `json:"pfx,omitempty"`

	// The passphrase of the .p12 file. Default: the `mch_id`.
	Passphrase string `json:"passphrase,omitempty"`

	// The merchant's certificate as a PEM file, instead of `pfx`.
	Cert string `json:"cert,omitempty"`

	// The key of `cert` as a PEM file.
	CertKey string `json:"cert_key,omitempty"`

	// The key of the merchant's certificate as a PEM file (apiclient_key.pem),
	// which signs what is asked over API v3. Default: the one of `pfx` or `cert`.
	PrivateKey string `json:"private_key,omitempty"`

	// The serial number of the merchant's certificate, in hexadecimal digits.
	// Default: that of `pfx` or `cert`.
	MchSerial string `json:"mch_serial,omitempty"`

	// The API v3 key (APIv3密钥), 32 letters and digits, under which WeChat
	// encrypts notifications.
	APIv3Key string `json:"apiv3_key,omitempty"`

	// The id of WeChat Pay's public key (微信支付公钥ID), `PUB_KEY_ID_` and digits.
	// Default: none; then WeChat is known by platform certificates, which are
	// fetched and cached in Caddy's storage.
	PublicKey string `json:"public_key,omitempty"`

	// The public key itself as a PEM file (pub_key.pem).
	PublicKeyFile string `json:"public_key_file,omitempty"`

	// What the order service gets for a notification of API v3: its contents
	// under the names of API v2, with `v2`, or as WeChat wrote them, with `v3`.
	// Default: `v2`.
	Payload string `json:"payload,omitempty"`

	// Where WeChat sends notifications of payments: this server's pay_notify
	// route as the internet sees it.
	NotifyURL string `json:"notify_url,omitempty"`

	// The URL of the order service that takes verified payments.
	CbNotifyURL string `json:"cb_notify_url,omitempty"`

	// The URL of the order service that takes refunds. Default: `cb_notify_url`.
	CbRefundNotifyURL string `json:"cb_refund_notify_url,omitempty"`

	// The URL of the order service that takes every other event that WeChat signs, as
	// WeChat wrote it: complaints, contracts, payscore, invoices, and what there will
	// be. The header `wepay-event` says which it is. Without it they are refused.
	CbEventURL string `json:"cb_event_url,omitempty"`

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

	// Lets any call of WeChat's be asked for, under `v2/` and `v3/`.
	Passthrough bool `json:"passthrough,omitempty"`

	// The appid's secret (AppSecret), for openids from login codes.
	AppSecret string `json:"app_secret,omitempty"`

	// Hands out the session_key of a mini program's login, which decrypts the
	// user's data.
	SessionKey bool `json:"session_key,omitempty"`

	// How long after it was placed an order that is not paid is closed at WeChat; the
	// `cb_event_url` hears of it as `TRANSACTION.CLOSED`. At least 5m. It needs a
	// store. Default: never.
	CloseAfter caddy.Duration `json:"close_after,omitempty"`

	// Matches WeChat's bill of each day with the orders that were placed and the
	// payments that were handed over here. It needs a store.
	Reconcile bool `json:"reconcile,omitempty"`

	positions positions
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
	if err := checkReadable("name", resolved.Name); err != nil {
		return nil, nil, err
	}
	if strings.ContainsAny(resolved.Name, "\"'`“”‘’＂＇") {
		return nil, nil, &wepay.FieldError{Field: "name", Reason: "has a quotation mark in it"}
	}
	merchant, err := resolved.merchant(endpoints)
	if err != nil {
		return nil, nil, err
	}
	if err := resolved.readFiles(merchant, at); err != nil {
		return nil, nil, err
	}
	if err := merchant.Validate(at); err != nil {
		return nil, nil, err
	}
	for _, secret := range resolved.CallbackSecret {
		merchant.Secrets = append(merchant.Secrets, strings.TrimPrefix(secret, secretPrefix))
	}
	if resolved.Passphrase != merchant.MchID {
		merchant.Secrets = append(merchant.Secrets, resolved.Passphrase)
	}
	secrets, err := parseSecrets(resolved.CallbackSecret)
	return merchant, secrets, err
}

// merchant is the merchant of a resolved config, but for what is in files.
func (c *MerchantConfig) merchant(endpoints []string) (*wepay.Merchant, error) {
	merchant := &wepay.Merchant{
		Name:        c.Name,
		Env:         cmp.Or(wepay.Env(c.Env), wepay.H5),
		AppID:       c.AppID,
		MchID:       c.MchID,
		SubAppID:    c.SubAppID,
		PartnerID:   wepay.PartnerID(c.PartnerID),
		API:         wepay.API(c.API),
		PartnerKey:  c.PartnerKey,
		SignType:    cmp.Or(wepay.SignType(c.SignType), wepay.MD5),
		APIv3Key:    c.APIv3Key,
		PublicKeyID: c.PublicKey,
		Payload:     wepay.API(c.Payload),
		NotifyURL:   c.NotifyURL,
		CbNotifyURL: c.CbNotifyURL,

		CbRefundNotifyURL: c.CbRefundNotifyURL,
		CbEventURL:        c.CbEventURL,
		Payouts:           c.Payouts,
		Passthrough:       c.Passthrough,
		AppSecret:         c.AppSecret,
		SessionKey:        c.SessionKey,

		Endpoints: c.Endpoint,
		Sandbox:   c.Sandbox,
	}
	if len(c.SubMchID) > 0 {
		merchant.SubMchID, merchant.SubMchIDs = c.SubMchID[0], c.SubMchID[1:]
		if merchant.SubMchID == wepay.AnySubMerchant {
			merchant.SubMchID, merchant.SubMchIDs = "", c.SubMchID
		}
	}
	if len(merchant.Endpoints) == 0 {
		merchant.Endpoints = endpoints
	}
	var err error
	if merchant.Type, err = c.merchantType(); err != nil {
		return nil, &wepay.FieldError{Field: "type", Reason: err.Error()}
	}
	if c.MchSerial != "" {
		if merchant.MchSerial, err = wepay.ParseSerial(c.MchSerial); err != nil {
			return nil, &wepay.FieldError{Field: "mch_serial", Reason: err.Error()}
		}
	}
	return merchant, nil
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

// UnmarshalJSON reads a merchant whose members are written as they are documented:
// encoding/json takes them in any case, and of two the last.
func (c *MerchantConfig) UnmarshalJSON(text []byte) error {
	type plain MerchantConfig
	return strictjson.Unmarshal(text, (*plain)(c), strictConfig)
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
		{"partnerid", &c.PartnerID},
		{"api", &c.API},
		{"partner_key", &c.PartnerKey},
		{"sign_type", &c.SignType},
		{"pfx", &c.PFX},
		{"passphrase", &c.Passphrase},
		{"cert", &c.Cert},
		{"cert_key", &c.CertKey},
		{"private_key", &c.PrivateKey},
		{"mch_serial", &c.MchSerial},
		{"apiv3_key", &c.APIv3Key},
		{"public_key", &c.PublicKey},
		{"public_key", &c.PublicKeyFile},
		{"payload", &c.Payload},
		{"notify_url", &c.NotifyURL},
		{"cb_notify_url", &c.CbNotifyURL},
		{"cb_refund_notify_url", &c.CbRefundNotifyURL},
		{"cb_event_url", &c.CbEventURL},
		{"app_secret", &c.AppSecret},
	}
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

// secretPrefix begins secrets of Standard Webhooks.
const secretPrefix = "whsec_"

// parseSecrets reads secrets of Standard Webhooks. Its library takes text
// without the prefix, too, which may be anything, so the prefix is asked for
// here.
func parseSecrets(secrets []string) ([]*standardwebhooks.Webhook, error) {
	var webhooks []*standardwebhooks.Webhook
	for _, secret := range secrets {
		webhook, err := standardwebhooks.NewWebhook(secret)
		if err != nil || !strings.HasPrefix(secret, secretPrefix) || len(secret) == len(secretPrefix) {
			return nil, &wepay.FieldError{Field: "callback_secret", Reason: "must be whsec_ and base64"}
		}
		webhooks = append(webhooks, webhook)
	}
	return webhooks, nil
}

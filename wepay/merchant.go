package wepay

import (
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Env is where a merchant's customers pay.
type Env string

// The environments.
const (
	H5     Env = "H5"     // a page inside WeChat (official account)
	WXAPP  Env = "WXAPP"  // a mini program
	APP    Env = "APP"    // the merchant's own app
	MWEB   Env = "MWEB"   // a page in another mobile browser
	NATIVE Env = "NATIVE" // a QR code that the customer scans
)

// TradeType is WeChat's word for orders of this environment.
func (e Env) TradeType() string {
	switch e {
	case H5, WXAPP:
		return "JSAPI"
	default:
		return string(e)
	}
}

// Type is how a merchant belongs to WeChat Pay.
type Type string

// The types.
const (
	Direct  Type = "普通商户" // sells for itself
	Partner Type = "服务商"  // acts for sub-merchants
)

// ParseType reads a type by WeChat's Chinese word or its English one.
func ParseType(word string) (Type, error) {
	switch word {
	case string(Direct), "merchant":
		return Direct, nil
	case string(Partner), "partner":
		return Partner, nil
	default:
		return "", fmt.Errorf("must be %s (merchant) or %s (partner)", Direct, Partner)
	}
}

// PartnerID says whose number is the partnerid that an app's SDK pays with.
type PartnerID string

// The numbers. WeChat's document of API v2 says the sub-merchant's, and that of API
// v3 does not say; WeChat's SDK for Java takes the partner's own there, as others do.
// Source: WeChat Pay, APP调起支付; wechatpay-java, binarywang/WxJava, go-pay/gopay.
const (
	PartnerIDOfPartner PartnerID = "mch_id"
	PartnerIDOfSub     PartnerID = "sub_mch_id"
)

// SignType is the algorithm of API v2's signatures.
type SignType string

// The algorithms.
const (
	MD5        SignType = "MD5"
	HMACSHA256 SignType = "HMAC-SHA256"
)

// DefaultEndpoints are WeChat Pay's main access point and the one that serves
// when the main one does not.
var DefaultEndpoints = []string{"https://api.mch.weixin.qq.com", "https://api2.mch.weixin.qq.com"}

// Merchant is a merchant of WeChat Pay: its ids, its keys, and its URLs. It is
// immutable once in use.
type Merchant struct {
	Name string // the site's own word for it, unique

	Env  Env
	Type Type

	AppID    string
	MchID    string
	SubAppID string // a sub-merchant's, Partner only
	SubMchID string // a sub-merchant's, Partner only: the default of requests
	// SubMchIDs are further sub-merchants that a request may name, Partner only;
	// AnySubMerchant among them allows all.
	SubMchIDs []string
	// PartnerID is whose number a sub-merchant's app gets as partnerid, Partner only;
	// "": the partner's own over API v3, the sub-merchant's over API v2.
	PartnerID PartnerID

	// API is the version that orders go through; "": V2. Notifications of both
	// are taken by what they are, as long as there are the keys of both.
	API API

	PartnerKey string // API v2's key (API密钥), 32 characters
	SignType   SignType
	// Certificate is the merchant's API certificate with its key and Leaf set.
	// Nil: operations that need one wrap ErrNotAble.
	Certificate *tls.Certificate

	APIv3Key   string          // API v3's key (APIv3密钥), 32 letters and digits
	PrivateKey *rsa.PrivateKey // signs API v3's requests; nil: Certificate's does
	MchSerial  string          // of the certificate that PrivateKey belongs to; "": Certificate's
	// PublicKey is WeChat Pay's (微信支付公钥), and PublicKeyID its id. Without it
	// WeChat is known by platform certificates, which are fetched.
	PublicKeyID string
	PublicKey   *rsa.PublicKey
	// Payload is in whose names the order service gets notifications of API v3;
	// "": V2.
	Payload API

	NotifyURL   string // where WeChat sends payment notifications
	CbNotifyURL string // the order service that gets payment events
	// CbRefundNotifyURL gets refund events; "": CbNotifyURL.
	CbRefundNotifyURL string
	CbEventURL        string // the order service that gets every OtherEvent

	Endpoints []string // WeChat's access points: the first, and those to fail over to
	Sandbox   bool     // use WeChat's sandbox

	Payouts     bool // may send money to payees that a caller names
	Passthrough bool // may make any call of WeChat's, also unknown ones
	// AppSecret is the appid's, which login codes are exchanged with.
	AppSecret string
	// SessionKey: a mini program's session_key may be handed out.
	SessionKey bool

	// Secrets are further ones of the merchant's, which nothing here uses and no
	// error repeats.
	Secrets []string
}

// Validate returns what is wrong with a merchant, as a *FieldError that names the
// directive. At is when the certificate has to be valid.
func (m *Merchant) Validate(at time.Time) error {
	for _, check := range []func() error{
		m.validateText, m.validateType, m.validateV3,
		func() error { return m.validateCertificate(at) },
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// maxMchID bounds a merchant's number. WeChat's have 8 to 10 digits; what is longer than
// this is something else, such as a key.
const maxMchID = 16

// MerchantRules are the forms of a merchant's directives.
var MerchantRules = Rules{
	{Name: "env", Required: true, Is: OneOf("H5", "WXAPP", "APP", "MWEB", "NATIVE")},
	{Name: "type", Required: true, Is: isType},
	{Name: "app_id", Required: true, Is: AppID},
	{Name: "mch_id", Required: true, Max: maxMchID, Is: Digits},
	{Name: "sub_app_id", Is: AppID},
	{Name: "sub_mch_id", Max: maxMchID, Is: Digits},
	{Name: "partnerid", Is: OneOf(string(PartnerIDOfPartner), string(PartnerIDOfSub))},
	{Name: "api", Is: OneOf(string(V2), string(V3))},
	{Name: "partner_key", Is: partnerKey},
	{Name: "sign_type", Required: true, Is: OneOf(string(MD5), string(HMACSHA256))},
	{Name: "apiv3_key", Is: apiV3Key},
	{Name: "mch_serial", Is: isSerial},
	{Name: "public_key", Is: publicKeyID},
	{Name: "payload", Is: OneOf(string(V2), string(V3))},
	{Name: "notify_url", Max: 256, Is: NotifyURL},
	{Name: "cb_notify_url", Is: callbackURL},
	{Name: "cb_refund_notify_url", Is: callbackURL},
	{Name: "cb_event_url", Is: callbackURL},
	{Name: "app_secret", Max: 64, Is: Alphanumeric},
	{Name: "endpoint", Is: NotifyURL},
}

func (m *Merchant) validateText() error {
	if len(m.Endpoints) == 0 || slices.Contains(m.Endpoints, "") {
		return &FieldError{Field: "endpoint", Reason: "is required", Missing: true}
	}
	for _, endpoint := range m.Endpoints {
		if err := MerchantRules.CheckValue("endpoint", endpoint); err != nil {
			return err
		}
	}
	for _, id := range m.SubMchIDs {
		if id == AnySubMerchant {
			continue
		}
		if err := MerchantRules.CheckValue("sub_mch_id", id); err != nil {
			return err
		}
	}
	if m.PartnerKey == "" && m.API != V3 {
		return &FieldError{Field: "partner_key", Reason: "is required for api v2", Missing: true}
	}
	return MerchantRules.Check(NewFields(map[string]string{
		"env":           string(m.Env),
		"type":          string(m.Type),
		"app_id":        m.AppID,
		"mch_id":        m.MchID,
		"sub_app_id":    m.SubAppID,
		"sub_mch_id":    m.SubMchID,
		"partnerid":     string(m.PartnerID),
		"api":           string(m.API),
		"partner_key":   m.PartnerKey,
		"apiv3_key":     m.APIv3Key,
		"mch_serial":    m.MchSerial,
		"public_key":    m.PublicKeyID,
		"payload":       string(m.Payload),
		"sign_type":     string(m.SignType),
		"notify_url":    m.NotifyURL,
		"cb_notify_url": m.CbNotifyURL,

		"cb_refund_notify_url": m.CbRefundNotifyURL,
		"cb_event_url":         m.CbEventURL,
		"app_secret":           m.AppSecret,
	}))
}

func (m *Merchant) validateType() error {
	switch {
	case m.Type != Direct && m.Type != Partner:
		return &FieldError{Field: "type", Reason: fmt.Sprintf("must be %s or %s", Direct, Partner)}
	case m.Type == Partner && m.SubMchID == "" && len(m.SubMchIDs) == 0:
		return &FieldError{Field: "sub_mch_id", Reason: "is required for type " + string(Partner), Missing: true}
	case m.Type == Direct && (m.SubMchID != "" || len(m.SubMchIDs) > 0):
		return &FieldError{Field: "sub_mch_id", Reason: "is for type " + string(Partner) + " only"}
	case m.Type == Direct && m.SubAppID != "":
		return &FieldError{Field: "sub_app_id", Reason: "is for type " + string(Partner) + " only"}
	case m.Type == Direct && m.PartnerID != "":
		return &FieldError{Field: "partnerid", Reason: "is for type " + string(Partner) + " only"}
	default:
		return nil
	}
}

// keyLength is how long both keys are. Of one that is not it says what most often
// is the matter, and nothing of the key.
func keyLength(value string) error {
	odd := ""
	if len(value) == 32 {
		return nil
	}
	if Alphanumeric(value) != nil {
		odd = ", not all of them letters and digits (is there a blank, or a quotation mark?)"
	}
	return fmt.Errorf("must be 32 characters, has %d%s", utf8.RuneCountInString(value), odd)
}

func partnerKey(value string) error {
	if err := keyLength(value); err != nil {
		return err
	}
	for _, c := range []byte(value) {
		if c <= ' ' || c > '~' {
			return errors.New("must be letters and digits")
		}
	}
	return nil
}

func isType(value string) error {
	_, err := ParseType(value)
	return err
}

func callbackURL(value string) error {
	_, err := AbsoluteURL(value)
	return err
}

func (m *Merchant) validateCertificate(at time.Time) error {
	if m.Certificate == nil {
		return nil
	}
	if err := CheckValidity(m.Certificate.Leaf, at); err != nil {
		return &FieldError{Field: "pfx", Reason: err.Error()}
	}
	return nil
}

// Warnings returns what is doubtful about a valid merchant at a time.
func (m *Merchant) Warnings(at time.Time) []string {
	var warnings []string
	if m.CbNotifyURL == "" {
		warnings = append(warnings, "no cb_notify_url: notifications of payments are answered FAIL")
	}
	if m.CbEventURL != "" && (m.CbEventURL == m.CbNotifyURL || m.CbEventURL == m.CbRefundNotifyURL) {
		warnings = append(warnings, "cb_event_url is where payments or refunds go, too: an order service that does not look at the header wepay-event may take an event for a payment: give events a URL of their own")
	}
	if m.PartnerKey != "" && m.PartnerKey == m.APIv3Key {
		warnings = append(warnings, "partner_key and apiv3_key are the same, but WeChat Pay has one of each: is either in the other's place?")
	}
	if m.Certificate != nil {
		leaf := m.Certificate.Leaf
		if leaf.Subject.CommonName != m.MchID {
			warnings = append(warnings, fmt.Sprintf("the certificate is of %q, not of mch_id %s: is it the right file?", leaf.Subject.CommonName, m.MchID))
		}
		if left := leaf.NotAfter.Sub(at); left < 30*24*time.Hour {
			warnings = append(warnings, fmt.Sprintf("the certificate expires on %s", leaf.NotAfter.Format(time.DateOnly)))
		}
	}
	for _, endpoint := range m.Endpoints {
		if u, err := AbsoluteURL(endpoint); err == nil && u.Scheme == "http" && !isLoopback(u.Hostname()) {
			warnings = append(warnings, "an endpoint is not https: payments can be read on the way")
		}
	}
	return warnings
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && ip.IsLoopback()
}

// ConfigureTLS makes a client present the merchant's certificate, if there is one,
// whatever authorities the server lists: WeChat's old and new certificates have
// different issuers. Older servers of WeChat's request it by renegotiation.
func (m *Merchant) ConfigureTLS(config *tls.Config) {
	if m.Certificate == nil {
		return
	}
	config.Renegotiation = tls.RenegotiateOnceAsClient
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return m.Certificate, nil
	}
}

// CallbackURL returns the order service that gets a kind of notification; "" if
// there is none.
func (m *Merchant) CallbackURL(kind Kind) string {
	switch {
	case kind == OtherEvent:
		return m.CbEventURL // never CbNotifyURL: it is no payment
	case kind == Refunded && m.CbRefundNotifyURL != "":
		return m.CbRefundNotifyURL
	default:
		return m.CbNotifyURL
	}
}

// RequireCertificate wraps ErrNotAble for a merchant without a certificate.
func (m *Merchant) RequireCertificate() error {
	if m.Certificate == nil {
		return m.NotAble("pfx (or cert)")
	}
	return nil
}

// NotAble wraps ErrNotAble for a merchant that lacks a directive.
func (m *Merchant) NotAble(directive string) error {
	return &MerchantError{m.Name, fmt.Errorf("%w: this needs %s in the merchant's configuration", ErrNotAble, directive)}
}

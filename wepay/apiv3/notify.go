package apiv3

import (
	"cmp"
	"crypto/cipher"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// Unverified is a notification whose signature has not been checked. Nothing
// can be read from it but which key it says it is signed with, and it is a reason
// for Platforms.Find and Platform.Key to ask WeChat for that.
type Unverified struct {
	signature signature
	body      []byte
}

// ReadNotification reads the header of a notification; the body is taken as it
// came, since each byte of it is signed. The error wraps wepay.ErrUnsigned or
// wepay.ErrMalformed.
// Source: WeChat Pay, 如何验证签名.
func ReadNotification(header http.Header, body []byte) (*Unverified, error) {
	s, err := readSignature(header)
	if err != nil {
		return nil, err
	}
	if encoding := header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return nil, fmt.Errorf("%w: Content-Encoding is not identity", wepay.ErrMalformed)
	}
	return &Unverified{s, body}, nil
}

// Serial names the key that the notification says it is signed with; see
// Platforms.Find and Platform.Key.
func (u *Unverified) Serial() string { return u.signature.serial }

// Verify checks the signature with the key that Serial names, and that it was
// made within five minutes of now. The error wraps wepay.ErrSignature, with
// wepay.ErrProbe where WeChat only finds out whether it is checked,
// wepay.ErrStale or wepay.ErrMalformed.
func (u *Unverified) Verify(key *rsa.PublicKey, now time.Time) (*Sealed, error) {
	if err := u.signature.verify(key, u.body, now); err != nil {
		return nil, err
	}
	return readEnvelope(u.body)
}

// readEnvelope reads a notification's body. The error wraps wepay.ErrMalformed.
func readEnvelope(body []byte) (*Sealed, error) {
	envelope, err := parse(body)
	if err != nil {
		return nil, fmt.Errorf("%w: reading the body: %w", wepay.ErrMalformed, err)
	}
	s, form := new(Sealed), ""
	for name, value := range walk(envelope) {
		switch name {
		case "event_type":
			s.eventType = textOf(value)
		case "resource_type":
			form = textOf(value)
		case "resource":
			s.resource = readSealed(document(value))
		}
	}
	if form != "encrypt-resource" {
		return nil, fmt.Errorf("%w: its resource_type is %s, not encrypt-resource", wepay.ErrMalformed, printable(form))
	}
	return s, nil
}

// Sealed is a notification that WeChat signed, and whose content is encrypted
// under the APIv3 key of the account that it is for.
type Sealed struct {
	eventType string
	resource  sealed
}

// Open decrypts the content with a merchant's APIv3 key, and finds out what it
// is about. The error wraps wepay.ErrAPIv3Key where another key is needed,
// wepay.ErrUnknownKind or wepay.ErrMalformed.
func (s *Sealed) Open(apiV3Key string) (*Opened, error) {
	gcm, err := newGCM(apiV3Key)
	if err != nil {
		return nil, err
	}
	return s.open(gcm, apiV3Key)
}

// Open is Sealed.Open with the account's APIv3 key, which is made ready once.
func (p *Platform) Open(s *Sealed) (*Opened, error) {
	gcm, err := p.gcm()
	if err != nil {
		return nil, err
	}
	return s.open(gcm, p.merchant.APIv3Key)
}

func (s *Sealed) open(gcm cipher.AEAD, apiV3Key string) (*Opened, error) {
	plain, err := s.resource.open(gcm)
	if err != nil {
		return nil, err
	}
	o := &Opened{key: apiV3Key, eventType: s.eventType, resource: plain}
	content, err := parse(plain)
	if err != nil {
		return nil, fmt.Errorf("%w: reading the content: %w", wepay.ErrMalformed, err)
	}
	if o.kind, o.fields, o.omitted, err = readResource(s.eventType, s.resource.OriginalType, content.index()); err != nil {
		return nil, err
	}
	return o, nil
}

// Opened is the content of a notification that WeChat signed.
type Opened struct {
	key       string
	kind      wepay.Kind
	eventType string
	fields    wepay.Fields
	omitted   string
	resource  json.RawMessage
}

// Recipient returns whom the notification is for.
func (o *Opened) Recipient() wepay.Recipient {
	return wepay.Recipient{
		MchID:     o.fields.Get("mch_id"),
		AppID:     o.fields.Get("appid"),
		SubMchID:  cmp.Or(o.fields.Get("sub_mch_id"), o.fields.Get("sub_mch_id_0")),
		TradeType: o.fields.Get("trade_type"),
		Account:   o.account(),
		APIv3Key:  o.key,
	}
}

// account is whose own money it is about. Of profit sharing it is the receiver
// that is told, of an order that may be another account's.
// Source: WeChat Pay, 分账动账通知 (API v3).
func (o *Opened) account() string {
	switch {
	case o.kind == wepay.Transferred && o.fields.Get("sub_mch_id") == "":
		return o.fields.Get("mch_id")
	case o.kind == wepay.ProfitShared && o.fields.Get("receiver_type") == "MERCHANT_ID":
		return o.fields.Get("receiver_account")
	default:
		return ""
	}
}

// Notification is what the merchant that Recipient means was told. A refund of
// API v3 does not say its appid, which is what wepay.Merchants.AppID finds; ""
// leaves it out.
func (o *Opened) Notification(merchant *wepay.Merchant, appID string) *wepay.Notification {
	fields := o.fields
	if o.kind == wepay.Refunded && fields.Get("appid") == "" && appID != "" {
		fields = fields.Clone()
		fields.Set("appid", appID)
	}
	return &wepay.Notification{
		Kind: o.kind, Merchant: merchant, EventType: o.eventType, Fields: fields, Omitted: o.omitted, Resource: o.resource,
	}
}

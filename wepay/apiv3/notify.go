package apiv3

import (
	"cmp"
	"crypto/cipher"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/windsome/caddy-wepay/wepay"
)

// Unverified is a notification whose signature has not been checked. Only the
// serial number of the key that it claims can be read from it.
type Unverified struct {
	signature signature
	body      []byte
}

// ReadNotification reads the header of a notification. The body has to be as it
// came, since every byte of it is signed. The error wraps wepay.ErrUnsigned or
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

// Serial returns the serial number of the key that the notification claims to be
// signed with; see KeyRings.Find and KeyRing.Key.
func (u *Unverified) Serial() string { return u.signature.serial }

// Verify checks the signature with the key that Serial names, and that it was
// made within five minutes of now. The error wraps wepay.ErrSignature, with
// wepay.ErrProbe where WeChat only finds out whether it is checked,
// wepay.ErrStale or wepay.ErrMalformed, with wepay.ErrUnreadable where it is signed.
func (u *Unverified) Verify(key *rsa.PublicKey, now time.Time) (*Sealed, error) {
	if err := u.signature.verify(key, u.body, now); err != nil {
		return nil, err
	}
	return readEnvelope(u.body)
}

// readEnvelope reads the body of a notification that is signed. What is odd about it
// makes it an OtherEvent, as long as its content can be had. The error wraps
// wepay.ErrUnreadable.
func readEnvelope(body []byte) (*Sealed, error) {
	envelope, err := parse(body)
	if err != nil {
		return nil, unreadable(fmt.Errorf("%w: reading the body: %w", wepay.ErrMalformed, err))
	}
	s, form := new(Sealed), ""
	for name, value := range walk(envelope) {
		switch name {
		case "id":
			s.id = textOf(value)
		case "create_time":
			s.created = textOf(value)
		case "event_type":
			s.event = textOf(value)
		case "summary":
			s.summary = textOf(value)
		case "resource_type":
			form = textOf(value)
		case "resource":
			s.resource = readSealed(document(value))
		}
	}
	s.original = s.resource.OriginalType
	if form != "encrypt-resource" {
		s.odd = "its resource_type is " + printable(form)
	}
	if !isWord(s.event) {
		s.odd, s.event = "its event_type is "+printable(s.event), wepay.UnknownEvent
	}
	return s, nil
}

func unreadable(err error) error { return fmt.Errorf("%w: %w", wepay.ErrUnreadable, err) }

// isWord reports whether a text may be kept as WeChat's word for an event, the
// longest of which known has 42 characters. An order service gets it in a header,
// where blanks and what is not ASCII are percent-encoded.
func isWord(text string) bool {
	const most = 128 // bytes
	return text != "" && len(text) <= most && utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}

// envelope is what a notification says of its content.
type envelope struct {
	id, created, event, original, summary string
	odd                                   string // what no notification of a known kind has; mostly ""
}

// Sealed is a notification signed by WeChat, whose content is encrypted with the
// APIv3 key of its account.
type Sealed struct {
	envelope
	resource sealed
}

// Echo returns a wepay.SecurityEchoed that has no content, and so does not say whose it
// is; nil: it is none.
func (s *Sealed) Echo() *Opened {
	if s.event != wepay.SecurityEchoed || s.resource.Ciphertext != "" {
		return nil
	}
	return &Opened{reading: reading{kind: wepay.OtherEvent}, envelope: s.envelope}
}

// Open decrypts the content with a merchant's APIv3 key, and determines its kind. The
// error wraps wepay.ErrAPIv3Key if another key is needed, or wepay.ErrUnreadable if the
// content is no JSON.
func (s *Sealed) Open(apiV3Key string) (*Opened, error) {
	gcm, err := newGCM(apiV3Key)
	if err != nil {
		return nil, err
	}
	return s.open(gcm, apiV3Key)
}

// Open is Sealed.Open with the account's APIv3 key, whose cipher is made once.
func (k *KeyRing) Open(s *Sealed) (*Opened, error) {
	gcm, err := k.gcm()
	if err != nil {
		return nil, err
	}
	o, err := s.open(gcm, k.merchant.APIv3Key)
	if err != nil {
		return nil, err
	}
	o.openedBy = k.merchant.MchID
	return o, nil
}

func (s *Sealed) open(gcm cipher.AEAD, apiV3Key string) (*Opened, error) {
	plain, err := s.resource.open(gcm)
	switch {
	case errors.Is(err, wepay.ErrAPIv3Key):
		return nil, err
	case err != nil:
		return nil, unreadable(err)
	}
	members, err := readContent(plain)
	if err != nil {
		return nil, unreadable(fmt.Errorf("%w: reading the content: %w", wepay.ErrMalformed, err))
	}
	return &Opened{reading: readResource(s.envelope, members), key: apiV3Key, envelope: s.envelope, resource: plain}, nil
}

// readContent returns the members of a content, which has none if it is another JSON
// value than an object.
func readContent(plain []byte) (index, error) {
	if value := jsontext.Value(plain); value.Kind() != '{' && value.IsValid() {
		return nil, nil
	}
	content, err := parse(plain)
	if err != nil {
		return nil, err
	}
	return content.index(), nil
}

// Opened is the content of a notification signed by WeChat.
type Opened struct {
	envelope
	reading
	key      string
	openedBy string // the mchid of the account that it was opened by; "": unknown
	resource json.RawMessage
}

// EventType returns WeChat's own word for the notification.
func (o *Opened) EventType() string { return o.event }

// Recipient returns whom the notification is for.
func (o *Opened) Recipient() wepay.Recipient {
	if o.kind == wepay.OtherEvent {
		return o.recipientOfEvent()
	}
	return wepay.Recipient{
		MchID:     o.fields.Get("mch_id"),
		AppID:     o.fields.Get("appid"),
		SubMchID:  cmp.Or(o.fields.Get("sub_mch_id"), o.fields.Get("sub_mch_id_0")),
		TradeType: o.fields.Get("trade_type"),
		Account:   o.account(),
		APIv3Key:  o.key,
	}
}

// account returns the account whose own money moved. Profit sharing notifies the
// receiver, of an order that may be another account's.
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

// Notification returns the notification for the merchant that Recipient identifies. A
// refund of API v3 lacks the appid, which wepay.Merchants.AppID finds; "" leaves it
// out.
func (o *Opened) Notification(merchant *wepay.Merchant, appID string) *wepay.Notification {
	fields := o.fields
	if o.kind == wepay.Refunded && fields.Get("appid") == "" && appID != "" {
		fields = fields.Clone()
		fields.Set("appid", appID)
	}
	n := &wepay.Notification{
		Kind: o.kind, Merchant: merchant, EventType: o.event, Fields: fields, Omitted: o.omitted, Misfit: o.misfit, Resource: o.resource,
	}
	if n.ID = o.id; n.ID == "" {
		n.ID = o.created + string(o.resource)
	}
	return n
}

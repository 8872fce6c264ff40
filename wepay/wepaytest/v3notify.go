package wepaytest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// ErrNoAPIv3Key is for merchants that get no notifications of API v3, since they have not
// set the key that encrypts them.
var ErrNoAPIv3Key = errors.New("no APIv3 key")

// Event is a notification of API v3 that a test makes up: of a product that is
// not here, or in a form that WeChat is said to use as well.
type Event struct {
	URL          string // where it goes
	Type         string // event_type, such as TRANSACTION.SUCCESS
	OriginalType string // of the resource, and its associated_data, such as transaction
	Summary      string
	Resource     any // what is encrypted, written as JSON
}

// v3envelope is a notification of API v3 except its body. It is signed again each time it
// is sent.
type v3envelope struct {
	account *account
	fault   Fault
}

// WithMember changes a member of the encrypted content of a notification of API v3, by its
// path, such as amount.total. Nil removes it.
func WithMember(path string, value any) PayOption {
	return func(p *payment) { p.members = append(p.members, change{path, value}) }
}

// WithFault spoils a notification of API v3: WrongSignature, NoSignature, Probe,
// Skewed, HeaderMissing, HeaderDoubled, HeaderChanged, or WrongKey. It spoils the
// first attempt alone unless the fault is standing; WrongKey, which is in the
// body, spoils all.
func WithFault(f Fault) PayOption {
	return func(p *payment) { p.fault = f }
}

// WithEnvelope changes a member of a notification of API v3 itself, as WithMember does of
// its content, before it is signed: event_type, resource_type, resource.
func WithEnvelope(path string, value any) PayOption {
	return func(p *payment) { p.envelope = append(p.envelope, change{path, value}) }
}

// change is one to a notification or its resource.
type change struct {
	path  string
	value any
}

// Notify notifies a merchant of an event, as Pay does of a payment, with the same options:
// held, duplicated, faulty. The error wraps
// wepay.ErrNoMerchant, ErrNoAPIv3Key or ErrClosed.
func (s *Server) Notify(mchID string, e Event, options ...PayOption) (*Delivery, error) {
	return notifying(options, fmt.Sprintf("notifying %q of %s", mchID, e.Type), func(p payment) (*Delivery, error) {
		return s.eventOf(mchID, e, p)
	})
}

func (s *Server) eventOf(mchID string, e Event, p payment) (*Delivery, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, found := s.accounts[mchID]
	if !found {
		return nil, wepay.ErrNoMerchant
	}
	return s.deliveryV3(a, e, p)
}

// deliveryV3 is a notification of API v3 that was not sent yet.
func (s *Server) deliveryV3(a *account, e Event, p payment) (*Delivery, error) {
	if _, err := s.keys(a); err != nil {
		return nil, err
	}
	key := a.APIv3Key
	switch {
	case key == "":
		return nil, ErrNoAPIv3Key
	case p.fault.Kind == WrongKey:
		key = wrongKey
	}
	resource := e.Resource
	if o, ok := resource.(object); ok {
		resource = p.changed(o)
	}
	plain, err := encodeV3(resource)
	if err != nil {
		return nil, fmt.Errorf("writing the resource: %w", err)
	}
	encrypted, err := sealed(key, e.OriginalType, plain)
	if err != nil {
		return nil, err
	}
	encrypted["original_type"] = e.OriginalType
	envelope := object{
		"id": eventID(), "create_time": moment(s.clock.Now()), "resource_type": "encrypt-resource",
		"event_type": e.Type, "summary": e.Summary, "resource": encrypted,
	}
	for _, c := range p.envelope {
		envelope.put(c.path, c.value)
	}
	body, err := encodeV3(envelope)
	if err != nil {
		return nil, fmt.Errorf("writing the notification: %w", err)
	}
	f := p.fault
	if p.wrongSignature {
		f = Fault{Kind: WrongSignature, Standing: true}
	}
	d := s.delivery(e.URL, body, p)
	d.v3 = &v3envelope{account: a, fault: f}
	return d, nil
}

// changed is a resource as the options want it.
func (p payment) changed(o object) object {
	if p.abroad != nil {
		o = p.abroad.v3(o)
	}
	for _, field := range p.extra {
		o.put(field.Name, field.Value)
	}
	for _, c := range p.members {
		o.put(c.path, c.value)
	}
	return o
}

// eventID is a UUID, as the ids of WeChat's notifications.
func eventID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// payEvent is the event of a payment.
func (o *order) payEvent() Event {
	return Event{
		URL: o.request.Get("notify_url"), Type: "TRANSACTION.SUCCESS", OriginalType: "transaction",
		Summary: "支付成功", Resource: o.resource(paid),
	}
}

// Header returns the headers that a notification is sent with, of API v3 signed
// anew at the server's time, so that a test can send it itself with Body. What
// WithFault spoils is spoilt there too.
func (d *Delivery) Header() (http.Header, error) { return d.header(true) }

func (d *Delivery) header(first bool) (http.Header, error) {
	header := http.Header{"User-Agent": {"Mozilla/4.0"}, "Accept": {"*/*"}, "Pragma": {"no-cache"}}
	if d.v3 == nil {
		header.Set("Content-Type", "text/xml")
		return header, nil
	}
	header.Set("Content-Type", "application/json")
	f := d.v3.fault
	if !first && !f.Standing {
		f = Fault{}
	}
	k, now := d.server.notificationKey(d.v3.account)
	signed, err := f.sign(k, d.body, now)
	if err != nil {
		return nil, err
	}
	for name, values := range signed {
		header[name] = slices.Clone(values)
	}
	return header, nil
}

// notificationKey is the key that signs the next attempt.
func (s *Server) notificationKey(a *account) (*wechatKey, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return a.keyRing.forNotification(), s.clock.Now()
}

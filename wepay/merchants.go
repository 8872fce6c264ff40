package wepay

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Merchants are the merchants of one site or server, in the order in which
// they were configured.
type Merchants struct {
	all     []*Merchant
	byName  map[string]*Merchant
	byMchID map[string][]*Merchant
}

// NewMerchants rejects two merchants of one name, and two that could receive the
// same notification but disagree about its key or destination.
func NewMerchants(all ...*Merchant) (*Merchants, error) {
	ms := &Merchants{all: all, byName: make(map[string]*Merchant, len(all)), byMchID: make(map[string][]*Merchant)}
	for _, m := range all {
		if ms.byName[m.Name] != nil {
			return nil, &MerchantError{m.Name, errors.New("there are two of this name")}
		}
		ms.byName[m.Name] = m
		for _, other := range ms.byMchID[m.MchID] {
			if field, about := m.disagreement(other); about != "" && m.overlaps(other) {
				return nil, &MerchantError{m.Name, &FieldError{
					Field:  field,
					Reason: fmt.Sprintf("a notification of trade type %s cannot be told from one of merchant %q, and the two disagree about %s", m.Env.TradeType(), other.Name, about),
				}}
			}
		}
		ms.byMchID[m.MchID] = append(ms.byMchID[m.MchID], m)
	}
	return ms, nil
}

// All returns the merchants in the order in which they were configured.
func (ms *Merchants) All() []*Merchant { return ms.all }

// Named returns the merchant of a name, or nil.
func (ms *Merchants) Named(name string) *Merchant { return ms.byName[name] }

// Selector says which merchant a caller means. Empty fields match any.
type Selector struct {
	Name  string
	MchID string
	AppID string
	Env   Env
}

// Select returns the first merchant that matches. The error wraps ErrNoMerchant if
// none does, and if a selector that is not empty matches merchants of several
// accounts: which account pays is never a guess.
func (ms *Merchants) Select(s Selector) (*Merchant, error) {
	var selected *Merchant
	for _, m := range ms.all {
		if s.Name != "" && s.Name != m.Name || s.MchID != "" && s.MchID != m.MchID ||
			s.AppID != "" && s.AppID != m.AppID || s.Env != "" && s.Env != m.Env {
			continue
		}
		switch {
		case selected == nil:
			selected = m
		case s != Selector{} && (m.MchID != selected.MchID || m.SubMchID != selected.SubMchID):
			return nil, fmt.Errorf("%w: %q and %q both match, name one with merchant", ErrNoMerchant, selected.Name, m.Name)
		}
	}
	if selected == nil {
		return nil, fmt.Errorf("%w: none configured here has the merchant, mchId, appId and env asked for", ErrNoMerchant)
	}
	return selected, nil
}

// Recipient is what a notification says of whom it is for.
type Recipient struct {
	Kind      Kind // OtherEvent, which may say nothing of whom it is for; else it does not matter
	MchID     string
	AppID     string
	SubMchID  string
	TradeType string

	// Account is the merchant number whose money moved, other than by its own order:
	// the sender of a transfer, or the receiver of a share; of an OtherEvent the one
	// whose key it was verified with; "": none.
	Account string
	// APIv3Key is the key that opened a notification of API v3, which need not
	// say its appid; "": it is one of API v2.
	APIv3Key string
}

func (r Recipient) api() API {
	if r.APIv3Key != "" {
		return V3
	}
	return V2
}

// destination is where a merchant's notifications of an API go, in whose names,
// and the key they are known by. An OtherEvent goes to events alone.
type destination struct {
	payments, refunds, events, key string
	payload                        API
}

func (m *Merchant) destination(api API, kind Kind) (d destination) {
	if d.key = m.PartnerKey; api == V3 {
		d.key = m.APIv3Key
	}
	if kind == OtherEvent {
		d.events = m.CallbackURL(kind)
		return d
	}
	d.payments, d.refunds = m.CallbackURL(Payment), m.CallbackURL(Refunded)
	if api == V3 {
		d.payload = cmp.Or(m.Payload, V2)
	}
	return d
}

// disagreement returns the directives in which two merchants differ about a
// notification that could be for either, and the one that is to be put right; "" if
// they agree. An event goes to the one that has a cb_event_url.
func (m *Merchant) disagreement(other *Merchant) (field, about string) {
	differ := func(api API) bool {
		return m.Uses(api) && other.Uses(api) && m.destination(api, Payment) != other.destination(api, Payment)
	}
	switch {
	case differ(V2):
		return "cb_notify_url", "cb_notify_url, cb_refund_notify_url or partner_key"
	case differ(V3):
		return "cb_notify_url", "cb_notify_url, cb_refund_notify_url, payload or apiv3_key"
	case m.EventsDiffer(other):
		return "cb_event_url", "cb_event_url"
	default:
		return "", ""
	}
}

// EventsDiffer reports whether an OtherEvent of an account that two merchants share
// could be for either and go elsewhere: it need not say its appid.
func (m *Merchant) EventsDiffer(other *Merchant) bool {
	sameKey := m.PartnerKey != "" && m.PartnerKey == other.PartnerKey || m.APIv3Key != "" && m.APIv3Key == other.APIv3Key
	return m.MchID == other.MchID && sameKey && m.CbEventURL != "" && other.CbEventURL != "" && m.CbEventURL != other.CbEventURL
}

// overlaps reports whether a notification could be for either of two merchants.
func (m *Merchant) overlaps(other *Merchant) bool {
	if m.MchID != other.MchID || m.AppID != other.AppID || m.Env.TradeType() != other.Env.TradeType() {
		return false
	}
	if m.Type != Partner || other.Type != Partner {
		return m.Type == other.Type
	}
	return other.actsFor(m.SubMchID) || slices.ContainsFunc(m.SubMchIDs, other.actsFor) ||
		m.actsFor(other.SubMchID) || slices.ContainsFunc(other.SubMchIDs, m.actsFor) ||
		slices.Contains(m.SubMchIDs, AnySubMerchant) && slices.Contains(other.SubMchIDs, AnySubMerchant)
}

// receives says whether a notification is for this merchant's account. The
// trade type is left out: one account may have orders placed elsewhere.
func (m *Merchant) receives(r Recipient) bool {
	switch {
	case m.MchID != r.MchID || !m.actsFor(r.SubMchID):
		return false
	case r.api() == V3:
		return m.APIv3Key == r.APIv3Key && (m.AppID == r.AppID || r.AppID == "")
	default:
		return m.isNamed(r) && m.Uses(V2)
	}
}

// isNamed reports whether a notification of API v2 is for the merchant's appid. Only
// an OtherEvent may leave it out.
func (m *Merchant) isNamed(r Recipient) bool {
	return m.AppID == r.AppID || r.AppID == "" && r.Kind == OtherEvent
}

// shares reports whether a notification is for the merchant's account by the key that
// it is known by.
func (m *Merchant) shares(r Recipient) bool {
	if r.api() == V3 {
		return m.APIv3Key == r.APIv3Key
	}
	return m.Uses(V2)
}

// names reports whether a merchant's block says that it acts for this sub-merchant.
func (m *Merchant) names(sub string) bool {
	return sub != "" && (m.SubMchID == sub || slices.Contains(m.SubMchIDs, sub))
}

// Keyless returns the merchant of a notification that has no key of its API, and
// therefore is no Receiver; nil: there is none. A merchant of API v3 is told
// over API v2 of refunds that were made by hand.
func (ms *Merchants) Keyless(name string, r Recipient) *Merchant {
	for _, m := range ms.byMchID[r.MchID] {
		if m.isNamed(r) && m.actsFor(r.SubMchID) && !m.Uses(r.api()) && (name == "" || name == m.Name) {
			return m
		}
	}
	return nil
}

// Receiver returns the merchant that a notification is for: of those with its
// mch_id, appid and sub_mch_id the one with its trade type, else the first, if all
// of them agree on the destination. If there is none, a notification about an
// account's own money, or an OtherEvent, is for any merchant of that account. A name
// admits only that merchant. The error wraps ErrForeign.
func (ms *Merchants) Receiver(name string, r Recipient) (*Merchant, error) {
	candidates := ms.receivers(name, r)
	if name != "" && ms.Named(name) == nil {
		return nil, fmt.Errorf("%w: there is no merchant %.64q here", ErrForeign, name)
	}
	if len(candidates) == 0 {
		return nil, fmt.Errorf("%w: no merchant here has its mch_id, appid and sub_mch_id, and the key of its API", ErrForeign)
	}
	for _, m := range candidates[1:] {
		if m.destination(r.api(), r.Kind) != candidates[0].destination(r.api(), r.Kind) {
			return nil, fmt.Errorf("%w: it does not tell whether it is for %q or %q: have it sent to pay_notify/<merchant>", ErrForeign, candidates[0].Name, m.Name)
		}
	}
	return candidates[0], nil
}

// AppID returns the appid of a notification. If it has none, it is that of the
// merchants that it can be for; "" if theirs differ.
func (ms *Merchants) AppID(name string, r Recipient) string {
	if r.AppID != "" {
		return r.AppID
	}
	appID := ""
	for i, m := range ms.receivers(name, r) {
		if i > 0 && m.AppID != appID {
			return ""
		}
		appID = m.AppID
	}
	return appID
}

// receivers are all merchants that a notification can be for.
func (ms *Merchants) receivers(name string, r Recipient) []*Merchant {
	receivers := candidates(ms.byMchID[r.MchID], name, r.TradeType, func(m *Merchant) bool { return m.receives(r) })
	switch {
	case r.Kind == OtherEvent:
		return ms.receiversOfEvent(name, r, receivers)
	case len(receivers) == 0 && r.api() == V3:
		return candidates(ms.byMchID[r.Account], name, "", func(m *Merchant) bool { return m.shares(r) })
	default:
		return receivers
	}
}

// receiversOfEvent are those of an event that names some merchants, or none. One
// cb_event_url is enough for all that share an account.
func (ms *Merchants) receiversOfEvent(name string, r Recipient, named []*Merchant) []*Merchant {
	account := ms.byMchID[r.Account]
	if r.api() == V3 && r.Account == "" {
		account = ms.all // the key alone says which it is
	}
	// A name in the path admits no other's events to that merchant.
	ofOther := name != "" && slices.ContainsFunc(account, func(m *Merchant) bool { return m.Name != name && m.names(r.SubMchID) })
	sharing := candidates(account, name, "", func(m *Merchant) bool { return m.shares(r) && (!ofOther || m.names(r.SubMchID)) })
	for _, all := range [][]*Merchant{named, sharing} {
		var taking []*Merchant
		for _, m := range all {
			if m.CbEventURL != "" {
				taking = append(taking, m)
			}
		}
		if len(taking) > 0 {
			return taking
		}
	}
	if len(named) > 0 {
		return named
	}
	return sharing
}

// candidates are those of an account's merchants that receive a notification: the
// first of its trade type alone, if there is one. A name admits only that
// merchant.
func candidates(all []*Merchant, name, tradeType string, receives func(*Merchant) bool) (candidates []*Merchant) {
	for i, m := range all {
		switch {
		case name != "" && name != m.Name || !receives(m):
		case m.Env.TradeType() == tradeType:
			return all[i : i+1]
		default:
			candidates = append(candidates, m)
		}
	}
	return candidates
}

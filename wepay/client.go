package wepay

import (
	"cmp"
	"context"
	"net/http"
	"time"
)

// DefaultTimeout bounds one attempt to get an answer from one endpoint. It is
// the read time-out of WeChat's own SDK; answers usually take 30 to 300 ms.
const DefaultTimeout = 8 * time.Second

// ClientOptions change how a client of either API works; the zero value changes
// nothing.
type ClientOptions struct {
	// Transport has the merchant's connections; nil: NewTransport makes it. It
	// must be for this merchant alone and present its certificate.
	Transport http.RoundTripper
	// Timeout bounds one attempt to get an answer from one endpoint; 0:
	// DefaultTimeout.
	Timeout time.Duration
	// Now tells the time; nil: time.Now.
	Now func() time.Time

	// Pause waits between two calls, or returns the context's error when that ends
	// first; nil: by a timer. For API v2.
	Pause func(context.Context, time.Duration) error
	// RiskEndpoint gives the public key of bank payouts; "":
	// apiv2.DefaultRiskEndpoint. For API v2.
	RiskEndpoint string

	// Sending is called once for each call of Do or Native that begins something with
	// a number of the merchant's, which Asker.Outcome can ask about: right before the
	// first byte goes out, when what is to be sent is checked and complete. It is
	// called by the caller's goroutine, with the merchant as it acts for a
	// sub-merchant, and with API v2's names whichever API carries it, the ids as
	// appid, mch_id, sub_appid and sub_mch_id. The request may hold what is personal.
	// An error ends the call with Again, and nothing was sent. Nil: nothing is called.
	Sending func(ctx context.Context, merchant *Merchant, op Operation, request Fields) error

	// Omitted is called with each omission, by the goroutine that asked; nil: none
	// is reported. For API v3.
	Omitted func(Omission)
	// Unusable is called with each listed certificate that cannot be used, by the
	// goroutine that fetches or loads them; nil: none is reported. The other
	// certificates are used. For API v3.
	Unusable func(*Merchant, error)
}

// WithDefaults returns the options of a merchant's client with defaults in place
// of what both APIs need and is zero.
func (o ClientOptions) WithDefaults(merchant *Merchant) ClientOptions {
	if o.Transport == nil {
		o.Transport = NewTransport(merchant)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	return o
}

// Omission is what a caller does not get of a reply of API v3, because WeChat's
// own figures contradict each other. The rest of the reply is right.
type Omission struct {
	Merchant  *Merchant
	Operation Operation
	Number    string // the merchant's own, of the order or transfer
	Omitted   string // which fields of API v2, and why, for the log
}

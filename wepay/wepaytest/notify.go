package wepaytest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// retries is how long after each failure WeChat sends a notification again: 16
// times in all, over 24 hours and 4 minutes.
// Source: WeChat Pay, 支付结果通知.
var retries = []time.Duration{
	15 * time.Second, 15 * time.Second, 30 * time.Second,
	3 * time.Minute, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute, 30 * time.Minute, 30 * time.Minute,
	time.Hour, 3 * time.Hour, 3 * time.Hour, 3 * time.Hour, 6 * time.Hour, 6 * time.Hour,
}

// maxAnswer bounds a merchant's answer, which is of a hundred bytes.
const maxAnswer = 64 << 10

// ErrLost is why an attempt had no answer: see Server.LoseNotifications.
var ErrLost = errors.New("the notification is lost")

// LoseNotifications has a share of the notifications, of whatever kind and over either
// API, never arrive, however often they are sent: 1 for all, 0 for none. It is decided,
// by a seed, when the event happens that a notification is of, for those that happen
// from now on.
func (s *Server) LoseNotifications(share float64, seed uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lostShare, s.luck = share, rand.New(rand.NewPCG(seed, 0))
}

// loses decides about one notification. The server's lock is held.
func (s *Server) loses() bool { return s.lostShare > 0 && s.luck.Float64() < s.lostShare }

// Delivery is one notification on its way to a merchant. It may be used by
// many goroutines.
type Delivery struct {
	server *Server
	url    string
	body   []byte
	copies int         // sent at the same time
	v3     *v3envelope // nil of API v2

	retries []time.Duration // how long after each failure it is sent again
	lost    bool            // it never arrives

	mu       sync.Mutex
	released bool
	attempts []Attempt
}

// Attempt is one time that a notification was sent.
type Attempt struct {
	At     time.Time // by the server's clock
	Status int       // the answer's HTTP status, 0 without an answer
	Answer []byte    // its body
	Taken  bool      // it was the answer that WeChat wants
	Err    error     // why there was no answer
}

// Body returns what is sent, of API v3 less its signature.
func (d *Delivery) Body() []byte { return slices.Clone(d.body) }

// Attempts returns what was sent so far, in the order in which it ended.
func (d *Delivery) Attempts() []Attempt {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.attempts)
}

// Taken says whether the merchant took the notification, after which it is not
// sent again.
func (d *Delivery) Taken() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.attempts, func(a Attempt) bool { return a.Taken })
}

// Release sends a notification that was held, and returns when the first
// attempt has ended. A second time it does nothing. The error is ErrClosed.
func (d *Delivery) Release() error {
	d.mu.Lock()
	released := d.released
	d.released = true
	d.mu.Unlock()
	if released {
		return nil
	}
	if !d.server.tasks.run(func() { d.round(0) }) {
		return ErrClosed
	}
	return nil
}

// releaseAfter is Release in a while.
func (d *Delivery) releaseAfter(delay time.Duration) {
	d.mu.Lock()
	d.released = true
	d.mu.Unlock()
	d.server.tasks.after(d.server.clock, delay, func() { d.round(0) })
}

// Repeat sends the notification once more, taken or not, as WeChat does when
// the merchant's answer got lost on its way. The error is ErrClosed.
func (d *Delivery) Repeat() error {
	if !d.server.tasks.run(func() { d.send(false) }) {
		return ErrClosed
	}
	return nil
}

// round sends for the n-th time, from 0, and schedules the next.
func (d *Delivery) round(n int) {
	if d.Taken() {
		return
	}
	d.send(n == 0)
	if !d.Taken() && n < len(d.retries) {
		d.server.tasks.after(d.server.clock, d.retries[n], func() { d.round(n + 1) })
	}
}

// send makes one attempt, or as many at once as there are copies.
func (d *Delivery) send(first bool) {
	var all sync.WaitGroup
	for range d.copies {
		all.Go(func() {
			a := d.attempt(first)
			d.mu.Lock()
			defer d.mu.Unlock()
			d.attempts = append(d.attempts, a)
		})
	}
	all.Wait()
}

func (d *Delivery) attempt(first bool) Attempt {
	a := Attempt{At: d.server.clock.Now()}
	if d.lost {
		a.Err = ErrLost
		return a
	}
	a.Status, a.Answer, a.Err = d.post(first)
	a.Taken = a.Err == nil && d.takenBy(a)
	return a
}

// post sends the notification with the headers that WeChat has. No redirect is
// followed.
func (d *Delivery) post(first bool) (status int, answer []byte, err error) {
	ctx, cancel := context.WithTimeout(d.server.ctx, d.server.notifyTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url, bytes.NewReader(d.body))
	if err != nil {
		return 0, nil, fmt.Errorf("notifying: %w", err)
	}
	if req.Header, err = d.header(first); err != nil {
		return 0, nil, fmt.Errorf("notifying: %w", err)
	}
	resp, err := d.server.notifier.RoundTrip(req)
	if err != nil {
		return 0, nil, fmt.Errorf("notifying: %w", err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return resp.StatusCode, answer, fmt.Errorf("reading the merchant's answer: %w", err)
	}
	return resp.StatusCode, answer, nil
}

// takenBy says whether an answer is the one that WeChat wants: of API v3 the
// status alone decides.
func (d *Delivery) takenBy(a Attempt) bool {
	if d.v3 != nil {
		return a.Status == http.StatusOK || a.Status == http.StatusNoContent
	}
	return a.Status == http.StatusOK && taken(a.Answer)
}

// taken reports whether an answer accepts a notification: the XML without a byte
// before or after it, no other field, return_code SUCCESS.
func taken(answer []byte) bool {
	if !bytes.HasPrefix(answer, []byte("<xml>")) || !bytes.HasSuffix(answer, []byte("</xml>")) {
		return false
	}
	fields, err := apiv2.Decode("xml", answer)
	if err != nil {
		return false
	}
	for _, field := range fields {
		if field.Name != "return_code" && field.Name != "return_msg" {
			return false
		}
	}
	return fields.Get("return_code") == "SUCCESS" && len(fields.Get("return_msg")) <= 128
}

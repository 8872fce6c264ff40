package apiv3

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// Platforms finds the accounts that a notification may be for by the serial
// number of the key that signed it, which is all that it says before it is
// opened.
type Platforms struct {
	all []*Platform

	mu       sync.Mutex
	bySerial map[string][]*Platform // nil: to be made anew
	asked    time.Time              // when WeChat was asked last for one nobody holds
	about    *Platform              // the account that it was asked about
}

// NewPlatforms puts accounts together. A platform can be in one of them only.
func NewPlatforms(all ...*Platform) *Platforms {
	ps := &Platforms{all: all}
	for _, p := range all {
		p.changed = ps.forget
	}
	return ps
}

// All returns the accounts.
func (ps *Platforms) All() []*Platform { return ps.all }

// Find returns the accounts that hold a key. For a certificate that none holds
// WeChat is asked, about the account that it was not asked about for longest, and
// not more often than once in a minute: who comes meanwhile waits for the answer,
// or has what came of it. The errors are Platform.Key's.
func (ps *Platforms) Find(ctx context.Context, serial string) ([]*Platform, error) {
	if holders := ps.holding(serial); len(holders) > 0 {
		return holders, nil
	}
	for _, p := range ps.all {
		p.Load(ctx)
	}
	if holders := ps.holding(serial); len(holders) > 0 {
		return holders, nil
	}
	unknown := fmt.Errorf("%w: no merchant here has the key of %s", wepay.ErrUnknownKey, headerSerial)
	candidate, again := ps.candidate(serial)
	if candidate == nil {
		return nil, unknown
	}
	if _, err := candidate.Key(ctx, serial); err != nil {
		if again && errors.Is(err, wepay.ErrUnknownKey) {
			return nil, unknown // it may be another account's
		}
		return nil, err
	}
	return ps.holding(serial), nil
}

// holding returns those that hold a key now.
func (ps *Platforms) holding(serial string) []*Platform {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.bySerial == nil {
		ps.bySerial = make(map[string][]*Platform)
		for _, p := range ps.all {
			for _, serial := range p.serials() {
				ps.bySerial[serial] = append(ps.bySerial[serial], p)
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(ps.bySerial[serial]), func(p *Platform) bool { return !p.Holds(serial) })
}

// forget has the serial numbers gathered anew.
func (ps *Platforms) forget() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.bySerial = nil
}

// candidate returns the account to ask WeChat about for a certificate that
// nobody holds, or again the one that it was asked about less than a minute ago;
// nil: nobody.
func (ps *Platforms) candidate(serial string) (candidate *Platform, again bool) {
	if parsed, err := wepay.ParseSerial(serial); err != nil || parsed != serial {
		return nil, false
	}
	var longest *Platform
	var since time.Time
	for _, p := range ps.all {
		p.mu.Lock()
		asked := p.asked
		p.mu.Unlock()
		if longest == nil || asked.Before(since) {
			longest, since = p, asked
		}
	}
	if longest == nil {
		return nil, false
	}
	now := longest.now()
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.about != nil && now.Sub(ps.asked) < askForNotification {
		return ps.about, true
	}
	ps.asked, ps.about = now, longest
	return longest, false
}

// serials are all that name a key of the account.
func (p *Platform) serials() []string {
	var serials []string
	if p.merchant.PublicKey != nil {
		serials = append(serials, p.merchant.PublicKeyID)
	}
	if cs := p.certificates.Load(); cs != nil {
		for serial := range cs.bySerial {
			serials = append(serials, serial)
		}
	}
	return serials
}

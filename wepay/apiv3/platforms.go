package apiv3

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/windsome/caddy-wepay/wepay"
)

// Platforms finds the accounts that a notification may be for: by the serial
// number of the key that signed it, or by whose APIv3 key opens it, which is all
// that it says before it is verified.
type Platforms struct {
	all []*Platform

	mu       sync.Mutex
	bySerial map[string][]*Platform // nil: to be made anew
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

// Find returns the accounts that hold the key that a notification is signed with.
// For a certificate that none holds it is the account whose APIv3 key opens the
// content, about which WeChat is asked on the terms of Platform.Key; the errors
// are Key's, too, or wrap wepay.ErrBusy where too many look for that account.
func (ps *Platforms) Find(ctx context.Context, u *Unverified) ([]*Platform, error) {
	serial := u.Serial()
	if holders := ps.holding(serial); len(holders) > 0 {
		return holders, nil
	}
	opening, err := ps.opening(ctx, u)
	if err != nil {
		return nil, err
	}
	failed := fmt.Errorf("%w: no merchant here has the key of %s, nor the apiv3_key that opens the content", wepay.ErrUnknownKey, headerSerial)
	for _, p := range opening { // several, where accounts were given one APIv3 key
		_, err := p.key(ctx, serial, askForNotification)
		if err == nil {
			return []*Platform{p}, nil // whatever others have it, too
		}
		if !errors.Is(failed, wepay.ErrNoAnswer) { // it may have been the one that could not be asked
			failed = err
		}
	}
	return nil, failed
}

// opening returns the accounts whose APIv3 key opens what a notification brings,
// which costs a trial for each of all.
func (ps *Platforms) opening(ctx context.Context, u *Unverified) ([]*Platform, error) {
	if len(ps.all) == 0 || !namesCertificate(u.Serial()) {
		return nil, nil
	}
	if err := u.signature.fresh(ps.all[0].now()); err != nil {
		return nil, err
	}
	end, err := search(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	t, err := u.trial(ps.all[0].now())
	if err != nil {
		return nil, err
	}
	var opening []*Platform
	for _, p := range ps.all {
		if ctx.Err() != nil {
			return nil, unsearched(context.Cause(ctx))
		}
		if t.opens(p) {
			opening = append(opening, p)
		}
	}
	return opening, nil
}

// searching is held by whoever tries the keys of all accounts: one at a time in a
// process, so that strangers keep one processor busy at most. Waiting is held by
// those who wait for it as well, each with a notification in memory.
var (
	searching = make(chan struct{}, 1)
	waiting   = make(chan struct{}, 64)
)

// search waits for the turn to try keys, which lasts until it is ended.
func search(ctx context.Context) (end func(), err error) {
	select {
	case waiting <- struct{}{}:
	default:
		return nil, unsearched(errors.New("too many wait for that"))
	}
	select {
	case searching <- struct{}{}:
		return func() { <-searching; <-waiting }, nil
	case <-ctx.Done():
		<-waiting
		return nil, unsearched(context.Cause(ctx))
	}
}

// unsearched is for who had no time for that. Strangers can bring it about, so
// that it is no failure to get an answer.
func unsearched(why error) error {
	return fmt.Errorf("%w: to try each merchant's apiv3_key on notifications that name unknown keys (name the merchant in notify_url): %w", wepay.ErrBusy, why)
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

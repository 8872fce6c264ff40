package apiv3

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/windsome/caddy-wepay/wepay"
)

// KeyRings finds the accounts that a notification may be for: by the serial
// number of the key that signed it, or by whose APIv3 key opens it, which is all
// that it says before it is verified.
type KeyRings struct {
	all []*KeyRing

	mu       sync.Mutex
	bySerial map[string][]*KeyRing // nil: to be made anew
}

// NewKeyRings puts accounts together. A key ring can be in one of them only.
func NewKeyRings(all ...*KeyRing) *KeyRings {
	ks := &KeyRings{all: all}
	for _, k := range all {
		k.changed = ks.forget
	}
	return ks
}

// All returns the accounts.
func (ks *KeyRings) All() []*KeyRing { return ks.all }

// Find returns the accounts that hold the key that a notification is signed with.
// For a certificate that none holds it is the account whose APIv3 key opens the
// content, about which WeChat is asked on the terms of KeyRing.Key; the errors
// are Key's, too, or wrap wepay.ErrBusy where too many look for that account.
func (ks *KeyRings) Find(ctx context.Context, u *Unverified) ([]*KeyRing, error) {
	serial := u.Serial()
	if holders := ks.holding(serial); len(holders) > 0 {
		return holders, nil
	}
	opening, err := ks.opening(ctx, u)
	if err != nil {
		return nil, err
	}
	failed := fmt.Errorf("%w: no merchant here has the key of %s, nor the apiv3_key that opens the content", wepay.ErrUnknownKey, headerSerial)
	for _, k := range opening { // several, where accounts were given one APIv3 key
		_, err := k.key(ctx, serial, askForNotification)
		if err == nil {
			return []*KeyRing{k}, nil // whatever others have it, too
		}
		if !errors.Is(failed, wepay.ErrNoAnswer) { // it may have been the one that could not be asked
			failed = err
		}
	}
	return nil, failed
}

// opening returns the accounts whose APIv3 key opens what a notification brings,
// which costs a trial for each of all.
func (ks *KeyRings) opening(ctx context.Context, u *Unverified) ([]*KeyRing, error) {
	if len(ks.all) == 0 || !namesCertificate(u.Serial()) {
		return nil, nil
	}
	if err := u.signature.fresh(ks.all[0].options.Now()); err != nil {
		return nil, err
	}
	end, err := search(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	t, err := u.trialDecryption(ks.all[0].options.Now())
	if err != nil {
		return nil, err
	}
	var opening []*KeyRing
	for _, k := range ks.all {
		if ctx.Err() != nil {
			return nil, unsearched(context.Cause(ctx))
		}
		if t.opens(k) {
			opening = append(opening, k)
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
func (ks *KeyRings) holding(serial string) []*KeyRing {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if ks.bySerial == nil {
		ks.bySerial = make(map[string][]*KeyRing)
		for _, k := range ks.all {
			for _, serial := range k.serials() {
				ks.bySerial[serial] = append(ks.bySerial[serial], k)
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(ks.bySerial[serial]), func(k *KeyRing) bool { return !k.Holds(serial) })
}

// forget has the serial numbers gathered anew.
func (ks *KeyRings) forget() {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	ks.bySerial = nil
}

// serials are all that name a key of the account.
func (k *KeyRing) serials() []string {
	var serials []string
	if k.merchant.PublicKey != nil {
		serials = append(serials, k.merchant.PublicKeyID)
	}
	if cs := k.certificates.Load(); cs != nil {
		for serial := range cs.bySerial {
			serials = append(serials, serial)
		}
	}
	return serials
}

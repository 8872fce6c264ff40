package caddymodule

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
)

// openNotification reads a notification of API v3: it is verified with the key
// that it names, and then opened with the APIv3 key of an account that has the
// key it was verified with. Only what is inside says which merchant it is for.
// The merchant is returned with an error as well where only one can be meant.
func (h *Handler) openNotification(ctx context.Context, header http.Header, body []byte, name string) (*wepay.Merchant, *wepay.Notification, error) {
	unverified, err := apiv3.ReadNotification(header, body)
	if err != nil {
		return h.merchants.Named(name), nil, err
	}
	keyRings, err := h.known(ctx, unverified, name)
	if err != nil {
		return h.merchants.Named(name), nil, err
	}
	opened, account, err := open(ctx, unverified, keyRings)
	if err != nil {
		return h.suspect(keyRings, name), nil, err
	}
	recipient := opened.Recipient()
	receiver, err := h.merchants.Receiver(name, recipient)
	if err != nil && opened.EventType() == wepay.SecurityEchoed { // which of the account's does not matter
		receiver, err = account, nil
	}
	if err != nil {
		return h.merchants.Named(name), nil, err
	}
	return receiver, opened.Notification(receiver, h.merchants.AppID(name, recipient)), nil
}

// known returns what knows the key that a notification is signed with: of the
// merchant that the path names, else of all.
func (h *Handler) known(ctx context.Context, unverified *apiv3.Unverified, name string) ([]*apiv3.KeyRing, error) {
	if name == "" {
		return h.app.keyRings.Find(ctx, unverified)
	}
	merchant := h.merchants.Named(name)
	if merchant == nil {
		return nil, fmt.Errorf("%w: there is no merchant %.64q here", wepay.ErrForeign, name)
	}
	keyRing := h.app.accounts[merchant].keyRing
	switch {
	case !merchant.Uses(wepay.V3):
		return nil, fmt.Errorf("%w: %w", errNoAPIv3Key, merchant.NotAble("apiv3_key"))
	case keyRing == nil:
		return nil, fmt.Errorf("%w: %w", wepay.ErrUnknownKey, merchant.NotAble("public_key, or private_key and mch_serial,"))
	}
	if _, err := keyRing.Key(ctx, unverified); err != nil {
		return nil, err
	}
	return []*apiv3.KeyRing{keyRing}, nil
}

// open verifies a notification once with each key of WeChat's and opens it with
// the APIv3 keys of those accounts whose it was. It returns a merchant of the one
// whose key opened it as well.
func open(ctx context.Context, unverified *apiv3.Unverified, keyRings []*apiv3.KeyRing) (*apiv3.Opened, *wepay.Merchant, error) {
	failed := wepay.ErrUnknownKey // where a certificate has just expired
	var done verification
	var echo *apiv3.Opened
	var echoed *wepay.Merchant
	tried := make(map[string]bool, 1)
	for _, keyRing := range keyRings {
		key, err := keyRing.Key(ctx, unverified)
		if err != nil {
			return nil, nil, err
		}
		sealed, err := done.by(key, unverified)
		if err != nil {
			failed = err
			continue
		}
		if bare := sealed.Echo(); bare != nil {
			if echo != nil && echoed.MchID != keyRing.Merchant().MchID {
				return nil, nil, fmt.Errorf("%w: a test without content does not tell whether it is for %q or %q: have it sent to %s/<merchant>",
					wepay.ErrForeign, echoed.Name, keyRing.Merchant().Name, payNotify)
			}
			echo, echoed = bare, keyRing.Merchant()
			continue
		}
		apiV3Key := keyRing.Merchant().APIv3Key
		if tried[apiV3Key] {
			continue
		}
		tried[apiV3Key] = true
		ofOthers := func(other *apiv3.KeyRing) bool {
			return other.Merchant().APIv3Key == apiV3Key && other.Merchant().MchID != keyRing.Merchant().MchID
		}
		var opened *apiv3.Opened
		if slices.ContainsFunc(keyRings, ofOthers) { // so that the key does not say whose it is
			opened, err = sealed.Open(apiV3Key)
		} else {
			opened, err = keyRing.Open(sealed)
		}
		if !errors.Is(err, wepay.ErrAPIv3Key) {
			return opened, keyRing.Merchant(), err
		}
		failed = err
	}
	if echo != nil {
		return echo, echoed, nil
	}
	return nil, nil, failed
}

// verification is what came of verifying one notification, by the keys tried.
type verification []verified

type verified struct {
	key    *rsa.PublicKey
	sealed *apiv3.Sealed
	err    error
}

func (v *verification) by(key *rsa.PublicKey, unverified *apiv3.Unverified) (*apiv3.Sealed, error) {
	for _, before := range *v {
		if before.key.Equal(key) {
			return before.sealed, before.err
		}
	}
	sealed, err := unverified.Verify(key, time.Now())
	*v = append(*v, verified{key, sealed, err})
	return sealed, err
}

// suspect returns the merchant that a notification that is refused seems to be
// for: one of the account that knows its key, if that is only one.
func (h *Handler) suspect(keyRings []*apiv3.KeyRing, name string) *wepay.Merchant {
	if name == "" && len(keyRings) == 1 {
		name = keyRings[0].Merchant().Name
	}
	return h.merchants.Named(name)
}

package apiv3_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
)

// lister is a WeChat that lists one certificate, and the account that asks it.
func lister(t *testing.T, name string, w *wechat, body *string) *apiv3.Platform {
	t.Helper()
	m := w.merchant(t)
	m.Name, m.PublicKey, m.PublicKeyID = name, nil, ""
	return apiv3.NewPlatform(m, nil, apiv3.WithClock(w.clock.Now), apiv3.WithTransport(plainTransport(t)))
}

func listing(t *testing.T, serial int64) (w *wechat, body *string) {
	t.Helper()
	body = new(string)
	*body = list(t, listed{serial: serial, from: start.Add(-time.Hour), to: start.Add(24 * time.Hour)})
	w = newWechat(t, func(http.ResponseWriter, *http.Request) answer {
		return answer{body: *body, header: signedBy(t, wechatsKey(t), serialOf(serial), *body)}
	})
	return w, body
}

// An account is found by the key that signed, and WeChat asked about the one that
// it was not asked about for longest.
func TestPlatforms(t *testing.T) {
	one, body := listing(t, 1)
	two, _ := listing(t, 2)
	public := one.merchant(t)
	public.Name = "public"
	a, b := lister(t, "a", one, body), lister(t, "b", two, nil)
	c := apiv3.NewPlatform(public, nil, apiv3.WithClock(one.clock.Now), apiv3.WithTransport(plainTransport(t)))
	twin := apiv3.NewPlatform(public, nil, apiv3.WithClock(one.clock.Now), apiv3.WithTransport(plainTransport(t)))
	ps := apiv3.NewPlatforms(a, b, c, twin)
	if !slices.Equal(ps.All(), []*apiv3.Platform{a, b, c, twin}) {
		t.Errorf("got %v", ps.All())
	}
	found, err := ps.Find(t.Context(), public.PublicKeyID)
	if err != nil || !slices.Equal(found, []*apiv3.Platform{c, twin}) || one.asked()+two.asked() != 0 {
		t.Errorf("by the public key: got %v, %v", found, err)
	}
	if found, err := ps.Find(t.Context(), serialOf(1)); err != nil || !slices.Equal(found, []*apiv3.Platform{a}) || one.asked() != 1 {
		t.Errorf("by a certificate: got %v, %v", found, err)
	}
	// Not twice in a minute, whoever it is about.
	for range 10 {
		if _, err := ps.Find(t.Context(), serialOf(2)); !errors.Is(err, wepay.ErrUnknownKey) {
			t.Errorf("got %v", err)
		}
	}
	if one.asked() != 1 || two.asked() != 0 {
		t.Errorf("asked %d and %d times", one.asked(), two.asked())
	}
	one.clock.Advance(time.Minute)
	two.clock.Advance(time.Minute)
	if found, err := ps.Find(t.Context(), serialOf(2)); err != nil || !slices.Equal(found, []*apiv3.Platform{b}) {
		t.Errorf("a minute later: got %v, %v", found, err)
	}
	// What an account learns by itself is found as well.
	*body = list(t, listed{serial: 1, from: start.Add(-time.Hour), to: start.Add(24 * time.Hour)}, listed{serial: 7})
	if err := a.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found, err := ps.Find(t.Context(), serialOf(7)); err != nil || !slices.Equal(found, []*apiv3.Platform{a}) {
		t.Errorf("a new one: got %v, %v", found, err)
	}
	one.clock.Advance(2 * time.Hour)
	if found, err := ps.Find(t.Context(), serialOf(7)); err == nil {
		t.Errorf("an expired one: got %v", found)
	}
	for _, odd := range []string{"", "x", strings.Repeat("a", 40), "PUB_KEY_ID_01"} {
		if found, err := ps.Find(t.Context(), odd); !errors.Is(err, wepay.ErrUnknownKey) {
			t.Errorf("%q: got %v, %v", odd, found, err)
		}
	}
	if _, err := apiv3.NewPlatforms().Find(t.Context(), serialOf(1)); !errors.Is(err, wepay.ErrUnknownKey) {
		t.Errorf("of none: got %v", err)
	}
}

// After a restart the accounts are found by what was kept.
func TestPlatformsAfterRestart(t *testing.T) {
	s := openShop(t, ways[0])
	if err := s.platform.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	serial := s.platform.Serial()
	s.connect()
	ps := apiv3.NewPlatforms(s.platform)
	if found, err := ps.Find(t.Context(), serial); err != nil || len(found) != 1 || s.fetches() != 1 {
		t.Errorf("got %v, %v, %d fetches", found, err, s.fetches())
	}
}

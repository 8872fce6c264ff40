package apiv3_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

const certificatesPath = "/v3/certificates"

func (s *shop) fetches() int { return len(s.wechat.Requests(certificatesPath)) }

func (s *shop) signs() string {
	s.t.Helper()
	certs, err := s.wechat.PlatformCertificates(mchID)
	if err != nil {
		s.t.Fatal(err)
	}
	return wepay.CertificateSerial(certs[len(certs)-1])
}

// A certificate is fetched once, when the first reply needs it, and named from
// then on.
func TestCertificateIsFetched(t *testing.T) {
	s := openShop(t, ways[0])
	if s.keyRing.Serial() != "" {
		t.Errorf("names %s", s.keyRing.Serial())
	}
	for range 3 {
		s.do(wepay.PlaceOrder, order("ORDER-0001", "1"))
	}
	requests := s.wechat.Requests("/v3/pay/transactions/jsapi")
	if s.fetches() != 1 || requests[0].Header.Get("Wechatpay-Serial") != "" || requests[2].Header.Get("Wechatpay-Serial") != s.signs() {
		t.Errorf("%d fetches, then named %q", s.fetches(), requests[2].Header.Get("Wechatpay-Serial"))
	}
	if !s.keyRing.Holds(s.signs()) || s.keyRing.Serial() != s.signs() || s.keyRing.Holds("") {
		t.Errorf("names %s, want %s", s.keyRing.Serial(), s.signs())
	}
}

// Certificates overlap while they are rotated: each is known by its number, the
// newest in force is named and encrypted with, and one that WeChat has retired does
// not keep the next from coming.
func TestRotation(t *testing.T) {
	s := openShop(t, ways[0])
	if err := s.wechat.Deposit(mchID, 1_000_000); err != nil {
		t.Fatal(err)
	}
	s.do(wepay.PlaceOrder, order("ORDER-0001", "1"))
	first := s.keyRing.Serial()
	s.clock.Advance(time.Hour)
	second, err := s.wechat.AnnounceCertificate(mchID)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.keyRing.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !s.keyRing.Holds(first) || !s.keyRing.Holds(second) || s.keyRing.Serial() != second {
		t.Errorf("names %s, want %s", s.keyRing.Serial(), second)
	}
	s.do(wepay.Transfer, with(transfer("TR1", "200000"), "re_user_name", "张三"))
	s.do(wepay.PlaceOrder, order("ORDER-0002", "1"))

	s.clock.Advance(time.Hour)
	third, err := s.wechat.RotateCertificate(mchID) // second
	if err == nil {
		third, err = s.wechat.RotateCertificate(mchID)
	}
	if err == nil {
		err = s.wechat.RetireCertificates(mchID)
	}
	if err != nil || third == second {
		t.Fatal(third, err)
	}
	// The reply that says that the name is old is signed with a certificate that is
	// new, and it is accepted.
	s.refused(wepay.QueryOrder, fields("out_trade_no", "ORDER-0002"), "PARAM_ERROR", wepay.Fix)
	s.do(wepay.QueryOrder, fields("out_trade_no", "ORDER-0002"))
	if s.keyRing.Serial() != third || s.keyRing.Holds(first) {
		t.Errorf("names %s, want %s", s.keyRing.Serial(), third)
	}
}

// The account that has nothing but the public key has no certificates, and is
// told what to set.
func TestNoCertificates(t *testing.T) {
	s := openShop(t, ways[2], func(m *wepay.Merchant) { m.PublicKey, m.PublicKeyID = nil, "" })
	err := s.keyRing.Refresh(t.Context())
	if !errors.Is(err, wepay.ErrNoAnswer) || !strings.Contains(err.Error(), "public_key") {
		t.Errorf("got %v", err)
	}
	_, err = s.client.Do(t.Context(), wepay.PlaceOrder, order("ORDER-0001", "1"))
	wantError(t, err, wepay.Query)
	if !strings.Contains(err.Error(), "public key of another account, or public_key is missing") {
		t.Errorf("got %v", err)
	}
	s.merchant.Payouts = true
	_, err = s.client.Do(t.Context(), wepay.Transfer, with(transfer("TR1", "200000"), "re_user_name", "张三"))
	wantError(t, err, wepay.Again) // nothing was sent
	if n := len(s.wechat.Requests(billsPath)); n != 0 {
		t.Errorf("%d transfers were sent", n)
	}
}

func TestWrongAPIv3Key(t *testing.T) {
	s := openShop(t, ways[0], func(m *wepay.Merchant) { m.APIv3Key = strings.Repeat("x", 32) })
	err := s.keyRing.Refresh(t.Context())
	if !errors.Is(err, wepay.ErrAPIv3Key) || !strings.Contains(err.Error(), "apiv3_key") || strings.Contains(err.Error(), s.merchant.APIv3Key) {
		t.Errorf("got %v", err)
	}
	_, err = s.client.Do(t.Context(), wepay.PlaceOrder, order("ORDER-0001", "1"))
	if wantError(t, err, wepay.Query); !errors.Is(err, wepay.ErrAPIv3Key) {
		t.Errorf("got %v", err)
	}
}

// Stored certificates suffice after a restart without a network.
func TestRestart(t *testing.T) {
	s := openShop(t, ways[0])
	s.do(wepay.PlaceOrder, order("ORDER-0001", "1"))
	serial := s.keyRing.Serial()
	s.wechat.Misbehave(certificatesPath, wepaytest.Fault{Kind: wepaytest.Reset, Standing: true})
	s.connect()
	if key, err := s.keyRing.Key(t.Context(), s.naming(serial)); err != nil || key == nil {
		t.Errorf("got %v, %v", key, err)
	}
	s.do(wepay.PlaceOrder, order("ORDER-0001", "1"))
	if s.fetches() != 1 {
		t.Errorf("%d fetches", s.fetches())
	}
	if err := s.keyRing.Refresh(t.Context()); err == nil || !s.keyRing.Holds(serial) {
		t.Errorf("a fetch that fails: %v, holds %v", err, s.keyRing.Holds(serial))
	}
	if _, due := s.keyRing.Due(); !due {
		t.Error("nothing is due")
	}
	if at, _ := s.keyRing.Due(); !at.Equal(s.clock.Now().Add(5 * time.Minute)) {
		t.Errorf("due at %s", at)
	}
}

// What cannot be what WeChat said is fetched again.
func TestStoreIsCorrupted(t *testing.T) {
	for name, changed := range map[string]func([]byte) []byte{
		"cut":   func(b []byte) []byte { return b[:len(b)/2] },
		"empty": func([]byte) []byte { return nil },
		"one bit": func(b []byte) []byte {
			return []byte(strings.Replace(string(b), `"ciphertext":"`, `"ciphertext":"A`, 1))
		},
		"another key": func(b []byte) []byte { return b },
	} {
		t.Run(name, func(t *testing.T) {
			s := openShop(t, ways[0])
			s.do(wepay.PlaceOrder, order("ORDER-0001", "1"))
			for key, value := range s.store.values {
				s.store.values[key] = changed(value)
			}
			if name == "another key" {
				s.merchant.APIv3Key = strings.Repeat("y", 32)
				if err := s.wechat.AddMerchant(wepaytest.Merchant{MchID: mchID, AppIDs: []string{appID}, APIv3Key: s.merchant.APIv3Key}); err != nil {
					t.Fatal(err)
				}
			}
			s.connect()
			s.do(wepay.PlaceOrder, order("ORDER-0001", "1"))
			if s.fetches() != 2 {
				t.Errorf("%d fetches", s.fetches())
			}
			s.connect()
			s.keyRing.Load(t.Context())
			if !s.keyRing.Holds(s.signs()) {
				t.Error("what was fetched is not stored")
			}
		})
	}
}

// What brings a content that the account's APIv3 key opens has WeChat asked, though
// not more often than once in a minute.
func TestUnknownSerials(t *testing.T) {
	s := openShop(t, ways[0])
	ask := func(n int) error {
		_, err := s.keyRing.Key(t.Context(), s.naming(fmt.Sprintf("%040X", n)))
		return err
	}
	for n := range 50 {
		if err := ask(n); !errors.Is(err, wepay.ErrUnknownKey) || !strings.Contains(err.Error(), "does not list") {
			t.Errorf("got %v", err)
		}
	}
	if s.fetches() != 1 {
		t.Errorf("%d fetches in a minute", s.fetches())
	}
	s.clock.Advance(time.Minute)
	_ = ask(1)
	_ = ask(2)
	if s.fetches() != 2 {
		t.Errorf("%d fetches in two minutes", s.fetches())
	}
	s.clock.Advance(time.Minute)
	for _, serial := range []string{"x", strings.ToLower(s.signs()), s.signs() + "0", "PUB_KEY_ID_01", s.merchant.MchSerial} {
		if _, err := s.keyRing.Key(t.Context(), s.naming(serial)); !errors.Is(err, wepay.ErrUnknownKey) {
			t.Errorf("%q: got %v", serial, err)
		}
	}
	if s.fetches() != 2 {
		t.Errorf("%d fetches for what names no certificate", s.fetches())
	}
}

// Whoever has not the APIv3 key does not have WeChat asked, nor the store, by
// whatever serial numbers: it is refused as a stranger's.
func TestSerialsOfStrangers(t *testing.T) {
	s := openShop(t, ways[0])
	all := apiv3.NewKeyRings(s.keyRing)
	now := s.clock.Now()
	for name, u := range map[string]*apiv3.Unverified{
		"under another key":    naming(t, serialOf(1), strings.Repeat("x", 32), now),
		"for this moment only": naming(t, serialOf(1), apiV3Key, now.Add(-6*time.Minute)),
		"nothing":              unverified(t, serialOf(1), now, ""),
		"no JSON":              unverified(t, serialOf(1), now, "<xml>"),
		"no resource":          unverified(t, serialOf(1), now, `{"resource_type":"encrypt-resource"}`),
		"an odd nonce":         unverified(t, serialOf(1), now, `{"resource_type":"encrypt-resource","resource":{"algorithm":"AEAD_AES_256_GCM","nonce":"1","ciphertext":"AAAAAAAAAAAAAAAAAAAAAAAA"}}`),
		"a short ciphertext":   unverified(t, serialOf(1), now, `{"resource_type":"encrypt-resource","resource":{"algorithm":"AEAD_AES_256_GCM","nonce":"61f9c719728a","ciphertext":"AAAA"}}`),
		"of a certificate":     unverified(t, serialOf(1), now, `{"resource_type":"encrypt-resource","resource":{"algorithm":"AEAD_AES_256_GCM","nonce":"61f9c719728a","associated_data":"transaction","ciphertext":"`+sealed(t, apiV3Key, "{}")+`"}}`),
	} {
		want := wepay.ErrUnknownKey
		if name == "for this moment only" {
			want = wepay.ErrStale
		}
		if _, err := s.keyRing.Key(t.Context(), u); !errors.Is(err, want) || errors.Is(err, wepay.ErrNoAnswer) {
			t.Errorf("%s: got %v", name, err)
		}
		if _, err := all.Find(t.Context(), u); !errors.Is(err, want) || errors.Is(err, wepay.ErrNoAnswer) {
			t.Errorf("%s among all: got %v", name, err)
		}
	}
	if s.fetches() != 0 || s.store.loads != 0 {
		t.Errorf("%d fetches, %d loads", s.fetches(), s.store.loads)
	}
}

// An account that cannot ask WeChat says what it lacks, to whoever has its APIv3
// key alone.
func TestCertificateWithoutPrivateKey(t *testing.T) {
	s := openShop(t, ways[1], func(m *wepay.Merchant) {
		m.API, m.PartnerKey, m.PrivateKey, m.MchSerial = wepay.V2, strings.Repeat("k", 32), nil, ""
	})
	_, err := s.keyRing.Key(t.Context(), s.naming(s.signs()))
	const says = `this needs private_key and mch_serial (or pfx, or cert) in the merchant's configuration`
	if !errors.Is(err, wepay.ErrNoAnswer) || !errors.Is(err, wepay.ErrNotAble) || !strings.Contains(err.Error(), says) {
		t.Errorf("got %v", err)
	}
	_, err = s.keyRing.Key(t.Context(), naming(t, s.signs(), strings.Repeat("x", 32), s.clock.Now()))
	if !errors.Is(err, wepay.ErrUnknownKey) || errors.Is(err, wepay.ErrNoAnswer) {
		t.Errorf("a stranger: got %v", err)
	}
}

// What is set already is not to be set.
func TestNoCertificatesAnyMore(t *testing.T) {
	s := openShop(t, ways[2])
	_, err := s.keyRing.Key(t.Context(), s.naming(serialOf(1)))
	if !errors.Is(err, wepay.ErrNoAnswer) || !strings.Contains(err.Error(), "known by public_key alone") || strings.Contains(err.Error(), "set public_key") {
		t.Errorf("got %v", err)
	}
}

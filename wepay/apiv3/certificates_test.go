package apiv3_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

func TestDue(t *testing.T) {
	s := openShop(t, ways[2])
	if _, due := s.keyRing.Due(); due {
		t.Error("an account with the public key has certificates due")
	}
	s = openShop(t, ways[0])
	if at, due := s.keyRing.Due(); !due || !at.IsZero() {
		t.Errorf("at first: %s, %v", at, due)
	}
	if err := s.keyRing.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if at, due := s.keyRing.Due(); !due || !at.Equal(start.Add(apiv3.RefreshEvery)) {
		t.Errorf("then: %s, %v", at, due)
	}
	// WeChat signs with a certificate although there is the public key: that is a
	// migration, and what signs has to be kept up to date.
	s = openShop(t, ways[1])
	if _, err := s.keyRing.Key(t.Context(), s.naming(s.signs())); err != nil {
		t.Fatal(err)
	}
	if at, due := s.keyRing.Due(); !due || !at.Equal(start.Add(apiv3.RefreshEvery)) || s.keyRing.Serial() != s.merchant.PublicKeyID {
		t.Errorf("migrating: %s, %v, names %s", at, due, s.keyRing.Serial())
	}
	if requests := s.wechat.Requests(certificatesPath); requests[0].Header.Get("Wechatpay-Serial") != s.merchant.PublicKeyID {
		t.Errorf("fetched with %v", requests[0].Header)
	}
}

// listed is a certificate as WeChat lists it.
type listed struct {
	serial    int64
	from, to  time.Time
	key       any    // public; nil: WeChat's
	listedAs  string // "": its serial number
	sealedBy  string // "": apiV3Key
	plaintext string // "": the certificate
}

// list is a reply of GET /v3/certificates.
func list(t testing.TB, all ...listed) string {
	t.Helper()
	signer := strangersKey(t)
	var entries []string
	for _, l := range all {
		if l.key == nil {
			l.key = &wechatsKey(t).PublicKey
		}
		if l.from.IsZero() {
			l.from, l.to = start.Add(-time.Hour), start.Add(time.Hour)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(l.serial), Subject: pkix.Name{CommonName: "Tenpay.com sign"}, NotBefore: l.from, NotAfter: l.to}
		der, err := x509.CreateCertificate(rand.Reader, template, template, l.key, signer)
		if err != nil {
			t.Fatal(err)
		}
		text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		if l.plaintext != "" {
			text = l.plaintext
		}
		if l.listedAs == "" {
			l.listedAs = serialOf(l.serial)
		}
		entries = append(entries, fmt.Sprintf(`{"serial_no":%q,"encrypt_certificate":{"algorithm":"AEAD_AES_256_GCM","nonce":"61f9c719728a","associated_data":"certificate","ciphertext":%q}}`,
			l.listedAs, sealed(t, l.sealedBy, text)))
	}
	return `{"data":[` + strings.Join(entries, ",") + `]}`
}

func serialOf(n int64) string { return fmt.Sprintf("%040X", n) }

func sealed(t testing.TB, key, text string) string {
	t.Helper()
	if key == "" {
		key = apiV3Key
	}
	block, err := aes.NewCipher([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(gcm.Seal(nil, []byte("61f9c719728a"), []byte(text), []byte("certificate")))
}

// WeChat's usable certificates are accepted.
func TestListOfCertificates(t *testing.T) {
	own := privateKey(t, testdata(t, "../certificates/key.pem"))
	good := listed{serial: 0x0A1B}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		body     string
		signedBy int64 // serial number
		want     error
		text     string
	}{
		"one":                  {list(t, good), 0x0A1B, nil, ""},
		"two":                  {list(t, good, listed{serial: 2}), 2, nil, ""},
		"none":                 {`{"data":[]}`, 0x0A1B, wepay.ErrMalformed, "empty"},
		"no list":              {`[]`, 0x0A1B, wepay.ErrMalformed, ""},
		"signed by a stranger": {list(t, good), 3, wepay.ErrUnknownKey, "does not list"},
		"expired":              {list(t, listed{serial: 1, from: start.Add(-2 * time.Hour), to: start.Add(-time.Second)}), 1, wepay.ErrUnknownKey, "clock"},
		"not yet in force":     {list(t, listed{serial: 1, from: start.Add(time.Second), to: start.Add(time.Hour)}), 1, wepay.ErrUnknownKey, "clock"},
		"the merchant's own":   {list(t, listed{serial: 1, key: &own.PublicKey}), 1, wepay.ErrMalformed, "merchant's own"},
		"listed as another":    {list(t, listed{serial: 1, listedAs: serialOf(2)}), 2, wepay.ErrMalformed, "is listed as"},
		"another APIv3 key":    {list(t, listed{serial: 1, sealedBy: strings.Repeat("x", 32)}), 1, wepay.ErrAPIv3Key, "apiv3_key"},
		"no PEM":               {list(t, listed{serial: 1, plaintext: "x"}), 1, nil, "no certificate in PEM"},
		"a key too small":      {list(t, listed{serial: 1, key: &small.PublicKey}), 1, nil, "its key is of 1024 bits"},
		"signed by one small":  {list(t, good, listed{serial: 1, key: &small.PublicKey}), 1, wepay.ErrUnknownKey, "its key is of 1024 bits"},
		"two of no use":        {list(t, listed{serial: 1, key: &small.PublicKey}, listed{serial: 2, plaintext: "x"}), 1, nil, "no certificate in PEM"},
		"a key that is no RSA": {list(t, listed{serial: 1, key: &curve.PublicKey}), 1, nil, "its key is not RSA"},
		"broken PEM":           {list(t, listed{serial: 1, plaintext: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}), 1, nil, "reading certificate"},
		"listed twice":         {list(t, listed{serial: 1, key: &own.PublicKey}, listed{serial: 1}), 1, nil, ""},
		"a key":                {list(t, listed{serial: 1, plaintext: vectorKeys(t).PlatformPublic}), 1, nil, "no certificate in PEM"},
		"another algorithm":    {strings.Replace(list(t, good), "AES_256", "SM4", 1), 0x0A1B, wepay.ErrMalformed, "AEAD_AES_256_GCM"},
		"an odd nonce":         {strings.Replace(list(t, good), "61f9c719728a", "61f9c719728ab", 1), 0x0A1B, wepay.ErrMalformed, "nonce"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWechat(t, func(http.ResponseWriter, *http.Request) answer {
				return answer{body: test.body, header: signedBy(t, wechatsKey(t), serialOf(test.signedBy), test.body)}
			})
			m := w.merchant(t)
			m.PublicKey, m.PublicKeyID = nil, ""
			p := apiv3.NewKeyRing(m, nil, wepay.ClientOptions{Now: w.clock.Now, Transport: plainTransport(t)})
			err := p.Refresh(t.Context())
			good := test.want == nil && test.text == ""
			if good != (err == nil) || test.want != nil && !errors.Is(err, test.want) || err != nil && !strings.Contains(err.Error(), test.text) || good != p.Holds(serialOf(test.signedBy)) {
				t.Errorf("got %v, want %v with %q", err, test.want, test.text)
			}
			if !good && p.Serial() != "" {
				t.Errorf("took %s", p.Serial())
			}
		})
	}
}

// A certificate that cannot be used is left out and reported, when it is fetched
// and when it is loaded; the others are taken.
func TestUnusableCertificates(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	own := privateKey(t, testdata(t, "../certificates/key.pem"))
	for name, test := range map[string]struct {
		other listed
		text  string
	}{
		"too small":          {listed{serial: 1, key: &small.PublicKey}, "its key is of 1024 bits"},
		"no PEM":             {listed{serial: 1, plaintext: "x"}, "no certificate in PEM"},
		"listed as another":  {listed{serial: 2, listedAs: serialOf(1)}, "is listed as"},
		"another APIv3 key":  {listed{serial: 1, sealedBy: strings.Repeat("x", 32)}, "apiv3_key"},
		"the merchant's own": {listed{serial: 1, key: &own.PublicKey}, "merchant's own"},
	} {
		for _, body := range []string{list(t, listed{serial: 3}, test.other), list(t, test.other, listed{serial: 3})} {
			w := newWechat(t, func(http.ResponseWriter, *http.Request) answer {
				return answer{body: body, header: signedBy(t, wechatsKey(t), serialOf(3), body)}
			})
			m, certificates := w.merchant(t), new(store)
			m.PublicKey, m.PublicKeyID = nil, ""
			var reported []string
			newKeyRing := func() *apiv3.KeyRing {
				return apiv3.NewKeyRing(m, certificates, wepay.ClientOptions{Now: w.clock.Now, Transport: plainTransport(t), Unusable: func(of *wepay.Merchant, err error) { reported = append(reported, of.Name+" "+err.Error()) }})
			}
			fetched, loaded := newKeyRing(), newKeyRing()
			if err := fetched.Refresh(t.Context()); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			loaded.Load(t.Context())
			for _, p := range []*apiv3.KeyRing{fetched, loaded} {
				if !p.Holds(serialOf(3)) || p.Holds(serialOf(1)) || p.Holds(serialOf(2)) || p.Serial() != serialOf(3) {
					t.Errorf("%s: names %q", name, p.Serial())
				}
			}
			if len(reported) != 2 || reported[0] != reported[1] || !strings.HasPrefix(reported[0], "shop ") || !strings.Contains(reported[0], test.text) {
				t.Errorf("%s: reported %q", name, reported)
			}
		}
	}
}

// A stale list, one that nobody signed and a page are none.
func TestListIsNotBelieved(t *testing.T) {
	body := list(t, listed{serial: 1})
	for name, test := range map[string]struct {
		says answer
		want error
	}{
		"unsigned": {answer{body: body, bare: true}, wepay.ErrUnsigned},
		"wrong":    {answer{body: body, header: signedBy(t, strangersKey(t), serialOf(1), body)}, wepay.ErrSignature},
		"a page":   {answer{body: "<html>", bare: true}, wepay.ErrMalformed},
	} {
		w := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return test.says })
		m := w.merchant(t)
		m.PublicKey, m.PublicKeyID = nil, ""
		p := apiv3.NewKeyRing(m, nil, wepay.ClientOptions{Now: w.clock.Now, Transport: plainTransport(t)})
		if err := p.Refresh(t.Context()); !errors.Is(err, test.want) || !errors.Is(err, wepay.ErrNoAnswer) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	w := newWechat(t, func(http.ResponseWriter, *http.Request) answer {
		return answer{body: body, header: signedBy(t, wechatsKey(t), serialOf(1), body)}
	})
	m := w.merchant(t)
	m.PublicKey, m.PublicKeyID = nil, ""
	p := apiv3.NewKeyRing(m, nil, wepay.ClientOptions{Now: func() time.Time { return start.Add(6 * time.Minute) }, Transport: plainTransport(t)})
	if err := p.Refresh(t.Context()); !errors.Is(err, wepay.ErrStale) || !strings.Contains(err.Error(), "clock is wrong") {
		t.Errorf("stale: got %v", err)
	}
}

func plainTransport(t testing.TB) *http.Transport {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// A certificate is not used before its time nor after it.
func TestCertificateExpires(t *testing.T) {
	soon := listed{serial: 2, from: start.Add(time.Minute), to: start.Add(time.Hour)}
	body := list(t, listed{serial: 1, to: start.Add(10 * time.Minute), from: start.Add(-time.Hour)}, soon)
	w := newWechat(t, func(http.ResponseWriter, *http.Request) answer {
		return answer{body: body, header: signedBy(t, wechatsKey(t), serialOf(1), body)}
	})
	m := w.merchant(t)
	m.PublicKey, m.PublicKeyID = nil, ""
	p := apiv3.NewKeyRing(m, nil, wepay.ClientOptions{Now: w.clock.Now, Transport: plainTransport(t)})
	if err := p.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	// refused demands that a certificate is known, and verifies nothing now.
	refused := func(serial int64) {
		t.Helper()
		if _, err := p.Key(t.Context(), naming(t, serialOf(serial), apiV3Key, w.clock.Now())); !errors.Is(err, wepay.ErrUnknownKey) || !strings.Contains(err.Error(), "is in force from 2026-01-01 to 2026-01-01 only (is this machine's clock right?)") {
			t.Errorf("certificate %d: got %v", serial, err)
		}
	}
	if p.Serial() != serialOf(1) || p.Holds(serialOf(2)) {
		t.Errorf("names %s", p.Serial())
	}
	refused(2)
	w.clock.Advance(2 * time.Minute)
	if p.Serial() != serialOf(2) || !p.Holds(serialOf(1)) {
		t.Errorf("then names %s", p.Serial())
	}
	w.clock.Advance(9 * time.Minute)
	if p.Holds(serialOf(1)) || p.Serial() != serialOf(2) {
		t.Errorf("in the end names %s", p.Serial())
	}
	refused(1)
	w.clock.Advance(time.Hour)
	if p.Serial() != "" {
		t.Errorf("after all names %s", p.Serial())
	}
	refused(2)
}

// The published list is read as its documents say.
func TestVectorA3(t *testing.T) {
	v, k := vectors(t)["A3"], vectorKeys(t)
	headers := make(map[string][]string)
	for name, value := range v.Headers {
		headers[name] = []string{value}
	}
	w := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return answer{body: v.Body, header: headers} })
	m := w.merchant(t)
	m.PublicKey, m.PublicKeyID, m.APIv3Key = nil, "", k.APIv3Key
	p := apiv3.NewKeyRing(m, nil, wepay.ClientOptions{Now: func() time.Time { return time.Unix(1700000000, 0) }, Transport: plainTransport(t)})
	if err := p.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	key, err := p.Key(t.Context(), naming(t, k.PlatformSerial, k.APIv3Key, time.Unix(1700000000, 0)))
	if err != nil || !key.Equal(publicKey(t, k.PlatformPublic)) || p.Serial() != k.PlatformSerial {
		t.Errorf("got %v, %v, names %s", key, err, p.Serial())
	}
}

// Stored certificates have the age that the store returns, so that a restart has nothing
// fetched that is fresh.
func TestKeptCertificatesAge(t *testing.T) {
	for name, test := range map[string]struct {
		stored time.Duration // after the start
		due    time.Duration // after the start; 0: at once
	}{
		"fresh":                  {-3 * time.Hour, apiv3.RefreshEvery - 3*time.Hour},
		"old":                    {-30 * time.Hour, apiv3.RefreshEvery - 30*time.Hour},
		"of another day's clock": {time.Hour, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := openShop(t, ways[0])
			s.do(wepay.PlaceOrder, order("ORDER-0001", "1"))
			s.store.stored = start.Add(test.stored)
			s.connect()
			// Whoever gives up does so for himself alone.
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			s.keyRing.Load(ended)
			if s.keyRing.Serial() != "" {
				t.Error("it was loaded in no time")
			}
			s.keyRing.Load(t.Context())
			want := start.Add(test.due)
			if test.due == 0 {
				want = time.Time{}
			}
			if at, ever := s.keyRing.Due(); !ever || !at.Equal(want) {
				t.Errorf("due at %s, %v, wants %s", at, ever, want)
			}
			certs, err := s.wechat.PlatformCertificates(mchID)
			if err != nil {
				t.Fatal(err)
			}
			if expires := s.keyRing.Expires(); !expires.Equal(certs[0].NotAfter) {
				t.Errorf("expires on %s, wants %s", expires, certs[0].NotAfter)
			}
			s.do(wepay.PlaceOrder, order("ORDER-0001", "1"))
			if s.fetches() != 1 {
				t.Errorf("%d fetches", s.fetches())
			}
		})
	}
}

// Once an account has moved to the public key WeChat lists no certificates any
// more, which is nothing to be asked again and again.
func TestDueAfterMigration(t *testing.T) {
	s := openShop(t, ways[1])
	if _, err := s.keyRing.Key(t.Context(), s.naming(s.signs())); err != nil {
		t.Fatal(err)
	}
	if err := s.wechat.Migrate(mchID, wepaytest.ByPublicKey, 1); err != nil {
		t.Fatal(err)
	}
	if err := s.keyRing.Refresh(t.Context()); err == nil {
		t.Fatal("there are certificates")
	}
	if at, ever := s.keyRing.Due(); ever {
		t.Errorf("due again at %s", at)
	}
}

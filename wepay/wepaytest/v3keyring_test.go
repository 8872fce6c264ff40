package wepaytest_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// certificates asks for the platform certificates and reads them.
func (s *v3shop) certificates() (serials []string) {
	s.t.Helper()
	a := s.granted("GET", "/v3/certificates", nil)
	for _, entry := range a.body["data"].([]any) {
		plain := open(s.t, apiV3Key, entry.(map[string]any)["encrypt_certificate"].(map[string]any))
		block, _ := pem.Decode(plain)
		if block == nil {
			s.t.Fatalf("the certificate is %q", plain)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			s.t.Fatal(err)
		}
		if _, err := cert.Verify(x509.VerifyOptions{Roots: s.wechat.RootCAs(), CurrentTime: s.clock.Now()}); err != nil {
			s.t.Errorf("the certificate's issuer: %v", err)
		}
		serial := wepay.CertificateSerial(cert)
		checkAt(s.t, entry, map[string]string{"serial_no": serial, "encrypt_certificate.associated_data": "certificate"})
		serials = append(serials, serial)
	}
	return serials
}

// signer says which key signed a reply.
func (s *v3shop) signer() string {
	s.t.Helper()
	return s.granted("GET", "/v3/certificates", nil).header.Get("Wechatpay-Serial")
}

func TestV3CertificateRotation(t *testing.T) {
	s := newV3Shop(t)
	first := s.signer()
	if got := s.certificates(); !slices.Equal(got, []string{first}) {
		t.Errorf("told %v, signed by %s", got, first)
	}
	second, err := s.wechat.AnnounceCertificate(mchID)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.certificates(); !slices.Equal(got, []string{first, second}) || s.signer() != first {
		t.Errorf("announced: told %v, signed by %s", got, s.signer())
	}
	s.serial = second // whoever has it already may have replies signed with it
	if got := s.signer(); got != second {
		t.Errorf("named %s, signed by %s", second, got)
	}
	s.serial = ""
	if got, err := s.wechat.RotateCertificate(mchID); err != nil || got != second || s.signer() != second {
		t.Errorf("rotated to %s, error %v, signed by %s, want %s", got, err, s.signer(), second)
	}
	if d := s.pay("ORDER-0001", 100); s.notified.header.Get("Wechatpay-Serial") != second || !d.Taken() {
		t.Errorf("notified by %s", s.notified.header.Get("Wechatpay-Serial"))
	}
	if err := s.wechat.RetireCertificates(mchID); err != nil {
		t.Fatal(err)
	}
	if got := s.certificates(); !slices.Equal(got, []string{second}) {
		t.Errorf("retired: told %v", got)
	}
	m := s.message("GET", "/v3/certificates", nil)
	m.header.Set("Wechatpay-Serial", first)
	s.denied(400, "PARAM_ERROR", m)
	third, err := s.wechat.RotateCertificate(mchID)
	if err != nil || third == second || s.signer() != third {
		t.Errorf("rotated to %s, error %v", third, err)
	}
}

func TestV3PublicKeyMode(t *testing.T) {
	s := newV3Shop(t, byPublicKey)
	id, _ := s.publicKey()
	if !strings.HasPrefix(id, "PUB_KEY_ID_01"+mchID) || len(id) != len("PUB_KEY_ID_0119000000012024101100000000000001") {
		t.Errorf("the id is %s", id)
	}
	a := s.denied(404, "RESOURCE_NOT_EXISTS", s.message("GET", "/v3/certificates", nil))
	if a.header.Get("Wechatpay-Serial") != id {
		t.Errorf("signed by %s", a.header.Get("Wechatpay-Serial"))
	}
	if _, err := s.wechat.PlatformCertificates(mchID); !errors.Is(err, wepaytest.ErrNoCertificate) {
		t.Errorf("its certificates: %v", err)
	}
	s.pay("ORDER-0001", 100)
	if got := s.notified.header.Get("Wechatpay-Serial"); got != id {
		t.Errorf("notified by %s", got)
	}
	s.serial = ""
	s.denied(400, "PARAM_ERROR", s.message("POST", jsapiPath, s.jsapi("ORDER-0002", 100)))
	s.denied(404, "RESOURCE_NOT_EXISTS", s.message("GET", "/v3/certificates", nil))
}

func TestV3Migration(t *testing.T) {
	s := newV3Shop(t)
	id, _ := s.publicKey()
	certificate := s.signer()
	s.serial = id
	if got := s.signer(); got != certificate {
		t.Errorf("before the migration %s signs", got)
	}
	if err := s.wechat.Migrate(mchID, wepaytest.Migrating, 0.25); err != nil {
		t.Fatal(err)
	}
	if got := s.signer(); got != id {
		t.Errorf("named %s, signed by %s", id, got)
	}
	for _, serial := range []string{"", certificate} {
		if s.serial = serial; s.signer() != certificate {
			t.Errorf("named %q, signed by %s", serial, s.signer())
		}
	}
	by := map[string]int{}
	for i := range 8 {
		s.pay("ORDER-000"+string(rune('0'+i)), 100)
		by[s.notified.header.Get("Wechatpay-Serial")]++
	}
	if by[id] != 2 || by[certificate] != 6 {
		t.Errorf("notified by %v", by)
	}
	if err := s.wechat.Migrate(mchID, wepaytest.ByPublicKey, 0); err != nil {
		t.Fatal(err)
	}
	m := s.message("POST", jsapiPath, s.jsapi("ORDER-0100", 100))
	m.header.Set("Wechatpay-Serial", certificate)
	s.denied(400, "PARAM_ERROR", m)
	if err := s.wechat.Migrate(mchID, wepaytest.Migrating, 1.5); err == nil {
		t.Error("a share of 1.5 was taken")
	}
	if err := s.wechat.Migrate("1", wepaytest.Migrating, 0); !errors.Is(err, wepay.ErrNoMerchant) {
		t.Errorf("an unknown merchant: %v", err)
	}
}

// Two merchants have certificates and ids of their own.
func TestV3KeysOfTwo(t *testing.T) {
	s := newV3Shop(t)
	other := openV3Shop(t, s.wechat, wepaytest.Merchant{MchID: "1900000110", AppIDs: []string{appID}, APIv3Key: strings.Repeat("k", 32)})
	other.clock = s.clock
	a, _ := s.publicKey()
	b, _ := other.publicKey()
	if a == b || s.signer() == other.signer() {
		t.Error("two merchants have one key")
	}
	raw := other.granted("GET", "/v3/certificates", nil)
	encrypted := raw.body["data"].([]any)[0].(map[string]any)["encrypt_certificate"].(map[string]any)
	if _, err := unseal(apiV3Key, at(encrypted, "nonce"), "certificate", at(encrypted, "ciphertext")); err == nil {
		t.Error("another merchant can read the certificate")
	}
}

func TestV3MerchantKeys(t *testing.T) {
	wechat := newServer(t)
	for name, c := range map[string]struct {
		m  wepaytest.Merchant
		ok bool
	}{
		"v3 alone":     {wepaytest.Merchant{MchID: "1", APIv3Key: apiV3Key}, true},
		"v2 alone":     {wepaytest.Merchant{MchID: "2", Key: key}, true},
		"no key":       {wepaytest.Merchant{MchID: "3"}, false},
		"short":        {wepaytest.Merchant{MchID: "4", APIv3Key: apiV3Key[:16]}, false},
		"with a dash":  {wepaytest.Merchant{MchID: "5", APIv3Key: "-" + apiV3Key[1:]}, false},
		"v2 too short": {wepaytest.Merchant{MchID: "6", Key: key[:8], APIv3Key: apiV3Key}, false},
	} {
		if err := wechat.AddMerchant(c.m); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A certificate that a test made itself signs as one that was issued.
func TestV3AddCertificate(t *testing.T) {
	s := newV3Shop(t)
	other, err := wepaytest.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.AddMerchant(wepaytest.Merchant{MchID: mchID, APIv3Key: apiV3Key}); err != nil {
		t.Fatal(err)
	}
	if s.credential, err = other.Issue(mchID); err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(time.Since(start)) // its certificate begins by the machine's clock
	s.denied(http.StatusUnauthorized, "SIGN_ERROR", s.message("GET", "/v3/certificates", nil))
	if err := s.wechat.AddCertificate(mchID, s.credential.Certificate.Leaf); err != nil {
		t.Fatal(err)
	}
	if a := s.granted("GET", "/v3/certificates", nil); bytes.Contains(a.raw, []byte("BEGIN")) {
		t.Error("the certificate is not encrypted")
	}
	if err := s.wechat.AddCertificate("1", s.credential.Certificate.Leaf); !errors.Is(err, wepay.ErrNoMerchant) {
		t.Errorf("an unknown merchant: %v", err)
	}
}

package wepaytest_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// Every form of a credential is the same pair, and refunds.
func TestCredentialForms(t *testing.T) {
	s := newShop(t)
	credential, err := s.wechat.Issue(mchID)
	if err != nil {
		t.Fatal(err)
	}
	for name, read := range map[string]func() (*tls.Certificate, error){
		"tls":         func() (*tls.Certificate, error) { return &credential.Certificate, nil },
		"PEM":         func() (*tls.Certificate, error) { return wepay.ParsePEM(credential.CertPEM, credential.KeyPEM) },
		"P12":         func() (*tls.Certificate, error) { return wepay.ParsePKCS12(credential.P12, mchID) },
		"P12 chain":   func() (*tls.Certificate, error) { return wepay.ParsePKCS12(credential.P12Chain, mchID) },
		"P12 OpenSSL": func() (*tls.Certificate, error) { return wepay.ParsePKCS12(credential.P12Modern, mchID) },
	} {
		certificate, err := read()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !certificate.Leaf.Equal(credential.Certificate.Leaf) {
			t.Errorf("%s: another certificate", name)
		}
		if want := map[bool]int{true: 2, false: 1}[name == "P12 chain"]; len(certificate.Certificate) != want {
			t.Errorf("%s: a chain of %d, want %d", name, len(certificate.Certificate), want)
		}
		number := "ORDER-" + strings.ReplaceAll(name, " ", "-")
		s.merchant.Certificate = certificate
		s.client = newClient(t, s.wechat, s.merchant)
		s.pay(number, 100)
		s.do(wepay.Refund, refundOf(number, number, 100, 100))
		requests := s.wechat.Requests(refundPath)
		if got := requests[len(requests)-1].Serial(); got != credential.Serial {
			t.Errorf("%s: presented was %s, want %s", name, got, credential.Serial)
		}
	}
	for _, p12 := range [][]byte{credential.P12, credential.P12Chain, credential.P12Modern} {
		if _, err := wepay.ParsePKCS12(p12, "1"); !errors.Is(err, wepay.ErrPassphrase) {
			t.Errorf("the wrong passphrase gives %v", err)
		}
	}
}

func TestCertificateIsLikeWeChats(t *testing.T) {
	s := newShop(t)
	leaf := s.merchant.Certificate.Leaf
	if key, ok := leaf.PublicKey.(*rsa.PublicKey); !ok || key.N.BitLen() != 2048 {
		t.Errorf("the key is a %T", leaf.PublicKey)
	}
	if got := leaf.Subject.String(); got != "CN=1900000109,OU=测试商户,O=微信商户系统,L=Shenzhen,C=CN" {
		t.Errorf("the subject is %s", got)
	}
	if got := leaf.NotAfter.Sub(start); got != 5*365*24*time.Hour {
		t.Errorf("it is valid for %v", got)
	}
	if got := wepay.CertificateSerial(leaf); len(got) != 40 {
		t.Errorf("the serial number is %s", got)
	}
	if _, err := s.wechat.Issue("1"); !errors.Is(err, wepay.ErrNoMerchant) {
		t.Errorf("issuing to nobody gives %v", err)
	}
}

func TestCertificatesAreRefused(t *testing.T) {
	const other = "1900000222"
	s := newShop(t)
	s.pay("ORDER-0001", 100)
	if err := s.wechat.AddMerchant(wepaytest.Merchant{MchID: other, Key: key}); err != nil {
		t.Fatal(err)
	}
	otherMerchants, err := s.wechat.Issue(other)
	if err != nil {
		t.Fatal(err)
	}
	foreign := newShop(t).merchant.Certificate // of the same mch_id, by another authority
	own := s.merchant.Certificate

	for name, c := range map[string]struct {
		certificate *tls.Certificate
		status      int
		want        string
	}{
		"none":             {nil, http.StatusBadRequest, "<title>400 No required SSL certificate was sent</title>"},
		"foreign":          {foreign, http.StatusOK, "<return_msg><![CDATA[证书错误,请检查证书]]></return_msg>"},
		"another merchant": {&otherMerchants.Certificate, http.StatusOK, "<return_msg><![CDATA[证书错误,请检查证书]]></return_msg>"},
		"own":              {own, http.StatusOK, "<result_code><![CDATA[SUCCESS]]></result_code>"},
	} {
		t.Run(name, func(t *testing.T) {
			m := *s.merchant
			m.Certificate = c.certificate
			status, body := s.sendAs(&m, refundPath, sealed(validRefundOf("ORDER-0001"), wepay.MD5))
			if status != c.status || !strings.Contains(body, c.want) {
				t.Errorf("HTTP status %d: %s", status, body)
			}
			// Presenting it, or none, where it is not needed does no harm.
			if _, body := s.sendAs(&m, queryPath, sealed(map[string]string{"out_trade_no": "ORDER-0001"}, wepay.MD5)); !strings.Contains(body, "<trade_state>") {
				t.Errorf("the query: %s", body)
			}
		})
	}

	s.clock.Advance(5*365*24*time.Hour + time.Second)
	status, body := s.sendAs(s.merchant, refundPath, sealed(validRefundOf("ORDER-0001"), wepay.MD5))
	if status != http.StatusOK || !strings.Contains(body, "证书已过期") {
		t.Errorf("expired: HTTP status %d: %s", status, body)
	}
}

func validRefundOf(number string) map[string]string {
	return map[string]string{"out_trade_no": number, "out_refund_no": "R-1", "total_fee": "100", "refund_fee": "10"}
}

func (s *shop) sendAs(m *wepay.Merchant, path string, fields wepay.Fields) (status int, body string) {
	s.t.Helper()
	document, err := apiv2.Encode("xml", fields)
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.wechat.URL+path, bytes.NewReader(document))
	if err != nil {
		s.t.Fatal(err)
	}
	return s.send(req, m)
}

// Nobody who does not trust this server's authority talks to it.
func TestServerIsTrustedByItsAuthorityAlone(t *testing.T) {
	s := newShop(t)
	transport := wepay.NewTransport(s.merchant)
	transport.TLSClientConfig.RootCAs = newServer(t).RootCAs()
	defer transport.CloseIdleConnections()
	_, err := apiv2.NewClient(s.merchant, wepay.ClientOptions{Transport: transport}).Do(t.Context(), wepay.QueryOrder, query("ORDER-0001"))
	if unknown := new(x509.UnknownAuthorityError); !errors.As(err, unknown) {
		t.Errorf("got %v", err)
	}
}

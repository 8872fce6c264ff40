package apiv2_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// startTLS starts a server that asks for a certificate, as WeChat's does, and
// takes any.
func startTLS(s *httptest.Server) {
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	s.StartTLS()
}

// trusting is client for a server that startTLS started.
func trusting(t *testing.T, m *wepay.Merchant, server *wechat) *apiv2.Client {
	t.Helper()
	transport := wepay.NewTransport(m)
	transport.TLSClientConfig.RootCAs = x509.NewCertPool()
	transport.TLSClientConfig.RootCAs.AddCert(server.Certificate())
	t.Cleanup(transport.CloseIdleConnections)
	return apiv2.NewClient(m, wepay.ClientOptions{Transport: transport})
}

// presented returns whose certificate came with a request, "" without one.
func presented(r asked) string {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return ""
	}
	return r.TLS.PeerCertificates[0].Subject.CommonName
}

// A certificate belongs to the connection, so two merchants may never share
// one, nor whatever keeps connections.
func TestCertificateOfEachMerchant(t *testing.T) {
	server := start(func(w http.ResponseWriter, r asked) {
		fields := reply(requests[wepay.Refund].reply)
		fields.Set("mch_id", r.fields.Get("mch_id"))
		says(signed(fields, wepay.MD5, key))(w, r)
	}, startTLS)
	t.Cleanup(server.Close)

	one := withCertificate(t, merchant(server.URL), "wechat.p12")
	two := merchant(server.URL)
	two.MchID = "1900000110"
	withCertificate(t, two, "other.p12")
	first, second := trusting(t, one, server), trusting(t, two, server)
	for range 2 {
		do(t, first, wepay.Refund)
		do(t, second, wepay.Refund)
	}
	all := server.asked()
	if len(all) != 4 {
		t.Fatalf("%d requests, want 4", len(all))
	}
	for _, r := range all {
		if got, want := presented(r), r.fields.Get("mch_id"); got != want {
			t.Errorf("a request of %s came with the certificate of %q", want, got)
		}
	}
	if all[0].RemoteAddr != all[2].RemoteAddr {
		t.Error("the connection is not kept alive")
	}
}

// The whole chain goes along where the file has it, and whatever the server
// hints at.
func TestCertificateWithItsChain(t *testing.T) {
	server := start(does(wepay.Refund), func(s *httptest.Server) {
		hint := x509.NewCertPool()
		hint.AddCert(leaf(t, "other.p12", "1900000110"))
		s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, ClientCAs: hint}
		s.StartTLS()
	})
	t.Cleanup(server.Close)
	do(t, trusting(t, withCertificate(t, merchant(server.URL), "wechat-chain.p12"), server), wepay.Refund)
	got := server.asked()[0]
	if presented(got) != "1900000109" || len(got.TLS.PeerCertificates) != 2 {
		t.Errorf("%d certificates of %q, want 2", len(got.TLS.PeerCertificates), presented(got))
	}
}

func leaf(t *testing.T, file, mchID string) *x509.Certificate {
	t.Helper()
	m := merchant()
	m.MchID = mchID
	return withCertificate(t, m, file).Certificate.Leaf
}

func TestNoCertificate(t *testing.T) {
	server := start(does(wepay.QueryOrder), startTLS)
	t.Cleanup(server.Close)
	do(t, trusting(t, merchant(server.URL), server), wepay.QueryOrder)
	if got := presented(server.asked()[0]); got != "" {
		t.Errorf("the certificate of %q was presented", got)
	}
}

func TestTransport(t *testing.T) {
	one, two := wepay.NewTransport(merchant()), wepay.NewTransport(merchant())
	if one == two || one.TLSClientConfig == two.TLSClientConfig {
		t.Error("two transports share something")
	}
	if one.TLSClientConfig.InsecureSkipVerify || one.TLSClientConfig.MinVersion < tls.VersionTLS12 {
		t.Error("TLS is not what WeChat demands")
	}
}

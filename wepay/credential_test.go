package wepay_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/windsome/caddy-wepay/wepay"
)

const passphrase = "1900000109"

func TestParsePKCS12(t *testing.T) {
	for file, chain := range map[string]int{
		"wechat.p12": 1, "wechat-chain.p12": 2, "openssl3.p12": 2, "expired.p12": 1,
	} {
		t.Run(file, func(t *testing.T) {
			cert, err := wepay.ParsePKCS12(testdata(t, file), passphrase)
			if err != nil {
				t.Fatal(err)
			}
			checkCertificate(t, cert, chain)
		})
	}
}

// checkCertificate sees to it that TLS can use a certificate, the merchant's
// own being the first.
func checkCertificate(t *testing.T, cert *tls.Certificate, chain int) {
	t.Helper()
	if cn := cert.Leaf.Subject.CommonName; cn != "1900000109" {
		t.Errorf("the leaf is of %q", cn)
	}
	if len(cert.Certificate) != chain {
		t.Fatalf("there are %d certificates, want %d", len(cert.Certificate), chain)
	}
	first, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil || !first.Equal(cert.Leaf) {
		t.Errorf("the first certificate is %v, %v, not the leaf", first, err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	pair := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	if _, err := tls.X509KeyPair(pair("CERTIFICATE", cert.Certificate[0]), pair("PRIVATE KEY", private)); err != nil {
		t.Errorf("the key is of another certificate: %v", err)
	}
}

// Some files list the issuer before the merchant's certificate.
func TestParsePKCS12ChainFirst(t *testing.T) {
	original, err := wepay.ParsePKCS12(testdata(t, "wechat-chain.p12"), passphrase)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := x509.ParseCertificate(original.Certificate[1])
	if err != nil {
		t.Fatal(err)
	}
	for name, encoder := range map[string]*pkcs12.Encoder{"legacy": pkcs12.LegacyRC2, "modern": pkcs12.Modern2023} {
		t.Run(name, func(t *testing.T) {
			file, err := encoder.Encode(original.PrivateKey, issuer, []*x509.Certificate{original.Leaf}, passphrase)
			if err != nil {
				t.Fatal(err)
			}
			cert, err := wepay.ParsePKCS12(file, passphrase)
			if err != nil {
				t.Fatal(err)
			}
			checkCertificate(t, cert, 2)
		})
	}
	t.Run("without its own", func(t *testing.T) {
		file, err := pkcs12.Modern2023.Encode(original.PrivateKey, issuer, nil, passphrase)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := wepay.ParsePKCS12(file, passphrase); err == nil {
			t.Error("accepted a key with nobody's certificate")
		}
	})
}

// Keys on elliptic curves are written otherwise than RSA's.
func TestParsePKCS12ECKey(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "1900000109"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	for name, encoder := range map[string]*pkcs12.Encoder{"legacy": pkcs12.LegacyRC2, "modern": pkcs12.Modern2023} {
		t.Run(name, func(t *testing.T) {
			file, err := encoder.Encode(key, leaf, nil, passphrase)
			if err != nil {
				t.Fatal(err)
			}
			cert, err := wepay.ParsePKCS12(file, passphrase)
			if err != nil {
				t.Fatal(err)
			}
			checkCertificate(t, cert, 1)
		})
	}
}

func TestParsePKCS12Refuses(t *testing.T) {
	for _, file := range []string{"wechat.p12", "wechat-chain.p12", "openssl3.p12"} {
		for _, wrong := range []string{"", "1900000110", "1900000109 ", "口令", "\U0001F600"} {
			t.Run(file+" with passphrase "+wrong, func(t *testing.T) {
				_, err := wepay.ParsePKCS12(testdata(t, file), wrong)
				if !errors.Is(err, wepay.ErrPassphrase) {
					t.Fatalf("got %v, want ErrPassphrase", err)
				}
				if wrong != "" && strings.Contains(err.Error(), wrong) {
					t.Errorf("the error repeats the passphrase: %v", err)
				}
			})
		}
	}
	leaf, err := wepay.ParsePKCS12(testdata(t, "wechat.p12"), passphrase)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"nothing":           nil,
		"text":              []byte("not a file of this kind"),
		"PEM":               testdata(t, "cert.pem"),
		"DER":               leaf.Certificate[0],
		"cut":               cut(testdata(t, "wechat.p12")),
		"cut, with a chain": cut(testdata(t, "wechat-chain.p12")),
		"cut, of OpenSSL 3": cut(testdata(t, "openssl3.p12")),
		"appended":          append(testdata(t, "wechat.p12"), 0),
		"no key":            withoutKey(t, pkcs12.LegacyRC2, leaf.Leaf),
		"no key, modern":    withoutKey(t, pkcs12.Modern2023, leaf.Leaf),
	} {
		t.Run(name, func(t *testing.T) {
			// What is no such file must not be put down to the passphrase.
			_, err := wepay.ParsePKCS12(data, passphrase)
			if err == nil || errors.Is(err, wepay.ErrPassphrase) {
				t.Fatalf("got %v, want another error", err)
			}
			if text := err.Error(); !strings.Contains(text, "PKCS #12") || strings.Contains(text, passphrase) {
				t.Errorf("%q: want what is wrong with PKCS #12, and no passphrase", text)
			}
		})
	}
}

// cut is the first half of a file.
func cut(file []byte) []byte { return file[:len(file)/2] }

func withoutKey(t *testing.T, encoder *pkcs12.Encoder, cert *x509.Certificate) []byte {
	t.Helper()
	file, err := encoder.EncodeTrustStore([]*x509.Certificate{cert}, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestParsePEM(t *testing.T) {
	cert, key := testdata(t, "cert.pem"), testdata(t, "key.pem")
	chain := append(append([]byte{}, cert...), testdata(t, "ca.pem")...)
	for name, test := range map[string]struct {
		cert, key []byte
		chain     int // 0: refused
	}{
		"a pair":              {cert, key, 1},
		"a pair with a chain": {chain, key, 2},
		"another's key":       {cert, testdata(t, "other-key.pem"), 0},
		"swapped":             {key, cert, 0},
		"no key":              {cert, nil, 0},
		"no certificate":      {nil, key, 0},
		"a .p12":              {testdata(t, "wechat.p12"), key, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := wepay.ParsePEM(test.cert, test.key)
			if test.chain == 0 {
				if err == nil {
					t.Error("accepted")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			checkCertificate(t, got, test.chain)
		})
	}
}

func TestCertificateSerial(t *testing.T) {
	for file, want := range map[string]string{
		"wechat.p12": "048D5A6B7C8D9E0F1A2B3C4D5E6F708192A3B4C5",
		"other.p12":  "000000000000000000000000000000000000002A",
	} {
		t.Run(file, func(t *testing.T) {
			phrase := map[string]string{"wechat.p12": "1900000109", "other.p12": "1900000110"}[file]
			cert, err := wepay.ParsePKCS12(testdata(t, file), phrase)
			if err != nil {
				t.Fatal(err)
			}
			if got := wepay.CertificateSerial(cert.Leaf); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

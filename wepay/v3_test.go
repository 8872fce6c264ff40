package wepay_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

const (
	apiV3Key  = "v3v3v3v3v3v3v3v3v3v3v3v3v3v3v3v3"
	serial    = "048D5A6B7C8D9E0F1A2B3C4D5E6F708192A3B4C5" // of cert.pem and wechat.p12
	publicKey = "PUB_KEY_ID_0119000000012024101100000000000001"
)

func privateKey(t testing.TB, file string) *rsa.PrivateKey {
	t.Helper()
	key, err := wepay.ParsePrivateKey(testdata(t, file))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// short returns a key that is too short to be WeChat's or a merchant's.
func short(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// v3 makes a merchant one of API v3 without a certificate, which Validate
// accepts, and then makes some changes.
func v3(t testing.TB, changes ...func(*wepay.Merchant)) *wepay.Merchant {
	t.Helper()
	return direct(append([]func(*wepay.Merchant){func(m *wepay.Merchant) {
		m.API, m.APIv3Key, m.PartnerKey = wepay.V3, apiV3Key, ""
		m.PrivateKey, m.MchSerial = privateKey(t, "key.pem"), serial
	}}, changes...)...)
}

func TestParseSerial(t *testing.T) {
	for given, want := range map[string]string{
		serial:                             serial,
		strings.ToLower(serial):            serial,
		strings.TrimPrefix(serial, "0"):    serial,
		" " + serial + "\r\n":              serial,
		"2a":                               strings.Repeat("0", 38) + "2A",
		"":                                 "",
		" \n":                              "",
		serial + "0":                       "",
		"0" + serial:                       "",
		"04:8D:5A":                         "",
		"serial=" + serial[:20]:            "",
		"0x2A":                             "",
		"PUB_KEY_ID_01":                    "",
		strings.Repeat("密", 13):            "",
		strings.Repeat("0", 39) + "\u0660": "",
	} {
		got, err := wepay.ParseSerial(given)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: got %q, %v, want %q", given, got, err, want)
		}
	}
}

func TestValidateV3(t *testing.T) {
	own, other, tooShort := privateKey(t, "key.pem"), privateKey(t, "other-key.pem"), short(t)
	withCertificate := certificate(t, "wechat.p12")
	tests := []struct {
		name    string
		change  func(*wepay.Merchant)
		refused string
		missing bool
	}{
		{name: "as it is", change: func(*wepay.Merchant) {}},
		{name: "by its certificate", change: func(m *wepay.Merchant) { m.PrivateKey, m.MchSerial = nil, ""; withCertificate(m) }},
		{name: "with all of it", change: withCertificate},
		{name: "with a key of API v2 too", change: partnerKey(key)},
		{name: "with the public key", change: public(publicKey, &other.PublicKey)},
		{name: "payload v3", change: func(m *wepay.Merchant) { m.Payload = wepay.V3 }},
		{name: "in the sandbox", change: func(m *wepay.Merchant) { m.Sandbox = true }, refused: "sandbox"},
		{name: "no apiv3_key", change: func(m *wepay.Merchant) { m.APIv3Key = "" }, refused: "apiv3_key", missing: true},
		{name: "apiv3_key of 31", change: func(m *wepay.Merchant) { m.APIv3Key = apiV3Key[1:] }, refused: "apiv3_key"},
		{name: "apiv3_key of 16", change: func(m *wepay.Merchant) { m.APIv3Key = apiV3Key[:16] }, refused: "apiv3_key"},
		{name: "apiv3_key with a dash", change: func(m *wepay.Merchant) { m.APIv3Key = apiV3Key[1:] + "-" }, refused: "apiv3_key"},
		{name: "no private_key", change: func(m *wepay.Merchant) { m.PrivateKey = nil }, refused: "private_key", missing: true},
		{name: "no mch_serial", change: func(m *wepay.Merchant) { m.MchSerial = "" }, refused: "mch_serial", missing: true},
		{name: "mch_serial of 41", change: func(m *wepay.Merchant) { m.MchSerial = serial + "0" }, refused: "mch_serial"},
		{name: "a short private_key", change: func(m *wepay.Merchant) { m.PrivateKey = tooShort }, refused: "private_key"},
		{name: "another's private_key", change: func(m *wepay.Merchant) { withCertificate(m); m.PrivateKey = other }, refused: "private_key"},
		{name: "another's mch_serial", change: func(m *wepay.Merchant) { withCertificate(m); m.MchSerial = strings.Repeat("A", 40) }, refused: "mch_serial"},
		{name: "our own key for WeChat's", change: public(publicKey, &own.PublicKey), refused: "public_key"},
		{name: "a short key for WeChat's", change: public(publicKey, &tooShort.PublicKey), refused: "public_key"},
		{name: "a key without its id", change: public("", &other.PublicKey), refused: "public_key"},
		{name: "an id without its key", change: public(publicKey, nil), refused: "public_key"},
		{name: "an id of letters", change: public("PUB_KEY_ID_01x", &other.PublicKey), refused: "public_key"},
		{name: "an id without a number", change: public("PUB_KEY_ID_", &other.PublicKey), refused: "public_key"},
		{name: "a serial number for an id", change: public(serial, &other.PublicKey), refused: "public_key"},
		{name: "api v4", change: func(m *wepay.Merchant) { m.API, m.PartnerKey = "v4", key }, refused: "api"},
		{name: "payload v4", change: func(m *wepay.Merchant) { m.Payload = "v4" }, refused: "payload"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := v3(t, test.change).Validate(now)
			if fieldErr := wantField(t, err, test.refused); fieldErr != nil && fieldErr.Missing != test.missing {
				t.Errorf("Missing is %v for %v", fieldErr.Missing, err)
			}
			if err != nil && strings.Contains(err.Error(), apiV3Key[4:16]) {
				t.Errorf("the error repeats the key: %v", err)
			}
		})
	}
}

func public(id string, key *rsa.PublicKey) func(*wepay.Merchant) {
	return func(m *wepay.Merchant) { m.PublicKeyID, m.PublicKey = id, key }
}

// A merchant of API v2 needs nothing of API v3, and what it has of it is checked
// all the same.
func TestValidateV2WithKeysOfV3(t *testing.T) {
	own := privateKey(t, "key.pem")
	for name, test := range map[string]struct {
		change  func(*wepay.Merchant)
		refused string
	}{
		"an apiv3_key":               {func(m *wepay.Merchant) { m.APIv3Key = apiV3Key }, ""},
		"a short one":                {func(m *wepay.Merchant) { m.APIv3Key = "x" }, "apiv3_key"},
		"the sandbox":                {func(m *wepay.Merchant) { m.Sandbox, m.APIv3Key = true, apiV3Key }, ""},
		"payload v3 with the key":    {func(m *wepay.Merchant) { m.Payload, m.APIv3Key = wepay.V3, apiV3Key }, ""},
		"payload v3 without a key":   {func(m *wepay.Merchant) { m.Payload = wepay.V3 }, "payload"},
		"our own key for WeChat's":   {func(m *wepay.Merchant) { m.PrivateKey = own; public(publicKey, &own.PublicKey)(m) }, "public_key"},
		"api v2, by its word":        {func(m *wepay.Merchant) { m.API = wepay.V2 }, ""},
		"api v2 without its key":     {func(m *wepay.Merchant) { m.API, m.PartnerKey = wepay.V2, "" }, "partner_key"},
		"api v3 without a v2 key":    {func(m *wepay.Merchant) { *m = *v3(t) }, ""},
		"an id without WeChat's key": {public(publicKey, nil), "public_key"},
	} {
		t.Run(name, func(t *testing.T) { wantField(t, direct(test.change).Validate(now), test.refused) })
	}
}

func TestSigningKey(t *testing.T) {
	own, other := privateKey(t, "key.pem"), privateKey(t, "other-key.pem")
	withCertificate := certificate(t, "wechat.p12")
	for name, test := range map[string]struct {
		change func(*wepay.Merchant)
		serial string
		key    *rsa.PrivateKey
	}{
		"neither":                  {func(*wepay.Merchant) {}, "", nil},
		"the certificate's":        {withCertificate, serial, own},
		"given":                    {func(m *wepay.Merchant) { m.PrivateKey, m.MchSerial = other, "2A" }, "2A", other},
		"given, with certificate":  {func(m *wepay.Merchant) { withCertificate(m); m.PrivateKey, m.MchSerial = other, "2A" }, "2A", other},
		"its key, the serial told": {func(m *wepay.Merchant) { withCertificate(m); m.PrivateKey = own }, serial, own},
	} {
		t.Run(name, func(t *testing.T) {
			got, key := direct(test.change).SigningKey()
			if got != test.serial || (key == nil) != (test.key == nil) || key != nil && !key.Equal(test.key) {
				t.Errorf("got %q, want %q", got, test.serial)
			}
		})
	}
}

func TestRequireV3(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*wepay.Merchant)
		lacks  string
	}{
		"nothing lacks": {func(*wepay.Merchant) {}, ""},
		"a key":         {func(m *wepay.Merchant) { m.PrivateKey = nil }, "private_key"},
		"both":          {func(m *wepay.Merchant) { m.PrivateKey, m.MchSerial = nil, "" }, "private_key and mch_serial"},
		"its serial":    {func(m *wepay.Merchant) { m.MchSerial = "" }, "mch_serial"},
		"the APIv3 key": {func(m *wepay.Merchant) { m.APIv3Key = "" }, "apiv3_key"},
	} {
		err := v3(t, test.change).RequireV3()
		if test.lacks == "" && err != nil || test.lacks != "" && (!errors.Is(err, wepay.ErrNotAble) || !strings.Contains(err.Error(), test.lacks) || !strings.Contains(err.Error(), `"shop"`)) {
			t.Errorf("%s: got %v, want one about %q", name, err, test.lacks)
		}
	}
	if err := direct(certificate(t, "wechat.p12"), func(m *wepay.Merchant) { m.APIv3Key = apiV3Key }).RequireV3(); err != nil {
		t.Errorf("by its certificate: %v", err)
	}
}

func TestUsesAndKinds(t *testing.T) {
	both := []wepay.Kind{wepay.Payment, wepay.Refunded, wepay.OtherEvent, wepay.CombinedPayment, wepay.Transferred, wepay.ProfitShared}
	for name, test := range map[string]struct {
		m      *wepay.Merchant
		v2, v3 bool
		kinds  []wepay.Kind
	}{
		"API v2": {direct(), true, false, both[:3]},
		"API v3": {v3(t), false, true, both},
		"both":   {v3(t, partnerKey(key)), true, true, both},
	} {
		if test.m.Uses(wepay.V2) != test.v2 || test.m.Uses(wepay.V3) != test.v3 || !slices.Equal(test.m.Kinds(), test.kinds) {
			t.Errorf("%s: uses %v and %v, told of %v", name, test.m.Uses(wepay.V2), test.m.Uses(wepay.V3), test.m.Kinds())
		}
	}
}

func TestKeysInEachOthersPlace(t *testing.T) {
	m := v3(t, partnerKey(apiV3Key))
	if got := m.Warnings(now); len(got) != 1 || !strings.Contains(got[0], "apiv3_key") || strings.Contains(got[0], apiV3Key) {
		t.Errorf("got %q", got)
	}
}

// block is a PEM file with something in it.
func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func TestParsePrivateKey(t *testing.T) {
	own := privateKey(t, "key.pem")
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	elliptic, err := x509.MarshalPKCS8PrivateKey(curve)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(own))
	for name, test := range map[string]struct {
		text []byte
		says string // a part of the error, "" for none
	}{
		"PKCS #8":                {testdata(t, "key.pem"), ""},
		"PKCS #1":                {pkcs1, ""},
		"with text before it":    {append([]byte("Bag Attributes\n"), pkcs1...), ""},
		"nothing":                {nil, "is empty"},
		"DER":                    {x509.MarshalPKCS1PrivateKey(own), "DER"},
		"a certificate":          {testdata(t, "cert.pem"), "apiclient_key.pem"},
		"encrypted":              {block("ENCRYPTED PRIVATE KEY", []byte("x")), "encrypted with a passphrase"},
		"a public key":           {block("PUBLIC KEY", []byte("x")), "apiclient_key.pem"},
		"PKCS #8 that is none":   {block("PRIVATE KEY", []byte("secret")), "reading a private key"},
		"PKCS #1 that is none":   {block("RSA PRIVATE KEY", []byte("secret")), "reading a private key"},
		"a key of another kind":  {block("PRIVATE KEY", elliptic), "not RSA"},
		"PKCS #1 called PKCS #8": {block("PRIVATE KEY", x509.MarshalPKCS1PrivateKey(own)), "reading a private key"},
	} {
		got, err := wepay.ParsePrivateKey(test.text)
		switch {
		case test.says == "" && (err != nil || !got.Equal(own)):
			t.Errorf("%s: got %v", name, err)
		case test.says != "" && (err == nil || got != nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "secret")):
			t.Errorf("%s: got %v, want %q", name, err, test.says)
		}
	}
}

func TestParsePublicKey(t *testing.T) {
	own := privateKey(t, "other-key.pem")
	der, err := x509.MarshalPKIXPublicKey(&own.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	curveDER, err := x509.MarshalPKIXPublicKey(&curve.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		text []byte
		says string
	}{
		"pub_key.pem":           {block("PUBLIC KEY", der), ""},
		"nothing":               {nil, "is empty"},
		"DER":                   {der, "DER"},
		"a certificate":         {testdata(t, "cert.pem"), "pub_key.pem"},
		"a private key":         {testdata(t, "key.pem"), "pub_key.pem"},
		"PKCS #1":               {block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&own.PublicKey)), "pub_key.pem"},
		"none":                  {block("PUBLIC KEY", []byte("x")), "reading a public key"},
		"a key of another kind": {block("PUBLIC KEY", curveDER), "not RSA"},
	} {
		got, err := wepay.ParsePublicKey(test.text)
		switch {
		case test.says == "" && (err != nil || !got.Equal(&own.PublicKey)):
			t.Errorf("%s: got %v", name, err)
		case test.says != "" && (err == nil || got != nil || !strings.Contains(err.Error(), test.says)):
			t.Errorf("%s: got %v, want %q", name, err, test.says)
		}
	}
}

func TestCharacters(t *testing.T) {
	is := wepay.Characters(3)
	for value, ok := range map[string]bool{"": true, "abc": true, "abcd": false, "字字字": true, "字字字字": false} {
		if err := is(value); (err == nil) != ok {
			t.Errorf("%q: got %v", value, err)
		}
	}
}

package apiv3_test

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
)

// sent is when the vectors' notifications were signed.
var sent = time.Unix(1700000000, 0)

// notificationVector is what one of testdata/vectors.json has of a notification.
type notificationVector struct {
	Headers   map[string]string `json:"headers"`
	Body      string            `json:"body"`
	Plaintext string            `json:"plaintext"`
}

func (v notificationVector) header() http.Header {
	header := http.Header{}
	for name, value := range v.Headers {
		header.Set(name, value)
	}
	return header
}

// keyVectors are the keys of testdata/vectors.json.
type keyVectors struct {
	PlatformPublicKey  string `json:"platform_public_key"`
	PlatformPrivateKey string `json:"platform_private_key"`
	MerchantPublicKey  string `json:"merchant_public_key"`
	MerchantSerial     string `json:"merchant_serial"`
	APIv3Key           string `json:"apiv3_key"`
}

// vectorInto reads one of testdata/vectors.json.
func vectorInto[T any](tb testing.TB, name string) T {
	tb.Helper()
	text, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		tb.Fatal(err)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		tb.Fatal(err)
	}
	var one T
	if err := json.Unmarshal(all[name], &one); err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	return one
}

func publicKey(tb testing.TB, text string) *rsa.PublicKey {
	tb.Helper()
	block, _ := pem.Decode([]byte(text))
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		tb.Fatal(err)
	}
	return key.(*rsa.PublicKey)
}

func TestVectorsUnderV2Names(t *testing.T) {
	keys := vectorInto[keyVectors](t, "K1")
	key := publicKey(t, keys.PlatformPublicKey)
	for _, c := range []struct {
		notification, mapped string
		kind                 wepay.Kind
		added                map[string]string // of the merchant's set-up
	}{
		{"N1", "M1", wepay.Payment, nil},
		{"N2", "M2", wepay.Refunded, map[string]string{"appid": "wxd678efh567hg6787"}},
		{"N3", "M3", wepay.Payment, nil},
	} {
		t.Run(c.notification, func(t *testing.T) {
			v := vectorInto[notificationVector](t, c.notification)
			u, err := apiv3.ReadNotification(v.header(), []byte(v.Body))
			if err != nil {
				t.Fatal(err)
			}
			if u.Serial() != v.Headers["Wechatpay-Serial"] {
				t.Errorf("the serial is %s", u.Serial())
			}
			s, err := u.Verify(key, sent)
			if err != nil {
				t.Fatal(err)
			}
			o, err := s.Open(keys.APIv3Key)
			if err != nil {
				t.Fatal(err)
			}
			n := o.Notification(&wepay.Merchant{AppID: "wxd678efh567hg6787"})
			want := vectorInto[map[string]string](t, c.mapped)
			maps.Copy(want, c.added)
			if n.Kind != c.kind || !slices.Equal(n.Fields, wepay.NewFields(want)) || n.Omitted != "" {
				t.Errorf("got %s %v, omitted %q\nwant %s %v", n.Kind, n.Fields, n.Omitted, c.kind, wepay.NewFields(want))
			}
			if string(n.Resource) != v.Plaintext {
				t.Errorf("the resource is %s", n.Resource)
			}
		})
	}
}

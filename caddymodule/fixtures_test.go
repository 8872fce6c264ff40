package caddymodule

import (
	"net/http"
	"os"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

// testMerchant is whom the vectors in wepay/apiv2/testdata are for.
var testMerchant = &wepay.Merchant{
	Name: "shop", Env: wepay.H5, Type: wepay.Direct, AppID: "wx00112233445566aa", MchID: "1900000109",
	PartnerKey: testKey, SignType: wepay.MD5, CbNotifyURL: "http://orders/apis/v1/mqtt/pay_notify",
	Endpoints: wepay.DefaultEndpoints,
}

// orders is an order service: a function of what it gets.
type orders func(*http.Request) (*http.Response, error)

func (o orders) RoundTrip(r *http.Request) (*http.Response, error) { return o(r) }

// notificationXML is a notification of 27 fields, signed with testKey.
func notificationXML(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile("../testdata/notifications/v20.xml")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

package caddymodule

import (
	"errors"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// WeChat's own test without content is for the account that alone knows its key, and
// for none where two do.
func TestOpenEchoWithoutContent(t *testing.T) {
	s := signedOf(t, wepaytest.Event{URL: "http://127.0.0.1/", Type: wepay.SecurityEchoed, Resource: map[string]any{}}, wepaytest.WithEnvelope("resource", nil))
	other := *s.merchant
	other.Name, other.MchID, other.APIv3Key = "other", "1900000110", strings.Repeat("o", 32)
	entry := *s.merchant
	entry.Name, entry.AppID = "entry", "wxaabbccddeeff0011"
	for name, test := range map[string]struct {
		merchants []*wepay.Merchant
		want      error
	}{
		"one account":              {[]*wepay.Merchant{s.merchant}, nil},
		"one account, two entries": {[]*wepay.Merchant{s.merchant, &entry}, nil},
		"two accounts":             {[]*wepay.Merchant{s.merchant, &other}, wepay.ErrForeign},
	} {
		var keyRings []*apiv3.KeyRing
		for _, m := range test.merchants {
			keyRings = append(keyRings, apiv3.NewKeyRing(m, nil, wepay.ClientOptions{}))
		}
		unverified, err := apiv3.ReadNotification(s.header, s.body)
		if err != nil {
			t.Fatal(err)
		}
		opened, merchant, err := open(t.Context(), unverified, keyRings)
		if !errors.Is(err, test.want) || (err == nil) != (opened != nil) || err == nil && merchant.MchID != s.merchant.MchID {
			t.Errorf("%s: got %v, %v", name, merchant, err)
		}
	}
}

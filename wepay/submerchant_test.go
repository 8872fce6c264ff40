package wepay_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

func subs(ids ...string) func(*wepay.Merchant) {
	return func(m *wepay.Merchant) { m.SubMchIDs = ids }
}

func TestActFor(t *testing.T) {
	several := func() *wepay.Merchant { return partner(sub(""), subs("2", "3")) }
	standard := func() *wepay.Merchant { return partner(sub("1"), subs("2"), subApp) }
	anybody := func() *wepay.Merchant { return partner(sub(""), subs(wepay.AnySubMerchant)) }
	const configured = "wx00112233445566bb"
	tests := []struct {
		name      string
		m         *wepay.Merchant
		subMchID  string
		subAppID  string
		needless  bool
		want, app string // of whom it acts for
		refused   string
		missing   bool
	}{
		{name: "a direct merchant", m: direct()},
		{name: "a direct merchant with a sub-merchant", m: direct(), subMchID: "2", refused: "sub_mch_id"},
		{name: "a direct merchant with a sub-merchant's app", m: direct(), subAppID: "wx00112233445566dd", refused: "sub_appid"},

		{name: "the only one", m: partner(), want: "1900000110"},
		{name: "the only one, named", m: partner(), subMchID: "1900000110", want: "1900000110"},
		{name: "the only one's other app", m: partner(), subAppID: "wx00112233445566dd", want: "1900000110", app: "wx00112233445566dd"},
		{name: "another than the only one", m: partner(), subMchID: "2", refused: "sub_mch_id"},

		{name: "the standard one", m: standard(), want: "1", app: configured},
		{name: "the standard one, named", m: standard(), subMchID: "1", want: "1", app: configured},
		{name: "the standard one's other app", m: standard(), subMchID: "1", subAppID: "wx00112233445566dd", want: "1", app: "wx00112233445566dd"},
		{name: "a further one, without the standard one's app", m: standard(), subMchID: "2", want: "2"},
		{name: "a further one with its app", m: standard(), subMchID: "2", subAppID: "wx00112233445566dd", want: "2", app: "wx00112233445566dd"},
		{name: "one that is not allowed", m: standard(), subMchID: "3", refused: "sub_mch_id"},

		{name: "one of several", m: several(), subMchID: "3", want: "3"},
		{name: "none of several", m: several(), refused: "sub_mch_id", missing: true},
		{name: "none of several, where none is needed", m: several(), needless: true},
		{name: "another than several", m: several(), subMchID: "4", refused: "sub_mch_id"},
		{name: "a part of one of several", m: several(), subMchID: "23", refused: "sub_mch_id"},

		{name: "anybody", m: anybody(), subMchID: "4", want: "4"},
		{name: "nobody, where anybody may be", m: anybody(), refused: "sub_mch_id", missing: true},
		{name: "the sign for anybody", m: anybody(), subMchID: "*", refused: "sub_mch_id"},
		{name: "the sign for anybody of several", m: several(), subMchID: "*", refused: "sub_mch_id"},
		{name: "an odd one", m: anybody(), subMchID: "4 5", refused: "sub_mch_id"},
		{name: "a long one", m: anybody(), subMchID: strings.Repeat("4", 33), refused: "sub_mch_id"},
		{name: "an odd app", m: anybody(), subMchID: "4", subAppID: "wx 2", refused: "sub_appid"},
		{name: "a long app", m: anybody(), subMchID: "4", subAppID: strings.Repeat("w", 33), refused: "sub_appid"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			before := *test.m
			in := wepay.NewFields(map[string]string{"a": "1", "sub_mch_id": test.subMchID, "sub_appid": test.subAppID, "z": "2"})
			acting, request, err := test.m.ActFor(in, !test.needless)
			if field := wantField(t, err, test.refused); field != nil && field.Missing != test.missing {
				t.Errorf("missing is %v: %v", field.Missing, err)
			}
			if in.Get("sub_mch_id") != test.subMchID || len(in) != 4 || test.m.SubMchID != before.SubMchID || test.m.SubAppID != before.SubAppID {
				t.Error("what it was given was changed")
			}
			if err != nil {
				if acting != nil || request != nil {
					t.Errorf("got %v, %v with an error", acting, request)
				}
				return
			}
			if acting.SubMchID != test.want || acting.SubAppID != test.app || acting.MchID != test.m.MchID || acting == test.m {
				t.Errorf("it acts for %q with %q, want %q with %q", acting.SubMchID, acting.SubAppID, test.want, test.app)
			}
			if len(request) != 2 || request.Get("a") != "1" || request.Get("z") != "2" {
				t.Errorf("the request is %v, want it without the two", request)
			}
		})
	}
}

func TestNewMerchantsWithSubMerchants(t *testing.T) {
	elsewhere := callback("http://elsewhere/")
	tests := []struct {
		name string
		a, b *wepay.Merchant
		ok   bool
	}{
		{"of one sub-merchant each", partner(sub("1")), partner(sub("2"), elsewhere), true},
		{"of the same", partner(sub("1")), partner(sub("1"), elsewhere), false},
		{"of the same, to one place", partner(sub("1")), partner(sub("1")), true},
		{"of several each", partner(sub(""), subs("1", "2")), partner(sub(""), subs("3", "4"), elsewhere), true},
		{"of several each that share one", partner(sub(""), subs("1", "2")), partner(sub(""), subs("2", "3"), elsewhere), false},
		{"of several each that share one, with another key", partner(sub(""), subs("1", "2")), partner(sub(""), subs("2", "3"), partnerKey(strings.Repeat("x", 32))), false},
		{"of one and of several with it", partner(sub("1")), partner(sub("2"), subs("3", "1"), elsewhere), false},
		{"of one and of several without it", partner(sub("1")), partner(sub("2"), subs("3"), elsewhere), true},
		{"of one and of anybody", partner(sub("1")), partner(sub(""), subs("*"), elsewhere), false},
		{"of several and of anybody", partner(sub(""), subs("1", "2")), partner(sub(""), subs("*"), elsewhere), false},
		{"of anybody and of anybody", partner(sub(""), subs("*")), partner(sub(""), subs("*"), elsewhere), false},
		{"of anybody, of two apps", partner(sub(""), subs("*")), partner(sub(""), subs("*"), elsewhere, app("wx00112233445566dd")), true},
		{"of anybody, of two trade types", partner(sub(""), subs("*")), partner(sub(""), subs("*"), elsewhere, env(wepay.APP)), true},
		{"a direct one and one of several", direct(), partner(sub(""), subs("1", "2"), elsewhere), true},
		{"a direct one and one of anybody", direct(), partner(sub(""), subs("*"), elsewhere), true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.a.Name, test.b.Name = "a", "b"
			for _, all := range [][]*wepay.Merchant{{test.a, test.b}, {test.b, test.a}} {
				if _, err := wepay.NewMerchants(all...); test.ok != (err == nil) {
					t.Errorf("got %v", err)
				}
			}
		})
	}
}

// Comparing two merchants leaves their lists alone, which may be parts of one.
func TestNewMerchantsKeepsTheLists(t *testing.T) {
	all := []string{"1", "2", "3"}
	a, b := partner(named("a"), sub("8"), subs(all[:1]...)), partner(named("b"), sub("9"), subs(all[2:]...))
	a.SubMchIDs = all[:1]
	together(t, a, b)
	if strings.Join(all, " ") != "1 2 3" {
		t.Errorf("the list is %v", all)
	}
}

func TestReceiverOfSubMerchants(t *testing.T) {
	elsewhere := callback("http://elsewhere/")
	several := partner(named("several"), sub("1"), subs("2", "3"))
	other := partner(named("other"), sub("4"), elsewhere)
	inApp := partner(named("app"), sub(""), subs("*"), env(wepay.APP), elsewhere)
	shop := direct(named("shop"))
	to := func(subMchID, tradeType string) wepay.Recipient {
		return wepay.Recipient{MchID: shop.MchID, AppID: shop.AppID, SubMchID: subMchID, TradeType: tradeType}
	}
	tests := []struct {
		name string
		r    wepay.Recipient
		want *wepay.Merchant // nil for ErrForeign
	}{
		{"of the standard one", to("1", "JSAPI"), several},
		{"of a further one", to("3", "JSAPI"), several},
		{"of another merchant's", to("4", "JSAPI"), other},
		{"of nobody's, by page", to("5", "JSAPI"), inApp},
		{"of nobody's, by app", to("5", "APP"), inApp},
		{"of the standard one, by app", to("1", "APP"), inApp},
		{"of the direct merchant", to("", "JSAPI"), shop},
		{"of the standard one, by a QR code of two that disagree", to("1", "NATIVE"), nil},
		{"of the direct merchant, by a QR code", to("", "NATIVE"), shop},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := together(t, several, other, inApp, shop).Receiver("", test.r)
			if got != test.want || (test.want == nil) != errors.Is(err, wepay.ErrForeign) {
				t.Errorf("got %v, %v, want %v", got, err, test.want)
			}
		})
	}
	t.Run("of one that nobody acts for", func(t *testing.T) {
		if got, err := together(t, several, other).Receiver("", to("5", "JSAPI")); !errors.Is(err, wepay.ErrForeign) {
			t.Errorf("got %v, %v, want ErrForeign", got, err)
		}
	})
	t.Run("without a sub-merchant", func(t *testing.T) {
		anybody := partner(named("anybody"), sub(""), subs("*"))
		if got, err := together(t, anybody).Receiver("", to("", "JSAPI")); !errors.Is(err, wepay.ErrForeign) {
			t.Errorf("got %v, %v, want ErrForeign", got, err)
		}
	})
}

func TestEventIDOfSubMerchants(t *testing.T) {
	m := partner(sub(""), subs("*"))
	a, b := paid(m, map[string]string{"sub_mch_id": "1"}), paid(m, map[string]string{"sub_mch_id": "2"})
	if a.EventID() == b.EventID() {
		t.Error("two sub-merchants' payments have one ID")
	}
}

// Money of the partner's own names no sub-merchant, and may be told to whichever
// entry of the partner's.
func TestEventIDOfOwnMoney(t *testing.T) {
	for kind, same := range map[wepay.Kind]bool{wepay.Transferred: true, wepay.ProfitShared: true, wepay.Payment: false, wepay.Refunded: false} {
		a, b := told(partner(sub("1")), kind, "transfer_bill_no", "42"), told(partner(sub("2")), kind, "transfer_bill_no", "42")
		if (a.EventID() == b.EventID()) != same {
			t.Errorf("%s: %s and %s", kind, a.EventID(), b.EventID())
		}
	}
}

func TestValidateSubMerchants(t *testing.T) {
	for name, test := range map[string]struct {
		m     *wepay.Merchant
		field string
	}{
		"a partner of one":                 {partner(), ""},
		"a partner of several":             {partner(sub(""), subs("1", "2")), ""},
		"a partner of anybody":             {partner(sub(""), subs("*")), ""},
		"a partner of nobody":              {partner(sub("")), "sub_mch_id"},
		"a direct one":                     {direct(), ""},
		"a direct one with one":            {direct(sub("1")), "sub_mch_id"},
		"a direct one with a list of them": {direct(subs("1")), "sub_mch_id"},
		"a direct one with an app":         {direct(subApp), "sub_app_id"},
	} {
		t.Run(name, func(t *testing.T) { wantField(t, test.m.Validate(now), test.field) })
	}
}

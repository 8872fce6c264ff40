package wepay_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

func mch(id string) func(*wepay.Merchant) {
	return func(m *wepay.Merchant) { m.MchID = id }
}

func sub(id string) func(*wepay.Merchant) {
	return func(m *wepay.Merchant) { m.SubMchID = id }
}

func app(id string) func(*wepay.Merchant) {
	return func(m *wepay.Merchant) { m.AppID = id }
}

func partnerKey(k string) func(*wepay.Merchant) {
	return func(m *wepay.Merchant) { m.PartnerKey = k }
}

func together(t *testing.T, all ...*wepay.Merchant) *wepay.Merchants {
	t.Helper()
	ms, err := wepay.NewMerchants(all...)
	if err != nil {
		t.Fatal(err)
	}
	return ms
}

func TestNewMerchants(t *testing.T) {
	otherKey := strings.Repeat("x", 32)
	tests := []struct {
		name   string
		second *wepay.Merchant // beside direct(), which is H5
		ok     bool
	}{
		{"of the same name", direct(mch("2")), false},
		{"the same account twice", direct(named("b")), true},
		{"the same account to elsewhere", direct(named("b"), callback("http://elsewhere/")), false},
		{"the same account with another key", direct(named("b"), partnerKey(otherKey)), false},
		// A page and a mini program both have trade type JSAPI.
		{"a mini program to elsewhere", direct(named("b"), env(wepay.WXAPP), callback("http://elsewhere/")), false},
		{"an app to elsewhere", direct(named("b"), env(wepay.APP), callback("http://elsewhere/")), true},
		{"another appid to elsewhere", direct(named("b"), app("wx2"), callback("http://elsewhere/")), true},
		{"another mch_id to elsewhere", direct(named("b"), mch("2"), callback("http://elsewhere/")), true},
		{"another sub_mch_id to elsewhere", partner(callback("http://elsewhere/")), true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := wepay.NewMerchants(direct(), test.second)
			if test.ok != (err == nil) {
				t.Errorf("got %v", err)
			}
			if err != nil && strings.Contains(err.Error(), otherKey) {
				t.Errorf("the error repeats the key: %v", err)
			}
		})
	}
}

func TestAllAndNamed(t *testing.T) {
	a, b := direct(named("a")), direct(named("b"))
	ms := together(t, b, a)
	if !slices.Equal(ms.All(), []*wepay.Merchant{b, a}) {
		t.Error("All has another order than the configuration")
	}
	if ms.Named("a") != a || ms.Named("b") != b || ms.Named("") != nil || ms.Named("c") != nil {
		t.Error("Named returns another merchant")
	}
}

func TestSelect(t *testing.T) {
	ms := together(t,
		direct(named("page")),
		direct(named("mini"), env(wepay.WXAPP), app("wxmini")),
		direct(named("other"), mch("1900000111"), app("wxother")),
		partner(named("sub1"), mch("1900000112"), sub("1")),
		partner(named("sub2"), mch("1900000112"), sub("2")),
		partner(named("sub2 app"), mch("1900000112"), sub("2"), env(wepay.APP)),
	)
	tests := []struct {
		name string
		s    wepay.Selector
		want string // "" for ErrNoMerchant
	}{
		{"nothing asked for", wepay.Selector{}, "page"},
		{"by name", wepay.Selector{Name: "other"}, "other"},
		{"by an unknown name", wepay.Selector{Name: "nobody"}, ""},
		{"by name and its mch_id", wepay.Selector{Name: "other", MchID: "1900000111"}, "other"},
		{"by name and another's mch_id", wepay.Selector{Name: "other", MchID: "1900000109"}, ""},
		{"by name and another's appid", wepay.Selector{Name: "page", AppID: "wxmini"}, ""},
		{"by name and another env", wepay.Selector{Name: "page", Env: wepay.WXAPP}, ""},
		{"by mch_id of one account, the first", wepay.Selector{MchID: "1900000109"}, "page"},
		{"by mch_id and env", wepay.Selector{MchID: "1900000109", Env: wepay.WXAPP}, "mini"},
		{"by appid", wepay.Selector{AppID: "wxother"}, "other"},
		{"by an unknown mch_id", wepay.Selector{MchID: "1"}, ""},
		{"by env of one", wepay.Selector{Env: wepay.APP}, "sub2 app"},
		{"by env across accounts", wepay.Selector{Env: wepay.H5}, ""},
		{"by appid across accounts", wepay.Selector{AppID: "wx00112233445566aa"}, ""},
		{"by mch_id across sub-merchants", wepay.Selector{MchID: "1900000112"}, ""},
		{"by an env nobody has", wepay.Selector{Env: wepay.NATIVE}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := ms.Select(test.s)
			if test.want == "" {
				if !errors.Is(err, wepay.ErrNoMerchant) || got != nil {
					t.Errorf("got %v, %v, want ErrNoMerchant", got, err)
				}
				return
			}
			if err != nil || got.Name != test.want {
				t.Errorf("got %v, %v, want %s", got, err, test.want)
			}
		})
	}
	if _, err := together(t).Select(wepay.Selector{}); !errors.Is(err, wepay.ErrNoMerchant) {
		t.Errorf("without merchants: got %v, want ErrNoMerchant", err)
	}
}

func TestReceiver(t *testing.T) {
	page := direct(named("page"))
	inApp := direct(named("app"), env(wepay.APP), callback("http://elsewhere/"))
	other := direct(named("other"), mch("1900000111"))
	otherApp := direct(named("other app"), mch("1900000111"), env(wepay.APP))
	forSub := partner(named("sub"))
	to := func(m *wepay.Merchant, tradeType string) wepay.Recipient {
		return wepay.Recipient{MchID: m.MchID, AppID: m.AppID, SubMchID: m.SubMchID, TradeType: tradeType}
	}
	tests := []struct {
		test string
		name string
		r    wepay.Recipient
		want *wepay.Merchant // nil for ErrForeign
	}{
		{"a page's", "", to(page, "JSAPI"), page},
		{"an app's", "", to(inApp, "APP"), inApp},
		{"a third trade type of two that disagree", "", to(page, "NATIVE"), nil},
		{"a third trade type by name", "app", to(page, "NATIVE"), inApp},
		{"by the name of the other trade type", "page", to(page, "APP"), page},
		{"a sub-merchant's", "", to(forSub, "JSAPI"), forSub},
		{"by another merchant's name", "other", to(page, "JSAPI"), nil},
		{"by an unknown name", "nobody", to(page, "JSAPI"), nil},
		{"another mch_id", "", wepay.Recipient{MchID: "1", AppID: page.AppID, TradeType: "JSAPI"}, nil},
		{"another appid", "", wepay.Recipient{MchID: page.MchID, AppID: "wx1", TradeType: "JSAPI"}, nil},
		{"another sub_mch_id", "", wepay.Recipient{MchID: page.MchID, AppID: page.AppID, SubMchID: "1", TradeType: "JSAPI"}, nil},
		{"nothing said", "", wepay.Recipient{}, nil},
	}
	for _, test := range tests {
		t.Run(test.test, func(t *testing.T) {
			all := []*wepay.Merchant{page, inApp, other, otherApp, forSub}
			// Whichever is configured first, a notification goes to the same one.
			for range 2 {
				got, err := together(t, all...).Receiver(test.name, test.r)
				if got != test.want || (test.want == nil) != errors.Is(err, wepay.ErrForeign) {
					t.Errorf("got %v, %v, want %v", got, err, test.want)
				}
				slices.Reverse(all)
			}
		})
	}
	t.Run("a third trade type of two that agree", func(t *testing.T) {
		got, err := together(t, other, otherApp).Receiver("", to(other, "NATIVE"))
		if err != nil || got != other {
			t.Errorf("got %v, %v, want the first", got, err)
		}
	})
}

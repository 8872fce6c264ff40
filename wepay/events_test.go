package wepay_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

func events(url string) func(*wepay.Merchant) {
	return func(m *wepay.Merchant) { m.CbEventURL = url }
}

// An event is for whom it names, and else for the account whose key it came by: for
// the merchant of it that has a cb_event_url, as long as there is one such URL.
func TestReceiverOfEvents(t *testing.T) {
	otherKey := strings.Repeat("x", 32)
	account := mch("1900000112")
	withV3 := func(m *wepay.Merchant) { m.APIv3Key = apiV3Key }
	quiet, page := v3(t, named("quiet")), v3(t, named("page"), app("wxpage"), events("http://events/"))
	mini, elsewhere := v3(t, named("mini"), app("wxmini"), events("http://events/")), v3(t, named("elsewhere"), app("wxelse"), events("http://elsewhere/"))
	stranger := v3(t, named("stranger"), mch("1900000111"), events("http://stranger/"))
	first := partner(named("first"), account, sub("1"), withV3, events("http://partner/"))
	second := partner(named("second"), account, sub("2"), withV3, app("wxmini"), events("http://partner/2"))
	old, older := direct(named("old"), events("http://old/")), direct(named("older"), app("wxolder"))
	event := func(r wepay.Recipient) wepay.Recipient {
		r.Kind = wepay.OtherEvent
		return r
	}
	of := func(m *wepay.Merchant, appID string) wepay.Recipient {
		return event(wepay.Recipient{MchID: m.MchID, AppID: appID, Account: m.MchID, APIv3Key: apiV3Key})
	}
	ofV2 := func(mchID, appID string) wepay.Recipient {
		return event(wepay.Recipient{MchID: mchID, AppID: appID, Account: mchID})
	}
	sub := of(first, "")
	sub.SubMchID = "2"
	nobodys := sub
	nobodys.SubMchID = "9"
	payment := ofV2(old.MchID, "")
	payment.Kind = wepay.Payment
	for name, test := range map[string]struct {
		all  []*wepay.Merchant
		by   string
		r    wepay.Recipient
		want *wepay.Merchant // nil for ErrForeign
	}{
		"of one":                            {[]*wepay.Merchant{quiet}, "", of(quiet, ""), quiet},
		"of one that takes events":          {[]*wepay.Merchant{quiet, page}, "", of(quiet, ""), page},
		"of several that agree, the first":  {[]*wepay.Merchant{quiet, mini, page}, "", of(quiet, ""), mini},
		"of several that do not":            {[]*wepay.Merchant{quiet, elsewhere, page}, "", of(quiet, ""), nil},
		"of several that do not, by a name": {[]*wepay.Merchant{quiet, elsewhere, page}, "page", of(quiet, ""), page},
		"by the name of who takes none":     {[]*wepay.Merchant{quiet, elsewhere, page}, "quiet", of(quiet, ""), quiet},
		"that names its appid":              {[]*wepay.Merchant{quiet, elsewhere, page}, "", of(quiet, "wxelse"), elsewhere},
		"of an appid that takes none":       {[]*wepay.Merchant{quiet, page}, "", of(quiet, quiet.AppID), page},
		"of one that takes none, by a name": {[]*wepay.Merchant{quiet, page}, "quiet", of(quiet, quiet.AppID), quiet},
		"of an account that takes none":     {[]*wepay.Merchant{v3(t, named("app"), app("wxpage")), quiet}, "", of(quiet, quiet.AppID), quiet},
		"of an appid that is not here":      {[]*wepay.Merchant{quiet, page}, "", of(quiet, "wxnobody"), page},
		"of a number that is not here":      {[]*wepay.Merchant{page}, "", event(wepay.Recipient{MchID: "7", Account: page.MchID, APIv3Key: apiV3Key}), page},
		"of another account of that key":    {[]*wepay.Merchant{page, stranger}, "", of(stranger, ""), stranger},
		"opened with another key":           {[]*wepay.Merchant{page}, "", event(wepay.Recipient{MchID: page.MchID, Account: page.MchID, APIv3Key: otherKey}), nil},
		"of whom only the key is known":     {[]*wepay.Merchant{old, page}, "", event(wepay.Recipient{APIv3Key: apiV3Key}), page},
		"of two that have the key":          {[]*wepay.Merchant{stranger, page}, "", event(wepay.Recipient{APIv3Key: apiV3Key}), nil},
		"a partner's":                       {[]*wepay.Merchant{first, second}, "", of(first, ""), nil},
		"a sub-merchant's":                  {[]*wepay.Merchant{first, second}, "", sub, second},
		"a stranger's sub-merchant":         {[]*wepay.Merchant{first}, "", nobodys, first},
		"a stranger's, by a name":           {[]*wepay.Merchant{first, second}, "first", nobodys, first},
		"of one, by the name of another":    {[]*wepay.Merchant{first, second}, "first", sub, nil},
		"of one, by its name":               {[]*wepay.Merchant{first, second}, "second", sub, second},
		"of API v2":                         {[]*wepay.Merchant{older, old}, "", ofV2(old.MchID, ""), old},
		"of API v2, with an appid":          {[]*wepay.Merchant{older, old}, "", ofV2(old.MchID, "wxolder"), old},
		"of API v2, of another appid":       {[]*wepay.Merchant{older, old}, "", ofV2(old.MchID, "wxnobody"), old},
		"of API v2, of nobody":              {[]*wepay.Merchant{older, old}, "", ofV2("", ""), nil},
		"of API v2, without a key":          {[]*wepay.Merchant{page}, "", ofV2(page.MchID, ""), nil},
		"a payment without an appid":        {[]*wepay.Merchant{old}, "", payment, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := together(t, test.all...).Receiver(test.by, test.r)
			if got != test.want || (test.want == nil) != errors.Is(err, wepay.ErrForeign) {
				t.Errorf("got %v, %v, want %v", got, err, test.want)
			}
		})
	}
	ms := together(t, page)
	if got := ms.Keyless("", ofV2(page.MchID, "")); got != page {
		t.Errorf("without a key of API v2 it is for %v", got)
	}
}

// An event never goes where payments go.
func TestCallbackURL(t *testing.T) {
	m := direct(callback("http://orders/"))
	for kind, want := range map[wepay.Kind]string{wepay.Payment: "http://orders/", wepay.Refunded: "http://orders/", wepay.OtherEvent: "", wepay.ProfitShared: "http://orders/"} {
		if got := m.CallbackURL(kind); got != want {
			t.Errorf("%s: %q, want %q", kind, got, want)
		}
	}
	m.CbEventURL, m.CbRefundNotifyURL = "http://events/", "http://refunds/"
	for kind, want := range map[wepay.Kind]string{wepay.Payment: "http://orders/", wepay.Refunded: "http://refunds/", wepay.OtherEvent: "http://events/"} {
		if got := m.CallbackURL(kind); got != want {
			t.Errorf("%s: %q, want %q", kind, got, want)
		}
	}
}

// Whoever misspells a name in a notify_url is told so, whatever is sent there.
func TestReceiverOfNoName(t *testing.T) {
	shop := direct(named("shop"))
	_, err := together(t, shop).Receiver("shopp", wepay.Recipient{MchID: shop.MchID, AppID: shop.AppID})
	if !errors.Is(err, wepay.ErrForeign) || !strings.Contains(err.Error(), `there is no merchant "shopp" here`) {
		t.Errorf("got %v", err)
	}
}

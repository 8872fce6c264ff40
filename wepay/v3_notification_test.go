package wepay_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

// A notification of API v3 is for whoever has the key that opened it, and one of
// API v2 for nobody without a key of API v2.
func TestReceiverOfV3(t *testing.T) {
	otherKey := strings.Repeat("x", 32)
	page := v3(t, named("page"))
	inApp := v3(t, named("app"), env(wepay.APP), callback("http://elsewhere/"))
	otherApp := v3(t, named("other app"), app("wxother"))
	both := v3(t, named("both"), mch("1900000111"), partnerKey(key))
	forSub := partner(named("sub"), mch("1900000112"), sub("1"), func(m *wepay.Merchant) { m.APIv3Key = apiV3Key })
	to := func(m *wepay.Merchant, tradeType, opened string) wepay.Recipient {
		return wepay.Recipient{MchID: m.MchID, AppID: m.AppID, SubMchID: m.SubMchID, TradeType: tradeType, APIv3Key: opened}
	}
	noApp := func(r wepay.Recipient) wepay.Recipient {
		r.AppID = ""
		return r
	}
	ms := together(t, page, inApp, otherApp, both, forSub)
	for name, test := range map[string]struct {
		by   string
		r    wepay.Recipient
		want *wepay.Merchant // nil for ErrForeign
	}{
		"a page's":                       {"", to(page, "JSAPI", apiV3Key), page},
		"an app's":                       {"", to(inApp, "APP", apiV3Key), inApp},
		"another appid's":                {"", to(otherApp, "JSAPI", apiV3Key), otherApp},
		"opened with another key":        {"", to(page, "JSAPI", otherKey), nil},
		"of API v2, without a key":       {"", to(page, "JSAPI", ""), nil},
		"of API v2, with a key":          {"", to(both, "JSAPI", ""), both},
		"of API v3, with both":           {"", to(both, "JSAPI", apiV3Key), both},
		"without an appid, by a name":    {"app", noApp(to(inApp, "", apiV3Key)), inApp},
		"without an appid, of one":       {"", noApp(to(both, "", apiV3Key)), both},
		"without an appid, of several":   {"", noApp(to(page, "", apiV3Key)), nil},
		"of API v2 without an appid":     {"", noApp(to(both, "JSAPI", "")), nil},
		"a sub-merchant's":               {"", to(forSub, "JSAPI", apiV3Key), forSub},
		"another sub-merchant's":         {"", wepay.Recipient{MchID: forSub.MchID, SubMchID: "2", APIv3Key: apiV3Key}, nil},
		"of a sub-merchant, without one": {"", wepay.Recipient{MchID: page.MchID, SubMchID: "1", APIv3Key: apiV3Key}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ms.Receiver(test.by, test.r)
			if got != test.want || (test.want == nil) != errors.Is(err, wepay.ErrForeign) {
				t.Errorf("got %v, %v, want %v", got, err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), otherKey) {
				t.Errorf("the error repeats the key: %v", err)
			}
		})
	}
}

// A refund of API v3 does not say its appid: it is that of those whom it can be for,
// as long as they have one.
func TestAppID(t *testing.T) {
	account := mch("1900000112")
	shop, mini := v3(t, named("shop")), v3(t, named("mini"), app("wxmini"))
	again := v3(t, named("again"))
	alone := v3(t, named("alone"), mch("1900000111"))
	first, second := partner(named("first"), account, sub("1")), partner(named("second"), account, sub("2"), app("wxmini"))
	for _, m := range []*wepay.Merchant{first, second} {
		m.APIv3Key = apiV3Key
	}
	refund := wepay.Recipient{MchID: shop.MchID, APIv3Key: apiV3Key}
	of := func(m *wepay.Merchant, subMchID string) wepay.Recipient {
		return wepay.Recipient{MchID: m.MchID, SubMchID: subMchID, APIv3Key: apiV3Key}
	}
	said := refund
	said.AppID = "wxmini"
	for name, test := range map[string]struct {
		all  []*wepay.Merchant
		by   string
		r    wepay.Recipient
		want string
	}{
		"of one":                     {[]*wepay.Merchant{shop, alone}, "", refund, shop.AppID},
		"of two that have one":       {[]*wepay.Merchant{shop, again}, "", refund, shop.AppID},
		"of two that have two":       {[]*wepay.Merchant{shop, mini}, "", refund, ""},
		"of three that have two":     {[]*wepay.Merchant{mini, shop, again}, "", refund, ""},
		"by a name":                  {[]*wepay.Merchant{shop, mini}, "mini", refund, "wxmini"},
		"of nobody":                  {[]*wepay.Merchant{alone}, "", refund, ""},
		"which is said":              {[]*wepay.Merchant{shop, mini}, "", said, "wxmini"},
		"of a partner":               {[]*wepay.Merchant{first, second}, "", of(second, "2"), "wxmini"},
		"of a partner's own account": {[]*wepay.Merchant{first, second}, "", wepay.Recipient{Account: first.MchID, APIv3Key: apiV3Key}, ""},
	} {
		if got := together(t, test.all...).AppID(test.by, test.r); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

// What is about an account's own money is for whoever has the account, be it a
// partner, who acts for others otherwise.
func TestReceiverOfTheAccount(t *testing.T) {
	withKey := func(m *wepay.Merchant) { m.APIv3Key = apiV3Key }
	account := mch("1900000112")
	alone := partner(named("alone"), account, sub("1"), withKey)
	second := partner(named("second"), account, sub("2"), withKey)
	elsewhere := partner(named("elsewhere"), account, sub("3"), withKey, callback("http://elsewhere/"))
	itself := v3(t, named("itself"), account, app(alone.AppID))
	old := partner(named("old"), account, sub("4"))
	sent := wepay.Recipient{MchID: alone.MchID, Account: alone.MchID, APIv3Key: apiV3Key}
	share := wepay.Recipient{MchID: "1900000113", SubMchID: "9", Account: alone.MchID, APIv3Key: apiV3Key}
	otherKey := sent
	otherKey.APIv3Key = strings.Repeat("x", 32)
	ofV2 := sent
	ofV2.APIv3Key = ""
	paid := sent
	paid.Account = ""
	for name, test := range map[string]struct {
		all  []*wepay.Merchant
		by   string
		r    wepay.Recipient
		want *wepay.Merchant // nil for ErrForeign
	}{
		"of a partner":                       {[]*wepay.Merchant{alone}, "", sent, alone},
		"of several that agree":              {[]*wepay.Merchant{alone, second}, "", sent, alone},
		"of several that do not":             {[]*wepay.Merchant{alone, elsewhere}, "", sent, nil},
		"of several that do not, by a name":  {[]*wepay.Merchant{alone, elsewhere}, "elsewhere", sent, elsewhere},
		"of who acts for itself, before all": {[]*wepay.Merchant{alone, elsewhere, itself}, "", sent, itself},
		"a share of a stranger's order":      {[]*wepay.Merchant{alone}, "", share, alone},
		"a share, of who acts for itself":    {[]*wepay.Merchant{itself}, "", share, itself},
		"opened with another key":            {[]*wepay.Merchant{alone}, "", otherKey, nil},
		"of API v2":                          {[]*wepay.Merchant{alone, old}, "", ofV2, nil},
		"without the key":                    {[]*wepay.Merchant{old}, "", sent, nil},
		"an order of nobody's":               {[]*wepay.Merchant{alone}, "", paid, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := together(t, test.all...).Receiver(test.by, test.r)
			if got != test.want || (test.want == nil) != errors.Is(err, wepay.ErrForeign) {
				t.Errorf("got %v, %v, want %v", got, err, test.want)
			}
		})
	}
}

// Two that one notification of an API could be for have to agree about it, of
// the API alone that both have the key of.
func TestNewMerchantsOfV3(t *testing.T) {
	otherKey := strings.Repeat("x", 32)
	for name, test := range map[string]struct {
		a, b  *wepay.Merchant
		about string // "" for agreement
	}{
		"alike":                   {v3(t), v3(t, named("b")), ""},
		"another APIv3 key":       {v3(t), v3(t, named("b"), func(m *wepay.Merchant) { m.APIv3Key = otherKey }), "apiv3_key"},
		"another payload":         {v3(t), v3(t, named("b"), func(m *wepay.Merchant) { m.Payload = wepay.V3 }), "payload"},
		"payload by its word":     {v3(t), v3(t, named("b"), func(m *wepay.Merchant) { m.Payload = wepay.V2 }), ""},
		"to elsewhere":            {v3(t), v3(t, named("b"), callback("http://elsewhere/")), "cb_notify_url"},
		"refunds to elsewhere":    {v3(t), v3(t, named("b"), func(m *wepay.Merchant) { m.CbRefundNotifyURL = "http://elsewhere/" }), "cb_refund_notify_url"},
		"one of each API":         {direct(callback("http://elsewhere/")), v3(t, named("b")), ""},
		"both, another v2 key":    {v3(t, partnerKey(key)), v3(t, named("b"), partnerKey(otherKey)), "partner_key"},
		"both, payload v3":        {v3(t, partnerKey(key)), v3(t, named("b"), partnerKey(key), func(m *wepay.Merchant) { m.Payload = wepay.V3 }), "payload"},
		"events to elsewhere":     {v3(t, events("http://a/")), v3(t, named("b"), events("http://b/")), "cb_event_url"},
		"events to one of them":   {v3(t, events("http://a/")), v3(t, named("b")), ""},
		"events of another appid": {v3(t, events("http://a/")), v3(t, named("b"), app("wxother"), events("http://b/")), ""},
		"another payload of apps": {v3(t), v3(t, named("b"), env(wepay.APP), func(m *wepay.Merchant) { m.Payload = wepay.V3 }), ""},
	} {
		_, err := wepay.NewMerchants(test.a, test.b)
		if (err != nil) != (test.about != "") || err != nil && (!strings.Contains(err.Error(), test.about) || strings.Contains(err.Error(), otherKey)) {
			t.Errorf("%s: got %v, want %q", name, err, test.about)
		}
	}
}

// told is a notification of a kind of API v3.
func told(m *wepay.Merchant, kind wepay.Kind, pairs ...string) *wepay.Notification {
	var fields wepay.Fields
	for i := 0; i < len(pairs); i += 2 {
		fields.Set(pairs[i], pairs[i+1])
	}
	return &wepay.Notification{Kind: kind, Merchant: m, Fields: fields}
}

// Each event of API v3 has one ID however often it is told, and no two have the
// same.
func TestEventIDsOfV3(t *testing.T) {
	m := v3(t)
	share := []string{"order_id", "1", "out_order_no", "S1", "event_type", "PROFITSHARING.SUCCESS", "receiver_type", "MERCHANT_ID", "receiver_account", "2", "receiver_amount", "3", "success_time", "4"}
	changed := func(name, value string) *wepay.Notification {
		n := told(m, wepay.ProfitShared, share...)
		n.Fields.Set(name, value)
		return n
	}
	events := []*wepay.Notification{
		told(m, wepay.Payment, "transaction_id", "1", "result_code", "SUCCESS"),
		told(m, wepay.Refunded, "refund_id", "1", "refund_status", "SUCCESS"),
		told(m, wepay.Refunded, "refund_id", "1", "refund_status", "CHANGE"),
		told(m, wepay.CombinedPayment, "combine_out_trade_no", "1", "result_code", "SUCCESS"),
		told(m, wepay.CombinedPayment, "combine_out_trade_no", "2", "result_code", "SUCCESS"),
		told(m, wepay.Transferred, "transfer_bill_no", "1", "state", "SUCCESS"),
		told(m, wepay.Transferred, "transfer_bill_no", "1", "state", "FAIL"),
		told(m, wepay.Transferred, "batch_id", "1", "batch_status", "FINISHED"),
		told(m, wepay.Transferred, "batch_id", "1", "batch_status", "CLOSED"),
		told(m, wepay.ProfitShared, share...),
		{Kind: wepay.OtherEvent, Merchant: m, EventType: "COMPLAINT.CREATE", ID: "1"},
		{Kind: wepay.OtherEvent, Merchant: m, EventType: "COMPLAINT.CREATE", ID: "2"},
		{Kind: wepay.OtherEvent, Merchant: m, EventType: "COMPLAINT.STATE_CHANGE", ID: "1"},
		changed("order_id", "9"), changed("event_type", "PROFITSHARING.RETURN"), changed("receiver_account", "9"), changed("receiver_amount", "9"), changed("success_time", "9"),
		changed("summary", "分账回退"), changed("receiver_description", "9"), changed("out_return_no", "9"), changed("return_no", "9"), changed("return_id", "9"),
	}
	seen := make(map[string]int)
	for i, event := range events {
		id := event.EventID()
		if twin, twice := seen[id]; twice {
			t.Errorf("%d and %d have the same ID", twin, i)
		}
		seen[id] = i
		again := &wepay.Notification{Kind: event.Kind, Merchant: event.Merchant, EventType: event.EventType, ID: event.ID, Fields: event.Fields.Clone()}
		again.Fields.Set("told", "again")
		if again.EventID() != id {
			t.Errorf("%d has another ID when it is told again", i)
		}
	}
}

// A refund follows its payment, whichever API told of either.
func TestPrecedingID(t *testing.T) {
	m := v3(t, partnerKey(key))
	payment := told(m, wepay.Payment, "transaction_id", "42", "out_trade_no", "A1", "result_code", "SUCCESS")
	refund := told(m, wepay.Refunded, "transaction_id", "42", "out_trade_no", "A1", "refund_id", "1", "refund_status", "SUCCESS")
	if refund.PrecedingID() != payment.EventID() {
		t.Errorf("the refund follows %s, the payment is %s", refund.PrecedingID(), payment.EventID())
	}
	for _, kind := range []wepay.Kind{wepay.Payment, wepay.OtherEvent, wepay.CombinedPayment, wepay.Transferred, wepay.ProfitShared} {
		if got := told(m, kind, "transaction_id", "42").PrecedingID(); got != "" {
			t.Errorf("%s follows %s", kind, got)
		}
	}
}

// The order service gets WeChat's own resource where the merchant wants it and
// there is one.
func TestPayload(t *testing.T) {
	const resource = `{"mchid":"1900000109","amount":{"total":1}}`
	const flat = `{"total_fee":"1"}`
	for name, test := range map[string]struct {
		payload  wepay.API
		resource string
		want     string
	}{
		"as it is":                   {"", resource, flat},
		"in names of API v2":         {wepay.V2, resource, flat},
		"in names of API v3":         {wepay.V3, resource, resource},
		"told by API v2, wanting v3": {wepay.V3, "", flat},
		"an event":                   {wepay.V2, resource, resource},
		"an event of API v2":         {wepay.V3, "", flat},
	} {
		kind := wepay.Payment
		if strings.HasPrefix(name, "an event") {
			kind = wepay.OtherEvent
		}
		n := told(v3(t, func(m *wepay.Merchant) { m.Payload = test.payload }), kind, "total_fee", "1")
		if test.resource != "" {
			n.Resource = []byte(test.resource)
		}
		if got, err := n.Payload(); err != nil || string(got) != test.want {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, test.want)
		}
	}
}

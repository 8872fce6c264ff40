package apiv3_test

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

const (
	idNumber = "43102119910910512X"
	idName   = "张三"
)

// identified is a request of which one person alone may pay.
func identified(in wepay.Fields) wepay.Fields {
	return with(in, "user_type", "IDCARD", "user_creid", idNumber, "user_truename", idName)
}

// sentIdentity is the payer's identity in what was sent last.
func sentIdentity(t *testing.T, s *shop, path, payer string) map[string]string {
	t.Helper()
	requests := s.wechat.Requests(path)
	if len(requests) == 0 {
		t.Fatalf("nothing was sent to %s", path)
	}
	last := requests[len(requests)-1]
	for _, plain := range []string{idNumber, idName, "user_"} {
		if strings.Contains(string(last.Body), plain) {
			t.Errorf("%s went in clear: %s", plain, last.Body)
		}
	}
	if last.Header.Get("Wechatpay-Serial") == "" {
		t.Error("the key that it is encrypted with is not named")
	}
	var body map[string]json.RawMessage
	var who struct{ Identity map[string]string }
	if err := errors.Join(json.Unmarshal(last.Body, &body), json.Unmarshal(body[payer], &who)); err != nil {
		t.Fatalf("%s: %v", last.Body, err)
	}
	return who.Identity
}

// One person alone pays what a merchant says is for one person alone, in every way to
// know WeChat; of that person WeChat alone can read.
func TestIdentity(t *testing.T) {
	for env, product := range map[wepay.Env]string{wepay.H5: "jsapi", wepay.APP: "app", wepay.MWEB: "h5"} {
		for _, w := range ways {
			t.Run(product+" "+w.name, func(t *testing.T) {
				s := openShop(t, w, func(m *wepay.Merchant) { m.Env = env })
				s.wechat.NamePayee(openID, idName)
				in, root := identified(order("ORDER-0001", "1200")), "/v3/pay/transactions/"
				if w.partner {
					root = "/v3/pay/partner/transactions/"
				}
				s.do(wepay.PlaceOrder, in)
				s.do(wepay.PlaceOrder, in) // is the same, though it is encrypted to another text
				who := sentIdentity(t, s, root+product, "payer")
				if len(who) != 3 || who["type"] != "IDCARD" || len(who["number"]) != 344 || len(who["name"]) != 344 {
					t.Errorf("sent %v", who)
				}
				if _, err := s.wechat.Pay(mchID, "ORDER-0001", wepaytest.Held()); err != nil {
					t.Error(err)
				}
				s.do(wepay.PlaceOrder, with(in, "out_trade_no", "ORDER-0002", "user_truename", "李四"))
				if _, err := s.wechat.Pay(mchID, "ORDER-0002", wepaytest.Held()); !errors.Is(err, wepaytest.ErrNotPayable) {
					t.Errorf("another person pays: %v", err)
				}
				s.do(wepay.CombineOrder, identified(combined("COMBINE-1", parts)))
				if who := sentIdentity(t, s, "/v3/combine-transactions/"+product, "combine_payer_info"); len(who) != 3 || len(who["name"]) != 344 {
					t.Errorf("sent %v", who)
				}
			})
		}
	}
}

// An order that was to be for one person is not placed for anybody.
func TestIdentityIsRefused(t *testing.T) {
	s := openShop(t, ways[2])
	for _, base := range []struct {
		op wepay.Operation
		in wepay.Fields
	}{{wepay.PlaceOrder, order("ORDER-0001", "1200")}, {wepay.CombineOrder, combined("COMBINE-1", parts)}} {
		whole := identified(base.in)
		for _, name := range []string{"user_type", "user_creid", "user_truename"} {
			_, err := s.client.Do(t.Context(), base.op, with(whole, name, ""))
			wantField(t, err, name)
		}
		for name, value := range map[string]string{"user_creid": strings.Repeat("1", 65), "user_truename": "🧦"} {
			_, err := s.client.Do(t.Context(), base.op, with(whole, name, value))
			wantField(t, err, name)
		}
		s.merchant.Env = wepay.NATIVE // where WeChat may not know who is meant
		_, err := s.client.Do(t.Context(), base.op, whole)
		s.merchant.Env = wepay.H5
		wantField(t, err, "user_type")
		if err != nil && strings.Contains(err.Error(), idNumber) {
			t.Errorf("the error tells who: %v", err)
		}
	}
	if n := len(s.wechat.Requests("")); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

// A description is cut after so many characters, once it has lost its emoji; API v2
// would count 381 bytes.
func TestLengthInCharacters(t *testing.T) {
	s := openShop(t, ways[0])
	n := 0
	for body, want := range map[string]string{
		strings.Repeat("袜", 127):        strings.Repeat("袜", 127),
		strings.Repeat("袜", 128):        strings.Repeat("袜", 127),
		strings.Repeat("🧦袜", 127):       strings.Repeat("袜", 127),
		strings.Repeat("袜", 126) + "🧦x": strings.Repeat("袜", 126) + "x",
	} {
		n++
		s.do(wepay.PlaceOrder, with(order("ORDER-"+strconv.Itoa(n), "1200"), "body", body))
		requests := s.wechat.Requests("/v3/pay/transactions/jsapi")
		var sent struct{ Description string }
		if err := json.Unmarshal(requests[len(requests)-1].Body, &sent); err != nil || sent.Description != want {
			t.Errorf("%q was sent as %q, %v", body, sent.Description, err)
		}
	}
}

// The partnerid of a partner's app is its own number, as WeChat's SDK for Java has it,
// unless it wants the sub-merchant's.
func TestPartnerID(t *testing.T) {
	for of, want := range map[wepay.PartnerID]string{"": mchID, wepay.PartnerIDOfPartner: mchID, wepay.PartnerIDOfSub: subMchID} {
		s := openShop(t, ways[4], func(m *wepay.Merchant) { m.Env, m.PartnerID = wepay.APP, of })
		check(t, s.do(wepay.PlaceOrder, order("ORDER-0001", "1200")), "partnerid", want)
		check(t, s.do(wepay.CombineOrder, combined("COMBINE-1", parts)), "partnerid", mchID)
	}
	s := openShop(t, ways[0], func(m *wepay.Merchant) { m.Env = wepay.APP })
	check(t, s.do(wepay.PlaceOrder, order("ORDER-0001", "1200")), "partnerid", mchID)
}

package e2e_test

import (
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

func TestCloseOrder(t *testing.T) {
	env, shop := newStall(t)
	named := func(id string) map[string]any { return map[string]any{"out_trade_no": id} }
	env.get("get_pay_request_params", shop.order("order-1"))
	env.get("close_order", named("order-1"))
	if _, err := env.wechat.Pay(shop.mchID, "order-1"); !errors.Is(err, wepaytest.ErrNotPayable) {
		t.Errorf("a closed order could be paid: %v", err)
	}
	checkFields(t, env.get("order_query", named("order-1")), map[string]string{"trade_state": "CLOSED", "out_trade_no": "order-1"})
	env.declines("close_order", named("order-1"), "ORDERCLOSED", "DONE")
	env.declines("get_pay_request_params", shop.order("order-1"), "ORDERCLOSED", "NEVER")

	env.paid(shop, "order-2", nil)
	env.declines("close_order", named("order-2"), "ORDERPAID", "DONE")
	env.declines("close_order", named("order-3"), "ORDERNOTEXIST", "DONE")
	env.declines("order_query", named("order-3"), "ORDERNOTEXIST", "AGAIN")
	checkFields(t, env.get("order_query", named("order-2")), map[string]string{"trade_state": "SUCCESS", "total_fee": "1200"})
}

// All refunds of an order are told, though WeChat tells ten at a time: in its
// numbered fields, and as a list.
func TestRefundQuery(t *testing.T) {
	env, shop := newStall(t)
	id := env.paid(shop, "order-1", nil)
	var refundIDs []string
	for i := range 12 {
		reply := env.get("refund", shop.refund("order-1", fmt.Sprintf("r%d", i), 10+i))
		refundIDs = append(refundIDs, reply["refund_id"])
	}
	if _, err := env.wechat.FinishRefund(shop.mchID, "r11", wepaytest.RefundSuccess); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		request map[string]any
		first   int // of the refunds that are told
		count   int
		asked   int // how often WeChat was
	}{
		{"by out_trade_no", map[string]any{"out_trade_no": "order-1"}, 0, 12, 2},
		{"by transaction_id", map[string]any{"transaction_id": id}, 0, 12, 2},
		{"a page", map[string]any{"out_trade_no": "order-1", "offset": 10}, 10, 2, 1},
		{"by out_refund_no", map[string]any{"out_refund_no": "r7"}, 7, 1, 1},
		{"by refund_id", map[string]any{"refund_id": refundIDs[3]}, 3, 1, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			env := env.in(t)
			before := len(env.wechat.Requests("/pay/refundquery"))
			f := env.done("refund_query", test.request)
			var refunds []map[string]string
			if err := json.Unmarshal(f.Result["refunds"], &refunds); err != nil || len(refunds) != test.count {
				t.Fatalf("%s, wants %d refunds (%v)", f.body, test.count, err)
			}
			if count := f.text(t, "refund_count"); count != fmt.Sprint(test.count) {
				t.Errorf("refund_count is %s", count)
			}
			sum := 0
			for i, refund := range refunds {
				n := test.first + i
				sum += 10 + n
				status := map[bool]string{true: "SUCCESS", false: "PROCESSING"}[n == 11]
				checkFields(t, refund, map[string]string{
					"out_refund_no": fmt.Sprintf("r%d", n), "refund_id": refundIDs[n], "refund_fee": fmt.Sprint(10 + n), "refund_status": status,
				})
				if flat := f.text(t, fmt.Sprintf("refund_id_%d", i)); flat != refundIDs[n] {
					t.Errorf("refund_id_%d is %s, wants %s", i, flat, refundIDs[n])
				}
			}
			if total := f.text(t, "refund_fee"); total != fmt.Sprint(sum) {
				t.Errorf("refund_fee is %s, of %d in all", total, sum)
			}
			if asked := len(env.wechat.Requests("/pay/refundquery")) - before; asked != test.asked {
				t.Errorf("WeChat was asked %d times, wants %d", asked, test.asked)
			}
		})
	}
	env.declines("refund_query", map[string]any{"out_refund_no": "r12"}, "REFUNDNOTEXIST", "AGAIN")
	env.refuses("refund_query", map[string]any{"out_trade_no": "order-1", "offset": -1}, 40003, "offset: ")
}

// charge is a payment by a code that a payer shows.
func charge(env *environment, id string, options ...wepaytest.CodeOption) map[string]any {
	return map[string]any{"out_trade_no": id, "auth_code": env.wechat.ShowCode(openID, options...), "total_fee": 1200, "body": "茶"}
}

func TestMicropay(t *testing.T) {
	env, shop := newStall(t)
	named := map[string]any{"out_trade_no": "order-1"}
	payment := charge(env, "order-1")
	reply := env.get("micropay", payment)
	checkFields(t, reply, map[string]string{"trade_type": "MICROPAY", "openid": openID, "total_fee": "1200", "out_trade_no": "order-1"})
	checkFields(t, asMap(env.last("/pay/micropay").Fields), map[string]string{"spbill_create_ip": "127.0.0.1", "appid": shop.appID, "mch_id": shop.mchID, "body": "茶"})
	checkFields(t, env.get("order_query", named), map[string]string{"trade_state": "SUCCESS", "transaction_id": reply["transaction_id"]})
	env.declines("micropay", payment, "ORDERPAID", "DONE")
	if delivered := env.orders.forget(); len(delivered) > 0 {
		t.Errorf("the order service got %s", delivered[0].body)
	}

	checkFields(t, env.get("reverse", map[string]any{"transaction_id": reply["transaction_id"]}), map[string]string{"recall": "N"})
	checkFields(t, env.get("order_query", named), map[string]string{"trade_state": "REVOKED"})
	env.get("reverse", named) // no more than before
	if funds, _ := env.wechat.Funds(shop.mchID); funds.Available != 0 {
		t.Errorf("the merchant has %+v", funds)
	}
	env.declines("micropay", payment, "ORDERREVERSED", "NEVER")

	payment["out_trade_no"] = "order-2"
	env.declines("micropay", payment, "AUTHCODEEXPIRE", "NEVER") // the code was used
	env.declines("micropay", charge(env, "order-3", wepaytest.CodeRefused("NOTENOUGH")), "NOTENOUGH", "NEVER")
	payment["auth_code"] = "164567890123456789"
	env.refuses("micropay", payment, 40003, "auth_code: ")
	env.declines("reverse", map[string]any{"transaction_id": "order-1"}, "INVALID_TRANSACTIONID", "FIX")
	env.get("get_pay_request_params", shop.order("order-4"))
	env.declines("reverse", map[string]any{"out_trade_no": "order-4"}, "INVALID_REQUEST", "QUERY")
}

// While the outcome of a payment by code is open WeChat is asked until it is
// known; a reversal is repeated as WeChat wants. These take the 5 seconds that
// WeChat wants between two questions, all at once.
func TestMicropayIsWaitedFor(t *testing.T) {
	env, shop := newStall(t)
	recalled := charge(env, "order-recalled")
	env.get("micropay", recalled)
	if err := env.wechat.Recall(shop.mchID, "order-recalled", 1); err != nil {
		t.Fatal(err)
	}
	// A payment that WeChat answers so was made all the same, unless the code
	// says otherwise. Which of the three meets which answer does not matter.
	for _, fault := range []wepaytest.Fault{
		{Kind: wepaytest.Refused, Code: "USERPAYING"}, {Kind: wepaytest.Refused}, {Kind: wepaytest.TruncatedXML},
	} {
		env.wechat.Misbehave("/pay/micropay", fault)
	}
	var all sync.WaitGroup
	concurrently := func(route string, request map[string]any, check func(a answer)) {
		all.Go(func() {
			a, err := env.send(http.MethodPost, env.site+"/apis/v1/wepay/"+route, toJSON(t, request))
			if err != nil {
				t.Error(err)
				return
			}
			check(a)
		})
	}
	for _, id := range []string{"order-1", "order-2"} {
		concurrently("micropay", charge(env, id), func(a answer) {
			checkFields(t, a.Result, map[string]string{"trade_state": "SUCCESS", "out_trade_no": id, "total_fee": "1200"})
		})
	}
	concurrently("micropay", charge(env, "order-3", wepaytest.CodeRefused("NOTSUPORTCARD")), func(a answer) {
		if a.status != http.StatusOK || a.Errcode != 40000 || a.ErrCode != "PAYERROR" || a.Verdict != "NEVER" {
			t.Errorf("a payment that failed: HTTP %d %s", a.status, a.body)
		}
	})
	concurrently("reverse", map[string]any{"out_trade_no": "order-recalled"}, func(a answer) {
		checkFields(t, a.Result, map[string]string{"recall": "N"})
	})
	all.Wait()
	if asked := len(env.wechat.Requests("/pay/orderquery")); asked != 3 {
		t.Errorf("WeChat was asked %d times, wants once for each payment", asked)
	}
	if asked := len(env.wechat.Requests("/secapi/pay/reverse")); asked != 2 {
		t.Errorf("WeChat was asked to reverse %d times", asked)
	}
	if order, _ := env.wechat.Order(shop.mchID, "order-recalled"); order.TradeState != "REVOKED" {
		t.Errorf("WeChat has %+v", order)
	}
}

func TestAuthCodeToOpenID(t *testing.T) {
	env, _ := newStall(t)
	code := env.wechat.ShowCode(openID)
	checkFields(t, env.get("authcode_to_openid", map[string]any{"auth_code": code}), map[string]string{"openid": openID})
	env.get("micropay", map[string]any{"out_trade_no": "order-1", "auth_code": code, "total_fee": 1, "body": "茶"})
	env.declines("authcode_to_openid", map[string]any{"auth_code": code}, "AUTHCODEEXPIRE", "NEVER")
	env.refuses("authcode_to_openid", map[string]any{"auth_code": "1345"}, 40003, "auth_code: ")
}

// The long URL is signed as it is and sent URL-encoded.
func TestShortURL(t *testing.T) {
	env, _ := newStall(t)
	const long = "weixin://wxpay/bizpayurl?product_id=茶 & more&sign=1"
	reply := env.get("short_url", map[string]any{"long_url": long})
	if !strings.HasPrefix(reply["short_url"], "weixin://wxpay/s/") {
		t.Errorf("the short URL is %v", reply)
	}
	if got := env.last("/tools/shorturl").Fields.Get("long_url"); got != url.QueryEscape(long) {
		t.Errorf("WeChat got %q", got)
	}
	env.refuses("short_url", map[string]any{"long_url": strings.Repeat("a", 513)}, 40003, "long_url: ")
}

// What is only signed is not sent; the link is signed with MD5 whatever the
// merchant signs with.
func TestSignedOnly(t *testing.T) {
	env, shop := newEnvironment(t), newMerchant("shop", 1)
	shop.signType = "HMAC-SHA256"
	env.serve(env.stalls(stall{shop, nil}))
	link := env.get("biz_pay_url", map[string]any{"product_id": "茶 & 1"})["url"]
	u, err := url.Parse(link)
	if err != nil || !strings.HasPrefix(link, "weixin://wxpay/bizpayurl?") {
		t.Fatalf("the link is %q (%v)", link, err)
	}
	of, plain := u.Query(), *shop
	plain.signType = "MD5"
	if right := signBy(&plain, "appid="+shop.appID, "mch_id="+shop.mchID, "nonce_str="+of.Get("nonce_str"),
		"product_id=茶 & 1", "time_stamp="+of.Get("time_stamp")); of.Get("sign") != right || of.Get("nonce_str") == "" {
		t.Errorf("the link is %q, its signature should be %s", link, right)
	}

	bridge := env.get("edit_address", map[string]any{"accesstoken": "token & more", "url": "https://m.example.cn/shop?a=1#here"})
	sum := sha1.Sum([]byte("accesstoken=token & more&appid=" + shop.appID + "&noncestr=" + bridge["nonceStr"] +
		"&timestamp=" + bridge["timeStamp"] + "&url=https://m.example.cn/shop?a=1"))
	checkFields(t, bridge, map[string]string{"appId": shop.appID, "scope": "jsapi_address", "signType": "sha1", "addrSign": hex.EncodeToString(sum[:])})

	env.refuses("biz_pay_url", map[string]any{}, 40008, "product_id: ")
	env.refuses("biz_pay_url", map[string]any{"product_id": "1", "mch_id": "1900000102"}, 40003, "mch_id: ")
	env.refuses("edit_address", map[string]any{"accesstoken": "1"}, 40008, "url: ")
	if requests := env.received(); len(requests) > 0 {
		t.Errorf("WeChat got %s", requests[0].Body)
	}
	if key := env.get("get_sign_key", map[string]any{})["sandbox_signkey"]; len(key) != 32 || key == shop.key {
		t.Errorf("the sandbox's key is %q", key)
	}
}

package caddymodule_test

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// newMarket is a shop and another merchant, who gets a share of what orders of
// the shop bring.
func newMarket(t *testing.T) (w *world, shop, other *seller) {
	t.Helper()
	w, shop, other = newWorld(t), newSeller("shop", 1), newSeller("other", 2)
	w.serve(w.stalls(stall{shop, nil}, stall{other, nil}))
	return w, shop, other
}

// part is a receiver of a share.
func part(s *seller, amount any) map[string]any {
	return map[string]any{"type": "MERCHANT_ID", "account": s.mchID, "amount": amount, "description": "分账 <&> \"1\""}
}

func sharing(transactionID, number string, parts ...map[string]any) map[string]any {
	return map[string]any{"transaction_id": transactionID, "out_order_no": number, "receivers": parts}
}

func receiving(s *seller, further map[string]any) map[string]any {
	receiver := map[string]any{"type": "MERCHANT_ID", "account": s.mchID}
	maps.Copy(receiver, further)
	return map[string]any{"receiver": receiver}
}

// A whole flow: who may receive is told, an order's money is shared in parts,
// the rest is set free, a part comes back.
func TestProfitSharing(t *testing.T) {
	w, shop, other := newMarket(t)
	id := w.paid(shop, "order-1", map[string]any{"profit_sharing": "Y"})
	w.has(shop, 0)
	w.declines("profit_share_multi", sharing(id, "s1", part(other, 100)), "RECEIVER_INVALID", "FIX")
	added := w.get("profit_share_add_receiver", receiving(other, map[string]any{"name": "其他", "relation_type": "PARTNER"}))
	if !strings.Contains(added["receiver"], other.mchID) {
		t.Errorf("%v", added)
	}

	share := sharing(id, "s1", part(other, 100))
	first, again := w.get("profit_share_multi", share), w.get("profit_share_multi", share)
	checkFields(t, again, map[string]string{"order_id": first["order_id"], "out_order_no": "s1", "transaction_id": id, "status": "PROCESSING"})
	w.has(other, 100)
	w.get("profit_share_multi", sharing(id, "s2", part(other, 150)))
	w.declines("profit_share_multi", sharing(id, "s3", part(other, 111)), "AMOUNT_OVERDUE", "FIX")
	w.has(other, 250)

	told := w.get("profit_share_query", map[string]any{"transaction_id": id, "out_order_no": "s2"})
	var parts []struct {
		Account, Result string
		Amount          int64
	}
	if err := json.Unmarshal([]byte(told["receivers"]), &parts); err != nil || len(parts) != 1 ||
		parts[0].Account != other.mchID || parts[0].Amount != 150 || parts[0].Result != "SUCCESS" {
		t.Errorf("%v (%v)", told, err)
	}
	w.declines("profit_share_query", map[string]any{"transaction_id": id, "out_order_no": "s3"}, "RESOURCE_NOT_EXISTS", "AGAIN")

	finish := map[string]any{"transaction_id": id, "out_order_no": "f1", "description": "完结"}
	w.get("profit_share_finish", finish)
	w.get("profit_share_finish", finish)
	w.has(shop, 950)
	checkFields(t, w.get("profit_share_query", map[string]any{"transaction_id": id, "out_order_no": "f1"}), map[string]string{"status": "FINISHED", "description": "完结"})
	w.declines("profit_share_multi", sharing(id, "s4", part(other, 1)), "INVALID_REQUEST", "FIX")

	checkShareReturn(t, w, shop, other, first["order_id"])
	checkSharingAtWeChat(t, w, shop)
}

// checkShareReturn takes 60 of the 100 fen of the share s1 back, and then tries
// for too much.
func checkShareReturn(t *testing.T, w *world, shop, other *seller, orderID string) {
	t.Helper()
	back := map[string]any{
		"out_order_no": "s1", "out_return_no": "b1", "return_account_type": "MERCHANT_ID",
		"return_account": other.mchID, "return_amount": 60, "description": "退回",
	}
	first, again := w.get("profit_share_return", back), w.get("profit_share_return", back)
	checkFields(t, again, map[string]string{"result": "SUCCESS", "return_amount": "60", "return_no": first["return_no"], "order_id": orderID})
	w.has(shop, 1010)
	w.has(other, 190)
	checkFields(t, w.get("profit_share_return_query", map[string]any{"order_id": orderID, "out_return_no": "b1"}), map[string]string{
		"result": "SUCCESS", "out_order_no": "s1", "return_no": first["return_no"],
	})
	back["out_return_no"], back["return_amount"] = "b2", 41
	w.declines("profit_share_return", back, "AMOUNT_OVERDUE", "FIX")
	w.declines("profit_share_return_query", map[string]any{"out_order_no": "s1", "out_return_no": "b2"}, "RESOURCE_NOT_EXISTS", "AGAIN")
	delete(back, "out_order_no")
	w.refuses("profit_share_return", back, 40008, "out_order_no: ")
}

// checkSharingAtWeChat demands that every call was signed with HMAC-SHA256,
// and that receivers arrived as the caller wrote them.
func checkSharingAtWeChat(t *testing.T, w *world, shop *seller) {
	t.Helper()
	for _, request := range w.received() {
		if strings.Contains(request.Path, "profitsharing") && request.Fields.Get("sign_type") != "HMAC-SHA256" {
			t.Errorf("%s is signed with %q", request.Path, request.Fields.Get("sign_type"))
		}
	}
	var parts []map[string]any
	sent := w.wechat.Requests("/secapi/pay/multiprofitsharing")[1].Fields
	if err := json.Unmarshal([]byte(sent.Get("receivers")), &parts); err != nil || len(parts) != 1 ||
		parts[0]["amount"] != 100.0 || parts[0]["description"] != `分账 <&> "1"` {
		t.Errorf("WeChat got %q (%v)", sent.Get("receivers"), err)
	}
	checkFields(t, asMap(sent), map[string]string{"appid": shop.appID, "mch_id": shop.mchID, "merchant": ""})
	checkFields(t, asMap(w.last("/pay/profitsharingquery").Fields), map[string]string{"appid": "", "mch_id": shop.mchID})
}

// An order that is shared once is done with; receivers may be text that holds
// JSON as well.
func TestProfitShareOnce(t *testing.T) {
	w, shop, other := newMarket(t)
	id := w.paid(shop, "order-1", map[string]any{"profit_sharing": "Y"})
	plain := w.paid(shop, "order-2", nil)
	w.has(shop, 1200)
	add := receiving(other, map[string]any{"relation_type": "CUSTOM", "custom_relation": "朋友"})
	add["receiver"] = toJSON(t, add["receiver"])
	w.get("profit_share_add_receiver", add)
	share := sharing(id, "s1")
	share["receivers"] = toJSON(t, []any{part(other, 360)})
	w.get("profit_share", share)
	w.has(other, 360)
	w.has(shop, 1200+840)
	w.declines("profit_share", sharing(id, "s2", part(other, 1)), "INVALID_REQUEST", "FIX")
	w.declines("profit_share", sharing(plain, "s3", part(other, 1)), "NOT_SHARE_ORDER", "FIX")

	w.get("profit_share_remove_receiver", receiving(other, nil))
	id = w.paid(shop, "order-3", map[string]any{"profit_sharing": "Y"})
	w.declines("profit_share", sharing(id, "s4", part(other, 1)), "RECEIVER_INVALID", "FIX")
}

// A share that WeChat did not answer is asked about, and happens once.
func TestProfitShareOutcomeIsOpen(t *testing.T) {
	w, shop, other := newMarket(t)
	id := w.paid(shop, "order-1", map[string]any{"profit_sharing": "Y"})
	w.get("profit_share_add_receiver", receiving(other, map[string]any{"relation_type": "PARTNER"}))
	const path = "/secapi/pay/multiprofitsharing"
	for _, fault := range []wepaytest.Fault{
		{Kind: wepaytest.Refused}, {Kind: wepaytest.WrongSignature}, {Kind: wepaytest.NoSignature}, {Kind: wepaytest.CutOff, Standing: true},
	} {
		w.wechat.Misbehave(path, fault)
		a := w.try("profit_share_multi", sharing(id, "s1", part(other, 100)))
		if a.Errcode != 40000 || a.Verdict != "QUERY" || a.Ask != "profit_share_query" {
			t.Errorf("HTTP %d %s", a.status, a.body)
		}
	}
	w.wechat.Behave(path)
	checkFields(t, w.get("profit_share_query", map[string]any{"transaction_id": id, "out_order_no": "s1"}), map[string]string{"status": "FINISHED"})
	w.get("profit_share_multi", sharing(id, "s1", part(other, 100)))
	w.has(other, 100)
}

func TestProfitShareBadInput(t *testing.T) {
	w, _, other := newMarket(t)
	many := make([]map[string]any, 51)
	for i := range many {
		many[i] = part(other, 1)
	}
	changed := func(name string, value any) map[string]any {
		p := part(other, 1)
		p[name] = value
		return p
	}
	for _, test := range []struct {
		name      string
		receivers any
		says      string
	}{
		{"no array", part(other, 1), "JSON array"},
		{"an empty array", []any{}, "JSON array"},
		{"text", "all of it", "JSON array"},
		{"too many", many, "51 receivers"},
		{"an amount as text", []any{part(other, "1")}, "receiver 1: amount"},
		{"an amount with decimals", []any{part(other, 1), part(other, 1.5)}, "receiver 2: amount"},
		{"no amount", []any{changed("amount", 0)}, "receiver 1: amount"},
		{"no account", []any{changed("account", "")}, "receiver 1: account"},
		{"a type that is none", []any{changed("type", "FRIEND")}, "receiver 1: type"},
		{"no description", []any{changed("description", "")}, "receiver 1: description"},
		{"a long description", []any{changed("description", strings.Repeat("茶", 27))}, "receiver 1: description"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := w.in(t)
			for _, route := range []string{"profit_share", "profit_share_multi"} {
				w.refuses(route, map[string]any{"transaction_id": "4200000001", "out_order_no": "s1", "receivers": test.receivers}, 40003, "receivers: ")
				w.refuses(route, map[string]any{"transaction_id": "4200000001", "out_order_no": "s1", "receivers": test.receivers}, 40003, test.says)
			}
		})
	}
	w.refuses("profit_share_add_receiver", receiving(other, nil), 40003, "receiver: ")
	w.refuses("profit_share_add_receiver", receiving(other, map[string]any{"relation_type": "CUSTOM"}), 40003, "receiver: ")
	w.refuses("profit_share_remove_receiver", map[string]any{"receiver": []any{1}}, 40003, "receiver: ")
}

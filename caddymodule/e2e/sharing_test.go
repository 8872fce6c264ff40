package e2e_test

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// newMarket is a shop and another merchant, who gets a share of what orders of
// the shop bring.
func newMarket(t *testing.T) (env *environment, shop, other *merchant) {
	t.Helper()
	env, shop, other = newEnvironment(t), newMerchant("shop", 1), newMerchant("other", 2)
	env.serve(env.stalls(stall{shop, nil}, stall{other, nil}))
	return env, shop, other
}

// part is a receiver of a share.
func part(m *merchant, amount any) map[string]any {
	return map[string]any{"type": "MERCHANT_ID", "account": m.mchID, "amount": amount, "description": "分账 <&> \"1\""}
}

func sharing(transactionID, number string, parts ...map[string]any) map[string]any {
	return map[string]any{"transaction_id": transactionID, "out_order_no": number, "receivers": parts}
}

func receiving(m *merchant, further map[string]any) map[string]any {
	receiver := map[string]any{"type": "MERCHANT_ID", "account": m.mchID}
	maps.Copy(receiver, further)
	return map[string]any{"receiver": receiver}
}

// A whole flow: who may receive is told, an order's money is shared in parts,
// the rest is set free, a part comes back.
func TestProfitSharing(t *testing.T) {
	env, shop, other := newMarket(t)
	id := env.paid(shop, "order-1", map[string]any{"profit_sharing": "Y"})
	env.has(shop, 0)
	env.declines("profit_share_multi", sharing(id, "s1", part(other, 100)), "RECEIVER_INVALID", "FIX")
	added := env.get("profit_share_add_receiver", receiving(other, map[string]any{"name": "其他", "relation_type": "PARTNER"}))
	if !strings.Contains(added["receiver"], other.mchID) {
		t.Errorf("%v", added)
	}

	share := sharing(id, "s1", part(other, 100))
	first, again := env.get("profit_share_multi", share), env.get("profit_share_multi", share)
	checkFields(t, again, map[string]string{"order_id": first["order_id"], "out_order_no": "s1", "transaction_id": id, "status": "PROCESSING"})
	env.has(other, 100)
	env.get("profit_share_multi", sharing(id, "s2", part(other, 150)))
	env.declines("profit_share_multi", sharing(id, "s3", part(other, 111)), "AMOUNT_OVERDUE", "FIX")
	env.has(other, 250)

	told := env.get("profit_share_query", map[string]any{"transaction_id": id, "out_order_no": "s2"})
	var parts []struct {
		Account, Result string
		Amount          int64
	}
	if err := json.Unmarshal([]byte(told["receivers"]), &parts); err != nil || len(parts) != 1 ||
		parts[0].Account != other.mchID || parts[0].Amount != 150 || parts[0].Result != "SUCCESS" {
		t.Errorf("%v (%v)", told, err)
	}
	env.declines("profit_share_query", map[string]any{"transaction_id": id, "out_order_no": "s3"}, "RESOURCE_NOT_EXISTS", "AGAIN")

	finish := map[string]any{"transaction_id": id, "out_order_no": "f1", "description": "完结"}
	env.get("profit_share_finish", finish)
	env.get("profit_share_finish", finish)
	env.has(shop, 950)
	checkFields(t, env.get("profit_share_query", map[string]any{"transaction_id": id, "out_order_no": "f1"}), map[string]string{"status": "FINISHED", "description": "完结"})
	env.declines("profit_share_multi", sharing(id, "s4", part(other, 1)), "INVALID_REQUEST", "FIX")

	checkShareReturn(t, env, shop, other, first["order_id"])
	checkSharingAtWeChat(t, env, shop)
}

// checkShareReturn takes 60 of the 100 fen of the share s1 back, and then tries
// for too much.
func checkShareReturn(t *testing.T, env *environment, shop, other *merchant, orderID string) {
	t.Helper()
	back := map[string]any{
		"out_order_no": "s1", "out_return_no": "b1", "return_account_type": "MERCHANT_ID",
		"return_account": other.mchID, "return_amount": 60, "description": "退回",
	}
	first, again := env.get("profit_share_return", back), env.get("profit_share_return", back)
	checkFields(t, again, map[string]string{"result": "SUCCESS", "return_amount": "60", "return_no": first["return_no"], "order_id": orderID})
	env.has(shop, 1010)
	env.has(other, 190)
	checkFields(t, env.get("profit_share_return_query", map[string]any{"order_id": orderID, "out_return_no": "b1"}), map[string]string{
		"result": "SUCCESS", "out_order_no": "s1", "return_no": first["return_no"],
	})
	back["out_return_no"], back["return_amount"] = "b2", 41
	env.declines("profit_share_return", back, "AMOUNT_OVERDUE", "FIX")
	env.declines("profit_share_return_query", map[string]any{"out_order_no": "s1", "out_return_no": "b2"}, "RESOURCE_NOT_EXISTS", "AGAIN")
	delete(back, "out_order_no")
	env.refuses("profit_share_return", back, 40008, "out_order_no: ")
}

// checkSharingAtWeChat demands that every call was signed with HMAC-SHA256,
// and that receivers arrived as the caller wrote them.
func checkSharingAtWeChat(t *testing.T, env *environment, shop *merchant) {
	t.Helper()
	for _, request := range env.received() {
		if strings.Contains(request.Path, "profitsharing") && request.Fields.Get("sign_type") != "HMAC-SHA256" {
			t.Errorf("%s is signed with %q", request.Path, request.Fields.Get("sign_type"))
		}
	}
	var parts []map[string]any
	sent := env.wechat.Requests("/secapi/pay/multiprofitsharing")[1].Fields
	if err := json.Unmarshal([]byte(sent.Get("receivers")), &parts); err != nil || len(parts) != 1 ||
		parts[0]["amount"] != 100.0 || parts[0]["description"] != `分账 <&> "1"` {
		t.Errorf("WeChat got %q (%v)", sent.Get("receivers"), err)
	}
	checkFields(t, asMap(sent), map[string]string{"appid": shop.appID, "mch_id": shop.mchID, "merchant": ""})
	checkFields(t, asMap(env.last("/pay/profitsharingquery").Fields), map[string]string{"appid": "", "mch_id": shop.mchID})
}

// An order that is shared once is done with; receivers may be text that holds
// JSON as well.
func TestProfitShareOnce(t *testing.T) {
	env, shop, other := newMarket(t)
	id := env.paid(shop, "order-1", map[string]any{"profit_sharing": "Y"})
	plain := env.paid(shop, "order-2", nil)
	env.has(shop, 1200)
	add := receiving(other, map[string]any{"relation_type": "CUSTOM", "custom_relation": "朋友"})
	add["receiver"] = toJSON(t, add["receiver"])
	env.get("profit_share_add_receiver", add)
	share := sharing(id, "s1")
	share["receivers"] = toJSON(t, []any{part(other, 360)})
	env.get("profit_share", share)
	env.has(other, 360)
	env.has(shop, 1200+840)
	env.declines("profit_share", sharing(id, "s2", part(other, 1)), "INVALID_REQUEST", "FIX")
	env.declines("profit_share", sharing(plain, "s3", part(other, 1)), "NOT_SHARE_ORDER", "FIX")

	env.get("profit_share_remove_receiver", receiving(other, nil))
	id = env.paid(shop, "order-3", map[string]any{"profit_sharing": "Y"})
	env.declines("profit_share", sharing(id, "s4", part(other, 1)), "RECEIVER_INVALID", "FIX")
}

// A share that WeChat did not answer is asked about, and happens once.
func TestProfitShareOutcomeIsOpen(t *testing.T) {
	env, shop, other := newMarket(t)
	id := env.paid(shop, "order-1", map[string]any{"profit_sharing": "Y"})
	env.get("profit_share_add_receiver", receiving(other, map[string]any{"relation_type": "PARTNER"}))
	const path = "/secapi/pay/multiprofitsharing"
	for _, fault := range []wepaytest.Fault{
		{Kind: wepaytest.Refused}, {Kind: wepaytest.WrongSignature}, {Kind: wepaytest.NoSignature}, {Kind: wepaytest.CutOff, Standing: true},
	} {
		env.wechat.Misbehave(path, fault)
		a := env.try("profit_share_multi", sharing(id, "s1", part(other, 100)))
		if a.Errcode != 40000 || a.Verdict != "QUERY" || a.Ask != "profit_share_query" {
			t.Errorf("HTTP %d %s", a.status, a.body)
		}
	}
	env.wechat.Behave(path)
	checkFields(t, env.get("profit_share_query", map[string]any{"transaction_id": id, "out_order_no": "s1"}), map[string]string{"status": "FINISHED"})
	env.get("profit_share_multi", sharing(id, "s1", part(other, 100)))
	env.has(other, 100)
}

func TestProfitShareBadInput(t *testing.T) {
	env, _, other := newMarket(t)
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
			env := env.in(t)
			for _, route := range []string{"profit_share", "profit_share_multi"} {
				env.refuses(route, map[string]any{"transaction_id": "4200000001", "out_order_no": "s1", "receivers": test.receivers}, 40003, "receivers: ")
				env.refuses(route, map[string]any{"transaction_id": "4200000001", "out_order_no": "s1", "receivers": test.receivers}, 40003, test.says)
			}
		})
	}
	env.refuses("profit_share_add_receiver", receiving(other, nil), 40003, "receiver: ")
	env.refuses("profit_share_add_receiver", receiving(other, map[string]any{"relation_type": "CUSTOM"}), 40003, "receiver: ")
	env.refuses("profit_share_remove_receiver", map[string]any{"receiver": []any{1}}, 40003, "receiver: ")
}

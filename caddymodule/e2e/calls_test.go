package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// stall is a merchant whose block of the Caddyfile has further lines.
type stall struct {
	*merchant
	lines []string
}

// stalls registers merchants and is the layout with their blocks, in which all
// of WeChat's servers are the environment's.
func (env *environment) stalls(all ...stall) layout {
	env.t.Helper()
	options := fmt.Sprintf("\t\trisk_endpoint %[1]s\n\t\tlogin_endpoint %[1]s\n", env.wechat.URL)
	for _, s := range all {
		env.register(s.merchant)
		block := strings.TrimSuffix(env.block(s.merchant), "\t\t}\n")
		for _, line := range s.lines {
			block += "\t\t\t" + line + "\n"
		}
		options += block + "\t\t}\n"
	}
	return layout{options: options}
}

// newStall is an environment with one merchant, whose block has further lines.
func newStall(t *testing.T, lines ...string) (*environment, *merchant) {
	t.Helper()
	env, shop := newEnvironment(t), newMerchant("shop", 1)
	env.serve(env.stalls(stall{shop, lines}))
	return env, shop
}

// full is an answer whose result may hold more than text.
type full struct {
	answer
	Ask    string                     `json:"ask"`
	Result map[string]json.RawMessage `json:"result"`
}

// text is a member of the result that has to be text.
func (f full) text(t *testing.T, name string) string {
	t.Helper()
	var text string
	if err := json.Unmarshal(f.Result[name], &text); err != nil {
		t.Fatalf("%s is %s, wants text", name, f.Result[name])
	}
	return text
}

// fetch asks with a body and returns the answer as it came, which may end in an
// error.
func (env *environment) fetch(route, body string) (answer, error) {
	env.t.Helper()
	resp, err := env.web.Post(env.site+"/apis/v1/wepay/"+route, "application/json", strings.NewReader(body))
	for n := 0; err != nil && n < env.patience; n++ {
		resp, err = env.web.Post(env.site+"/apis/v1/wepay/"+route, "application/json", strings.NewReader(body))
	}
	if err != nil {
		env.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{status: resp.StatusCode, header: resp.Header, body: string(text)}, err
}

// try asks for an operation with whatever comes of it.
func (env *environment) try(route string, request map[string]any) full {
	env.t.Helper()
	a, err := env.fetch(route, toJSON(env.t, request))
	if err != nil {
		env.t.Fatal(err)
	}
	f := full{answer: a}
	if err := json.Unmarshal([]byte(a.body), &f); err != nil {
		env.t.Fatalf("%s: %v: %s", route, err, a.body)
	}
	return f
}

// done asks for an operation that has to succeed.
func (env *environment) done(route string, request map[string]any) full {
	env.t.Helper()
	f := env.try(route, request)
	if f.status != http.StatusOK || f.Errcode != 0 {
		env.t.Fatalf("%s: HTTP %d %s", route, f.status, f.body)
	}
	return f
}

// refuses demands that a request fails before WeChat hears of it, for a reason.
func (env *environment) refuses(route string, request map[string]any, errcode int, says string) {
	env.t.Helper()
	before := len(env.received())
	a := env.try(route, request)
	if a.status != statusOf(errcode) || a.Errcode != errcode || !strings.Contains(a.XOrigMsg, says) || a.Verdict != "" {
		env.t.Errorf("%s: HTTP %d %s, wants %d and %q", route, a.status, a.body, errcode, says)
	}
	if got := env.received()[before:]; len(got) > 0 {
		env.t.Errorf("%s: WeChat got %s %s", route, got[0].Path, got[0].Body)
	}
}

// declines demands that WeChat refuses a request.
func (env *environment) declines(route string, request map[string]any, code, verdict string) full {
	env.t.Helper()
	a := env.try(route, request)
	if a.status != http.StatusOK || a.Errcode != 40000 || a.ErrCode != code || a.Verdict != verdict {
		env.t.Errorf("%s: HTTP %d %s, wants %s and %s", route, a.status, a.body, code, verdict)
	}
	return a
}

// last is the last request that WeChat got at a path.
func (env *environment) last(path string) wepaytest.Request {
	env.t.Helper()
	requests := env.wechat.Requests(path)
	if len(requests) == 0 {
		env.t.Fatalf("WeChat got nothing at %s", path)
	}
	return requests[len(requests)-1]
}

// paid is an order that was placed with further fields and paid; nobody
// remembers its notification.
func (env *environment) paid(m *merchant, id string, further map[string]any) (transactionID string) {
	env.t.Helper()
	order := m.order(id)
	maps.Copy(order, further)
	env.get("get_pay_request_params", order)
	checkTaken(env.t, env.pay(m, id))
	env.orders.forget()
	placed, _ := env.wechat.Order(m.mchID, id)
	return placed.TransactionID
}

// checkFields demands that some fields are there; "" stands for none.
func checkFields(t *testing.T, got, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s is %q, wants %q, in %v", name, got[name], value, got)
		}
	}
}

// call is a route with a request that it takes, and what is to be seen of it.
type call struct {
	route, path string
	request     map[string]any
	certificate bool   // the merchant needs one
	payout      bool   // money leaves the account
	open        string // the verdict when WeChat does not tell what happened
	ask         string // the route that tells
}

// everyCall is every route that sends something to WeChat Pay. Two of them wait
// when WeChat does not tell what happened.
func everyCall(m *merchant) []call {
	type object = map[string]any
	share := object{
		"transaction_id": "4200000001", "out_order_no": "s1",
		"receivers": []object{{"type": "MERCHANT_ID", "account": "1900000102", "amount": 1, "description": "分账"}},
	}
	packet := object{
		"mch_billno": m.mchID + "202601010000000001", "send_name": "商店", "re_openid": openID, "total_amount": 300,
		"wishing": "恭喜", "act_name": "新年", "remark": "茶",
	}
	with := func(of object, further object) object {
		all := maps.Clone(of)
		maps.Copy(all, further)
		return all
	}
	back := object{
		"out_order_no": "s1", "out_return_no": "b1", "return_account_type": "MERCHANT_ID",
		"return_account": "1900000102", "return_amount": 1, "description": "退回",
	}
	order, day := object{"out_trade_no": "o1"}, object{"bill_date": "20260101"}
	const again, query, wait = "AGAIN", "QUERY", ""
	return []call{
		{route: "get_pay_request_params", path: "/pay/unifiedorder", request: m.order("o1"), open: query, ask: "order_query"},
		{route: "order_query", path: "/pay/orderquery", request: order, open: again},
		{route: "close_order", path: "/pay/closeorder", request: order, open: again},
		{route: "refund", path: "/secapi/pay/refund", request: m.refund("o1", "r1", 1), certificate: true, open: query, ask: "refund_query"},
		{route: "refund_query", path: "/pay/refundquery", request: order, open: again},
		{route: "micropay", path: "/pay/micropay", request: with(order, object{"auth_code": "134567890123456789", "total_fee": 1, "body": "茶"}), open: wait},
		{route: "reverse", path: "/secapi/pay/reverse", request: order, certificate: true, open: wait},
		{route: "authcode_to_openid", path: "/tools/authcodetoopenid", request: object{"auth_code": "134567890123456789"}, open: again},
		{route: "short_url", path: "/tools/shorturl", request: object{"long_url": "weixin://wxpay/bizpayurl?pr=1"}, open: again},
		{route: "download_bill", path: "/pay/downloadbill", request: day, open: again},
		{route: "download_fund_flow", path: "/pay/downloadfundflow", request: with(day, object{"account_type": "Basic"}), certificate: true, open: again},
		{route: "send_red_packet", path: "/mmpaymkttransfers/sendredpack", request: with(packet, object{"total_num": 1, "client_ip": "203.0.113.7"}), certificate: true, payout: true, open: query, ask: "red_packet_query"},
		{route: "send_group_red_packet", path: "/mmpaymkttransfers/sendgroupredpack", request: with(packet, object{"total_num": 3, "amt_type": "ALL_RAND"}), certificate: true, payout: true, open: query, ask: "red_packet_query"},
		{route: "red_packet_query", path: "/mmpaymkttransfers/gethbinfo", request: object{"mch_billno": "1", "bill_type": "MCHT"}, certificate: true, payout: true, open: again},
		{route: "transfer", path: "/mmpaymkttransfers/promotion/transfers", request: object{"partner_trade_no": "t1", "openid": openID, "check_name": "NO_CHECK", "amount": 100, "desc": "报销"}, certificate: true, payout: true, open: query, ask: "transfer_query"},
		{route: "transfer_query", path: "/mmpaymkttransfers/gettransferinfo", request: object{"partner_trade_no": "t1"}, certificate: true, payout: true, open: again},
		{route: "pay_bank", path: "/mmpaysptrans/pay_bank", request: bankPayout("bank1001"), certificate: true, payout: true, open: query, ask: "pay_bank_query"},
		{route: "pay_bank_query", path: "/mmpaysptrans/query_bank", request: object{"partner_trade_no": "bank1001"}, certificate: true, payout: true, open: again},
		{route: "profit_share", path: "/secapi/pay/profitsharing", request: share, certificate: true, open: query, ask: "profit_share_query"},
		{route: "profit_share_multi", path: "/secapi/pay/multiprofitsharing", request: share, certificate: true, open: query, ask: "profit_share_query"},
		{route: "profit_share_finish", path: "/secapi/pay/profitsharingfinish", request: object{"transaction_id": "4200000001", "out_order_no": "s1", "description": "完结"}, certificate: true, open: query, ask: "profit_share_query"},
		{route: "profit_share_query", path: "/pay/profitsharingquery", request: object{"transaction_id": "4200000001", "out_order_no": "s1"}, open: again},
		{route: "profit_share_return", path: "/secapi/pay/profitsharingreturn", request: back, certificate: true, open: query, ask: "profit_share_return_query"},
		{route: "profit_share_return_query", path: "/pay/profitsharingreturnquery", request: object{"out_order_no": "s1", "out_return_no": "b1"}, open: again},
		{route: "profit_share_add_receiver", path: "/pay/profitsharingaddreceiver", request: object{"receiver": object{"type": "MERCHANT_ID", "account": "1900000102", "relation_type": "PARTNER"}}, open: again},
		{route: "profit_share_remove_receiver", path: "/pay/profitsharingremovereceiver", request: object{"receiver": object{"type": "MERCHANT_ID", "account": "1900000102"}}, open: again},
	}
}

// A code that nobody knows is told as WeChat told it. It leaves the outcome of
// what changes something open, and a question is not to be asked again and again.
// No answer leaves everything open, and the caller hears which route tells.
func TestEveryCallsOpenOutcome(t *testing.T) {
	env, shop := newStall(t, "payouts")
	for _, c := range everyCall(shop) {
		if c.open == "" {
			continue
		}
		t.Run(c.route, func(t *testing.T) {
			env := env.in(t)
			if c.route != "download_bill" { // whose errors have no code
				env.wechat.Misbehave(c.path, wepaytest.Fault{Kind: wepaytest.Refused, Code: "NEWS_OF_TOMORROW", Message: "新 <&>", NoEffect: true})
				want, ask := "QUERY", c.ask
				switch c.route {
				case "close_order", "reverse":
					ask = "order_query"
				default:
					if c.open == "AGAIN" {
						want = "FIX"
					}
				}
				if a := env.declines(c.route, c.request, "NEWS_OF_TOMORROW", want); a.ErrCodeDes != "新 <&>" || a.Ask != ask {
					t.Errorf("%s, wants to hear of %q", a.body, ask)
				}
			}
			env.wechat.Misbehave(c.path, wepaytest.Fault{Kind: wepaytest.HTML, Status: http.StatusBadGateway, NoEffect: true})
			a := env.try(c.route, c.request)
			checkNoAnswer(t, a.answer, c.open, "HTTP status 502")
			if a.Ask != c.ask {
				t.Errorf("%s, wants to hear of %q", a.body, c.ask)
			}
			request := env.last(c.path)
			if serial := request.Serial(); serial != shop.credential.Serial {
				t.Errorf("%s came with the certificate %q", c.path, serial)
			}
		})
	}
}

// What a merchant lacks is said before anything is sent, and so is a field that
// nobody knows.
func TestEveryCallsNeeds(t *testing.T) {
	env, bare, poor, rich := newEnvironment(t), newMerchant("bare", 1), newMerchant("poor", 2), newMerchant("rich", 3)
	bare.form = none
	env.serve(env.stalls(stall{bare, []string{"payouts"}}, stall{poor, nil}, stall{rich, []string{"payouts"}}))
	of := func(m *merchant, c call, further ...string) map[string]any {
		request := maps.Clone(c.request)
		request["merchant"] = m.name
		for _, name := range further {
			request[name] = "1"
		}
		return request
	}
	for _, c := range everyCall(rich) {
		t.Run(c.route, func(t *testing.T) {
			env := env.in(t)
			if c.certificate {
				env.refuses(c.route, of(bare, c), 40010, "pfx")
			}
			if c.payout {
				env.refuses(c.route, of(poor, c), 40010, "payouts")
			}
			if c.route != "get_pay_request_params" { // which leaves out what it does not know
				env.refuses(c.route, of(rich, c, "a_field_of_nobodys"), 40003, "a_field_of_nobodys: ")
			}
			env.refuses(c.route, of(rich, c, "sub_mch_id"), 40003, "sub_mch_id: ")
			env.refuses(c.route, map[string]any{"merchant": "rich"}, 40008, ": is required")
		})
	}
}

// statusOf is what a request is answered with that WeChat never sees.
func statusOf(errcode int) int {
	if errcode == 40011 {
		return http.StatusNotFound
	}
	return http.StatusOK
}

package apiv3_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

const (
	billsPath = "/v3/fund-app/mch-transfer/transfer-bills"
	scene     = `[{"info_type":"活动名称","info_content":"新会员有礼"},{"info_type":"奖励说明","info_content":"注册会员抽奖一等奖"}]`
)

func transfer(number, amount string) wepay.Fields {
	return fields("partner_trade_no", number, "openid", openID, "amount", amount, "desc", "新会员开通有礼",
		"transfer_scene_id", "1000", "transfer_scene_report_infos", scene, "check_name", "NO_CHECK")
}

// direct are the ways of merchants who are no partners.
var direct = ways[:3]

func TestTransfer(t *testing.T) {
	for _, w := range direct {
		t.Run(w.name, func(t *testing.T) {
			s := openShop(t, w)
			if err := s.wechat.Deposit(mchID, 1_000_000); err != nil {
				t.Fatal(err)
			}
			in := with(transfer("TR1", "250000"), "re_user_name", "张三", "check_name", "FORCE_CHECK",
				"notify_url", "https://pay.example.cn/apis/v1/wepay/pay_notify", "user_recv_perception", "现金奖励",
				"spbill_create_ip", "203.0.113.7", "device_info", "013")
			got := s.do(wepay.Transfer, in)
			s.checkDone(got)
			check(t, got, "partner_trade_no", "TR1", "state", "WAIT_USER_CONFIRM", "payment_time", "2026-01-01 12:00:00", "mchid", mchID, "mch_appid", appID)
			if got.Get("payment_no") == "" || got.Get("package_info") == "" {
				t.Errorf("got %v", got)
			}
			if again := s.do(wepay.Transfer, in); again.Get("payment_no") != got.Get("payment_no") {
				t.Errorf("the same number gives %v and %v", got, again)
			}
			query := fields("partner_trade_no", "TR1")
			state := s.do(wepay.QueryTransfer, query)
			s.checkDone(state)
			check(t, state, "partner_trade_no", "TR1", "detail_id", got.Get("payment_no"), "status", "PROCESSING", "state", "WAIT_USER_CONFIRM",
				"payment_amount", "250000", "openid", openID, "desc", "新会员开通有礼", "transfer_time", "2026-01-01 12:00:00", "payment_time", "")
			if _, err := s.wechat.ConfirmTransfer(mchID, "TR1", wepaytest.Held()); err != nil {
				t.Fatal(err)
			}
			check(t, s.do(wepay.QueryTransfer, query), "status", "SUCCESS", "state", "SUCCESS", "payment_time", "2026-01-01 12:00:00")
			s.refused(wepay.CancelTransfer, query, "INVALID_REQUEST", wepay.Query)

			s.do(wepay.Transfer, transfer("TR2", "1000"))
			if _, err := s.wechat.RejectTransfer(mchID, "TR2", "ACCOUNT_FROZEN", wepaytest.Held()); err != nil {
				t.Fatal(err)
			}
			check(t, s.do(wepay.QueryTransfer, fields("partner_trade_no", "TR2")), "status", "FAILED", "state", "FAIL", "reason", "ACCOUNT_FROZEN")

			s.do(wepay.Transfer, transfer("TR3", "1000"))
			canceled := s.do(wepay.CancelTransfer, fields("partner_trade_no", "TR3"))
			s.checkDone(canceled)
			check(t, canceled, "state", "CANCELING", "update_time", "2026-01-01 12:00:00")
			s.clock.Advance(1)
			check(t, s.do(wepay.QueryTransfer, fields("partner_trade_no", "TR3")), "status", "FAILED", "state", "CANCELLED")
			s.refused(wepay.QueryTransfer, fields("partner_trade_no", "NOBODYS"), "NOT_FOUND", wepay.Again)
		})
	}
}

// What WeChat refuses with any code but a few proves nothing of what was paid
// under the number before, so that nobody takes a new one.
func TestTransferVerdicts(t *testing.T) {
	for code, want := range map[string]struct {
		status  int
		verdict wepay.Verdict
	}{
		"SYSTEM_ERROR":          {500, wepay.Query},
		"PARAM_ERROR":           {400, wepay.Query},
		"INVALID_REQUEST":       {400, wepay.Query},
		"NO_AUTH":               {403, wepay.Query},
		"ACCOUNT_ERROR":         {403, wepay.Query},
		"RULE_LIMIT":            {403, wepay.Query},
		"ALREADY_EXISTS":        {400, wepay.Query},
		"NEW_CODE":              {400, wepay.Query},
		"NOT_FOUND":             {404, wepay.Query},
		"SERVICE_UNAVAILABLE":   {503, wepay.Query},
		"NOT_ENOUGH":            {403, wepay.Later},
		"RATELIMIT_EXCEEDED":    {429, wepay.Later},
		"FREQUENCY_LIMIT_OTHER": {429, wepay.Later},
		"SIGN_ERROR":            {401, wepay.Fix},
	} {
		for _, op := range []wepay.Operation{wepay.Transfer, wepay.TransferBatch} {
			t.Run(string(op)+" "+code, func(t *testing.T) {
				s := openShop(t, ways[2])
				s.wechat.Misbehave("", wepaytest.Fault{Kind: wepaytest.Refused, Status: want.status, Code: code, Standing: true, NoEffect: true})
				in := map[wepay.Operation]wepay.Fields{wepay.Transfer: transfer("TR1", "100"), wepay.TransferBatch: batch("100", "1", `[{"out_detail_no":"D1","transfer_amount":100,"transfer_remark":"奖","openid":"`+openID+`"}]`)}[op]
				_, err := s.client.Do(t.Context(), op, in)
				if failed := wantError(t, err, want.verdict); failed.Code == "" || failed.Ask == "" {
					t.Errorf("got %+v", failed)
				}
			})
		}
	}
}

func TestTransferBody(t *testing.T) {
	s := openShop(t, ways[2])
	if err := s.wechat.Deposit(mchID, 1_000_000); err != nil {
		t.Fatal(err)
	}
	in := with(transfer("TR1", "199999"), "re_user_name", "张三")
	s.do(wepay.Transfer, in)
	checkSent(t, s, billsPath, `{"appid":"`+appID+`","out_bill_no":"TR1","openid":"`+openID+`","transfer_amount":199999,
		"transfer_remark":"新会员开通有礼","transfer_scene_id":"1000","transfer_scene_report_infos":`+scene+`}`)
	for _, named := range []wepay.Fields{
		with(in, "partner_trade_no", "TR2", "amount", "200000"),
		with(in, "partner_trade_no", "TR3", "check_name", "FORCE_CHECK"),
		with(in, "partner_trade_no", "TR4", "check_name", ""),
	} {
		s.do(wepay.Transfer, named)
		requests := s.wechat.Requests(billsPath)
		last := requests[len(requests)-1]
		var body map[string]any
		if err := json.Unmarshal(last.Body, &body); err != nil || len(body["user_name"].(string)) != 344 || last.Header.Get("Wechatpay-Serial") != s.merchant.PublicKeyID {
			t.Errorf("sent %s, %v", last.Body, err)
		}
	}
	sent := len(s.wechat.Requests(billsPath))
	for field, in := range map[string]wepay.Fields{
		"re_user_name":                with(transfer("TR5", "200000"), "re_user_name", ""),
		"check_name":                  with(transfer("TR5", "100"), "check_name", "OPTION_CHECK"),
		"desc":                        with(transfer("TR5", "100"), "desc", strings.Repeat("字", 33)),
		"amount":                      with(transfer("TR5", "100"), "amount", "0"),
		"partner_trade_no":            with(transfer("TR5", "100"), "partner_trade_no", "TR-5"),
		"transfer_scene_id":           with(transfer("TR5", "100"), "transfer_scene_id", ""),
		"transfer_scene_report_infos": with(transfer("TR5", "100"), "transfer_scene_report_infos", `{}`),
		"sub_mch_id":                  with(transfer("TR5", "100"), "sub_mch_id", subMchID),
	} {
		_, err := s.client.Do(t.Context(), wepay.Transfer, in)
		wantField(t, err, field)
	}
	_, err := s.client.Do(t.Context(), wepay.Transfer, with(in, "check_name", "FORCE_CHECK", "re_user_name", ""))
	wantField(t, err, "re_user_name")
	if n := len(s.wechat.Requests(billsPath)); n != sent {
		t.Errorf("%d requests were sent more", n-sent)
	}
}

// A partner pays from its own account unless a request names whose it is to be.
func TestTransferOfPartner(t *testing.T) {
	var asked []*http.Request
	var bodies []string
	w := newWechat(t, func(w http.ResponseWriter, r *http.Request) answer {
		body, _ := io.ReadAll(r.Body)
		asked, bodies = append(asked, r), append(bodies, string(body))
		if r.Method == http.MethodGet {
			return answer{body: `{"mch_id":"` + mchID + `","out_bill_no":"TR1","transfer_bill_no":"1","state":"SUCCESS","update_time":"2026-01-01T12:00:00.123+08:00","user_name":"` + sealFor(t, "张三") + `"}`}
		}
		if strings.HasSuffix(r.URL.Path, "/partner/transfer-bills") { // has no state
			return answer{body: `{"sub_mchid":"1900000210","out_bill_no":"TR1","transfer_bill_no":"1","create_time":"2026-01-01T12:00:00Z","package_info":"affffddafdfafddffda=="}`}
		}
		return answer{body: `{"out_bill_no":"TR1","transfer_bill_no":"1","state":"ACCEPTED","create_time":"2026-01-01T12:00:00Z","package_info":"affffddafdfafddffda=="}`}
	})
	m := w.merchant(t)
	m.Type, m.SubMchID, m.SubMchIDs, m.Payouts = wepay.Partner, subMchID, []string{"1900000210"}, true
	c := w.client(t, m)
	for _, test := range []struct{ sub, root, query string }{
		{"", billsPath, ""},
		{"1900000210", "/v3/fund-app/mch-transfer/partner/transfer-bills", "?sub_mchid=1900000210"},
	} {
		asked, bodies = nil, nil
		for op, in := range map[wepay.Operation]wepay.Fields{
			wepay.Transfer: transfer("TR1", "100"), wepay.QueryTransfer: fields("partner_trade_no", "TR1"), wepay.CancelTransfer: fields("partner_trade_no", "TR1"),
		} {
			got, err := c.Do(t.Context(), op, with(in, "sub_mch_id", test.sub))
			if err != nil {
				t.Fatal(err)
			}
			check(t, got, "mch_id", mchID, "sub_mch_id", test.sub)
			if op == wepay.Transfer {
				state := map[string]string{"": "ACCEPTED"}[test.sub]
				check(t, got, "package_info", "affffddafdfafddffda==", "payment_no", "1", "state", state, "payment_time", "2026-01-01 20:00:00")
			}
			if op == wepay.QueryTransfer {
				check(t, got, "transfer_name", "张三", "payment_time", "2026-01-01 12:00:00")
			}
			r, body := asked[len(asked)-1], bodies[len(bodies)-1]
			want := map[wepay.Operation]string{
				wepay.Transfer: test.root, wepay.QueryTransfer: test.root + "/out-bill-no/TR1" + test.query, wepay.CancelTransfer: test.root + "/out-bill-no/TR1/cancel",
			}[op]
			if r.URL.RequestURI() != want {
				t.Errorf("%s asked for %s, want %s", op, r.URL.RequestURI(), want)
			}
			if op != wepay.QueryTransfer && strings.Contains(body, `"sub_mchid":"1900000210"`) != (test.sub != "") {
				t.Errorf("%s sent %s", op, body)
			}
		}
	}
	_, err := c.Do(t.Context(), wepay.Transfer, with(transfer("TR1", "100"), "sub_mch_id", "1900000211"))
	wantField(t, err, "sub_mch_id")
}

// A partner's transfer for a sub-merchant, from beginning to end.
func TestTransferOfSubMerchant(t *testing.T) {
	s := openShop(t, ways[4])
	if err := s.wechat.Deposit(mchID, 1_000_000); err != nil {
		t.Fatal(err)
	}
	in := with(transfer("TR1", "250000"), "re_user_name", "张三", "check_name", "FORCE_CHECK", "sub_mch_id", subMchID)
	got := s.do(wepay.Transfer, in)
	s.checkDone(got)
	check(t, got, "partner_trade_no", "TR1", "state", "", "sub_mch_id", subMchID)
	if got.Get("payment_no") == "" || got.Get("package_info") == "" {
		t.Errorf("got %v", got)
	}
	query := fields("partner_trade_no", "TR1", "sub_mch_id", subMchID)
	state := s.do(wepay.QueryTransfer, query)
	s.checkDone(state)
	check(t, state, "status", "PROCESSING", "state", "WAIT_USER_CONFIRM", "sub_mch_id", subMchID, "detail_id", got.Get("payment_no"))
	check(t, s.do(wepay.CancelTransfer, query), "state", "CANCELING", "sub_mch_id", subMchID)
}

// A reply about another sub-merchant's transfer is none.
func TestTransferOfAnotherSubMerchant(t *testing.T) {
	w := newWechat(t, func(http.ResponseWriter, *http.Request) answer {
		return answer{body: `{"sub_mchid":"1900000211","mchid":"` + mchID + `","out_bill_no":"TR1","transfer_bill_no":"1","state":"SUCCESS"}`}
	})
	m := w.merchant(t)
	m.Type, m.SubMchID, m.SubMchIDs, m.Payouts = wepay.Partner, subMchID, []string{"1900000210"}, true
	for op, in := range map[wepay.Operation]wepay.Fields{
		wepay.Transfer: transfer("TR1", "100"), wepay.QueryTransfer: fields("partner_trade_no", "TR1"), wepay.CancelTransfer: fields("partner_trade_no", "TR1"),
	} {
		if _, err := w.client(t, m).Do(t.Context(), op, with(in, "sub_mch_id", "1900000210")); !errors.Is(err, wepay.ErrForeign) {
			t.Errorf("%s: got %v", op, err)
		}
	}
}

// How a transfer looks to the payee is an object in API v3.
func TestTransferStyle(t *testing.T) {
	s := openShop(t, ways[2])
	if err := s.wechat.Deposit(mchID, 1_000_000); err != nil {
		t.Fatal(err)
	}
	for amount, style := range map[string]string{"20000": "RED_PACKET", "20001": "CONFIRM_PAGE"} {
		s.do(wepay.Transfer, with(transfer("TR"+amount, amount), "user_recv_style", style))
		requests := s.wechat.Requests(billsPath)
		if body := string(requests[len(requests)-1].Body); !strings.Contains(body, `"user_recv_style":{"type":"`+style+`"}`) {
			t.Errorf("sent %s", body)
		}
	}
	for style, amount := range map[string]string{"RED_PACKET": "20001", "red_packet": "100", `{"type":"RED_PACKET"}`: "100"} {
		_, err := s.client.Do(t.Context(), wepay.Transfer, with(transfer("TR1", amount), "user_recv_style", style))
		wantField(t, err, "user_recv_style")
	}
	if n := len(s.wechat.Requests(billsPath)); n != 2 {
		t.Errorf("%d transfers were sent", n)
	}
}

// A name that was encrypted for an older key does not hide what became of the
// money.
func TestTransferNameOfOlderKey(t *testing.T) {
	w := newWechat(t, func(http.ResponseWriter, *http.Request) answer {
		return answer{body: `{"mch_id":"` + mchID + `","out_bill_no":"TR1","transfer_bill_no":"1","state":"SUCCESS","user_name":"bm90IGZvciB1cw=="}`}
	})
	m := w.merchant(t)
	m.Payouts = true
	got, err := w.client(t, m).Do(t.Context(), wepay.QueryTransfer, fields("partner_trade_no", "TR1"))
	if err != nil {
		t.Fatal(err)
	}
	check(t, got, "status", "SUCCESS", "transfer_name", "")
}

func batch(total, num, details string) wepay.Fields {
	return fields("out_batch_no", "B1", "batch_name", "奖金", "batch_remark", "一月奖金", "total_amount", total, "total_num", num, "transfer_detail_list", details)
}

func TestTransferBatch(t *testing.T) {
	details := `[{"out_detail_no":"D1","transfer_amount":250000,"transfer_remark":"奖金","openid":"` + openID + `","user_name":"张三"},
		{"out_detail_no":"D2","transfer_amount":100,"transfer_remark":"奖金","openid":"` + openID + `"}]`
	for _, w := range direct {
		t.Run(w.name, func(t *testing.T) {
			s := openShop(t, w)
			if err := s.wechat.Deposit(mchID, 1_000_000); err != nil {
				t.Fatal(err)
			}
			got := s.do(wepay.TransferBatch, batch("250100", "2", details))
			s.checkDone(got)
			check(t, got, "out_batch_no", "B1", "batch_status", "ACCEPTED", "create_time", "2026-01-01 12:00:00")
			if again := s.do(wepay.TransferBatch, batch("250100", "2", details)); again.Get("batch_id") != got.Get("batch_id") {
				t.Errorf("the same number gives %v and %v", got, again)
			}
			if _, err := s.wechat.FinishBatch(mchID, "B1", map[string]string{"D2": "ACCOUNT_FROZEN"}, wepaytest.Held()); err != nil {
				t.Fatal(err)
			}
			state := s.do(wepay.QueryTransferBatch, fields("out_batch_no", "B1"))
			s.checkDone(state)
			check(t, state, "batch_status", "FINISHED", "total_num", "2", "success_amount", "250000", "fail_num", "1", "limit", "100")
			var list []map[string]string
			if err := json.Unmarshal([]byte(state.Get("transfer_detail_list")), &list); err != nil || len(list) != 2 || list[1]["detail_status"] != "FAIL" {
				t.Errorf("got %v, %v", list, err)
			}
			check(t, s.do(wepay.QueryTransferBatch, fields("out_batch_no", "B1", "need_query_detail", "false")), "transfer_detail_list", "", "batch_status", "FINISHED")
			check(t, s.do(wepay.QueryTransferBatch, fields("out_batch_no", "B1", "out_detail_no", "D2")), "detail_status", "FAIL", "fail_reason", "ACCOUNT_FROZEN", "transfer_amount", "100")
			s.refused(wepay.QueryTransferBatch, fields("out_batch_no", "NOBODYS"), "NOT_FOUND", wepay.Again)
		})
	}
}

func TestTransferBatchTotals(t *testing.T) {
	s := openShop(t, ways[0])
	one := `{"out_detail_no":"D1","transfer_amount":100,"transfer_remark":"奖","openid":"o"}`
	for _, test := range []struct{ total, num, details, field string }{
		{"100", "2", "[" + one + "]", "total_num"},
		{"101", "1", "[" + one + "]", "total_amount"},
		{"200", "1", "[" + one + "," + one + "]", "total_num"},
		{"100", "1", one, "transfer_detail_list"},
		{"100", "1", `[{"transfer_amount":"100"}]`, "transfer_detail_list"},
		{"100", "1", `[{"transfer_amount":1e2}]`, "transfer_detail_list"},
		{"100", "1", `[{}]`, "transfer_detail_list"},
		{"100", "1001", "[" + strings.Repeat(one+",", 1000) + one + "]", "total_num"},
		{"100", "4", `[{"transfer_amount":4611686018427387904},{"transfer_amount":4611686018427387904},{"transfer_amount":4611686018427387904},{"transfer_amount":4611686018427388004}]`, "transfer_detail_list"},
	} {
		_, err := s.client.Do(t.Context(), wepay.TransferBatch, batch(test.total, test.num, test.details))
		wantField(t, err, test.field)
	}
	if n := len(s.wechat.Requests("")); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

// Who may not send money out sends none, and asks nothing about it.
func TestPayoutsNeedPayouts(t *testing.T) {
	s := openShop(t, ways[0])
	s.merchant.Payouts = false
	for op, in := range map[wepay.Operation]wepay.Fields{
		wepay.Transfer: transfer("TR1", "100"), wepay.QueryTransfer: fields("partner_trade_no", "TR1"), wepay.CancelTransfer: fields("partner_trade_no", "TR1"),
		wepay.TransferBatch: batch("100", "1", `[{"transfer_amount":100}]`), wepay.QueryTransferBatch: fields("out_batch_no", "B1"),
	} {
		if _, err := s.client.Do(t.Context(), op, in); !isNotAble(err) {
			t.Errorf("%s: got %v", op, err)
		}
	}
}

package apiv2_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// sized returns a value of a rule that is exactly so many bytes long, or false
// where the form of the value leaves no choice of its length.
func sized(rule wepay.Rule, size int) (string, bool) {
	for _, form := range []string{
		"%s", `"%s"`, "https://a/%s", "2001:db8::%s",
		`[{"type":"MERCHANT_ID","account":"1","amount":1,"description":"x","name":"%s"}]`,
		`{"type":"MERCHANT_ID","account":"1","relation_type":"STORE","name":"%s"}`,
	} {
		for _, c := range []string{"a", "1"} {
			value := fmt.Sprintf(form, strings.Repeat(c, max(size-len(form)+len("%s"), 0)))
			if len(value) == size && (rule.Is == nil || rule.Is(value) == nil) {
				return value, true
			}
		}
	}
	return "", false
}

// refusedField is the field that a request was refused for before anything was
// sent, "" for none.
func refusedField(t *testing.T, op wepay.Operation, changes map[string]string) string {
	t.Helper()
	server := serve(t, withBankKey(rows[op].good(op)))
	_, err := calls(t, able(t, server.URL), op, changes)
	var field *wepay.FieldError
	if !errors.As(err, &field) {
		if len(server.of(rows[op].path)) == 0 {
			t.Errorf("nothing was sent, and it was not refused: %v", err)
		}
		return ""
	}
	if len(server.asked()) != 0 {
		t.Error("it was sent, and refused")
	}
	return field.Field
}

func TestRowsLimits(t *testing.T) {
	for op := range rows {
		for _, rule := range apiv2.RulesOf(op) {
			for _, limit := range []struct {
				size int
				ok   bool
			}{
				{rule.Max - 1, true},
				{rule.Max, true},
				{rule.Max + 1, false},
				{rule.Min - 1, false},
				{rule.Min, true},
				{rule.Min + 1, true},
			} {
				if limit.size < 2 || limit.size < rule.Min-1 || rule.Max == 0 && limit.size > rule.Min+1 {
					continue
				}
				value, found := sized(rule, limit.size)
				if !found {
					continue
				}
				t.Run(fmt.Sprintf("%s %s of %d bytes", op, rule.Name, limit.size), func(t *testing.T) {
					want := ""
					if !limit.ok {
						want = rule.Name
					}
					if got := refusedField(t, op, map[string]string{rule.Name: value}); got != want {
						t.Errorf("refused for %q, want %q", got, want)
					}
				})
			}
		}
	}
}

// limits are the lengths in WeChat's documents, which the test above takes from
// the rows; "8-32" is the least and the most.
var limits = map[wepay.Operation]string{
	wepay.CloseOrder:  "out_trade_no 32",
	wepay.QueryRefund: "out_trade_no 32, transaction_id 32, out_refund_no 64, refund_id 32, offset 0",
	wepay.Micropay: "auth_code 128, out_trade_no 32, total_fee 0, body 0, spbill_create_ip 64, attach 127, detail 6000, device_info 32, fee_type 16, " +
		"goods_tag 32, limit_pay 32, profit_sharing 0, receipt 0, scene_info 256, time_expire 0, time_start 0, version 32",
	wepay.Reverse:          "out_trade_no 32, transaction_id 32",
	wepay.AuthCodeToOpenID: "auth_code 128",
	wepay.ShortURL:         "long_url 512",
	wepay.SandboxKey:       "",
	wepay.SendRedPacket: "mch_billno 28, send_name 32, re_openid 32, total_amount 0, wishing 128, act_name 32, remark 256, scene_id 32, risk_info 128, " +
		"msgappid 32, consume_mch_id 32, total_num 0, client_ip 15",
	wepay.SendGroupRedPacket: "mch_billno 28, send_name 32, re_openid 32, total_amount 0, wishing 128, act_name 32, remark 256, scene_id 32, risk_info 128, " +
		"msgappid 32, consume_mch_id 32, total_num 0, amt_type 0",
	wepay.QueryRedPacket:            "mch_billno 28, bill_type 0",
	wepay.Transfer:                  "partner_trade_no 32, openid 64, re_user_name 64, amount 0, spbill_create_ip 32, device_info 32, check_name 0, desc 100",
	wepay.QueryTransfer:             "partner_trade_no 32",
	wepay.PayBank:                   "partner_trade_no 8-32, bank_no 64, true_name 64, bank_code 64, amount 0, desc 100",
	wepay.QueryBank:                 "partner_trade_no 8-32",
	wepay.ProfitShare:               "transaction_id 32, out_order_no 64, receivers 10240, brand_mch_id 32",
	wepay.ProfitShareMulti:          "transaction_id 32, out_order_no 64, receivers 10240, brand_mch_id 32",
	wepay.ProfitShareFinish:         "transaction_id 32, out_order_no 64, description 80, brand_mch_id 32",
	wepay.ProfitShareQuery:          "transaction_id 32, out_order_no 64",
	wepay.ProfitShareReturn:         "out_return_no 64, return_account_type 0, return_account 64, return_amount 0, description 80, out_order_no 64, order_id 64",
	wepay.ProfitShareReturnQuery:    "out_return_no 64, out_order_no 64, order_id 64",
	wepay.ProfitShareAddReceiver:    "receiver 2048",
	wepay.ProfitShareRemoveReceiver: "receiver 2048",
	wepay.DownloadBill:              "bill_date 0, tar_type 0, bill_type 0, device_info 32",
	wepay.DownloadFundFlow:          "bill_date 0, tar_type 0, account_type 0",
	wepay.BizPayURL:                 "product_id 32",
	wepay.EditAddress:               "accesstoken 512, url 2048",
}

func TestRowsTakeWhatWeChatTakes(t *testing.T) {
	// Those of package wepay are held against the documents there.
	there := []wepay.Operation{wepay.PlaceOrder, wepay.QueryOrder, wepay.Refund}
	for _, op := range apiv2.Operations() {
		if slices.Contains(there, op) || strings.Contains(string(op), " ") {
			continue
		}
		want, found := limits[op]
		if !found {
			t.Errorf("%s is not tested", op)
		}
		var got []string
		for _, rule := range apiv2.RulesOf(op) {
			limit := fmt.Sprint(rule.Max)
			if rule.Min > 0 {
				limit = fmt.Sprintf("%d-%d", rule.Min, rule.Max)
			}
			got = append(got, rule.Name+" "+limit)
		}
		if fields := strings.Join(got, ", "); fields != want {
			t.Errorf("%s takes %s, want %s", op, fields, want)
		}
	}
	for _, op := range apiv2.Operations() {
		if _, found := rows[op]; !found && !strings.Contains(string(op), " ") && op != wepay.BizPayURL && op != wepay.EditAddress {
			t.Errorf("%s has no row in the tests", op)
		}
	}
}

// Each field of the smallest request is required, an empty one being none.
func TestRowsRequired(t *testing.T) {
	for op, row := range rows {
		for name := range row.in {
			t.Run(string(op)+" without "+name, func(t *testing.T) {
				want := name
				if op == wepay.QueryRefund {
					want = "out_trade_no" // which stands for any of the four
				}
				if got := refusedField(t, op, map[string]string{name: ""}); got != want {
					t.Errorf("refused for %q, want %q", got, want)
				}
			})
		}
	}
}

// Who calls is not the caller's to say, nor is anything else that a row lacks.
func TestRowsTakeNothingElse(t *testing.T) {
	for op := range rows {
		for _, name := range []string{"appid", "mch_id", "mch_appid", "mchid", "wxappid", "nonce_str", "sign", "sign_type", "a_field_of_2031"} {
			if got := refusedField(t, op, map[string]string{name: "x"}); got != name {
				t.Errorf("%s with %s was refused for %q", op, name, got)
			}
		}
	}
}

package apiv2_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

// What fields mean to each other, and the forms that a length does not tell.
func TestRowsForms(t *testing.T) {
	only := func(op wepay.Operation, values map[string]string) map[string]string {
		changes := make(map[string]string)
		for name := range rows[op].in {
			changes[name] = ""
		}
		for name, value := range values {
			changes[name] = value
		}
		return changes
	}
	tests := []struct {
		op      wepay.Operation
		changes map[string]string
		field   string // "": accepted
	}{
		{wepay.Transfer, map[string]string{"check_name": "FORCE_CHECK"}, "re_user_name"},
		{wepay.Transfer, map[string]string{"check_name": "FORCE_CHECK", "re_user_name": "张三"}, ""},
		{wepay.Transfer, map[string]string{"check_name": "NO_CHECK", "re_user_name": "张三"}, ""},
		{wepay.Transfer, map[string]string{"check_name": "no_check"}, "check_name"},
		{wepay.Transfer, map[string]string{"partner_trade_no": "T-1"}, "partner_trade_no"},
		{wepay.Transfer, map[string]string{"amount": "0"}, "amount"},
		{wepay.Transfer, map[string]string{"amount": "1.00"}, "amount"},
		{wepay.Transfer, map[string]string{"amount": "-100"}, "amount"},
		{wepay.Transfer, map[string]string{"spbill_create_ip": "localhost"}, "spbill_create_ip"},

		{wepay.SendRedPacket, map[string]string{"total_amount": "99"}, "scene_id"},
		{wepay.SendRedPacket, map[string]string{"total_amount": "100"}, ""},
		{wepay.SendRedPacket, map[string]string{"total_amount": "101"}, ""},
		{wepay.SendRedPacket, map[string]string{"total_amount": "19999"}, ""},
		{wepay.SendRedPacket, map[string]string{"total_amount": "20000"}, ""},
		{wepay.SendRedPacket, map[string]string{"total_amount": "20001"}, "scene_id"},
		{wepay.SendRedPacket, map[string]string{"total_amount": "99", "scene_id": "PRODUCT_1"}, ""},
		{wepay.SendRedPacket, map[string]string{"total_amount": "20001", "scene_id": "PRODUCT_8"}, ""},
		{wepay.SendRedPacket, map[string]string{"scene_id": "PRODUCT_9"}, "scene_id"},
		{wepay.SendRedPacket, map[string]string{"scene_id": "PRODUCT_0"}, "scene_id"},
		{wepay.SendRedPacket, map[string]string{"total_num": "2"}, "total_num"},
		{wepay.SendRedPacket, map[string]string{"amt_type": "ALL_RAND"}, "amt_type"},
		{wepay.SendRedPacket, map[string]string{"mch_billno": "B-1"}, "mch_billno"},
		{wepay.SendRedPacket, map[string]string{"client_ip": "203.0.113.256"}, "client_ip"},
		{wepay.SendGroupRedPacket, map[string]string{"total_num": "2"}, "total_num"},
		{wepay.SendGroupRedPacket, map[string]string{"total_num": "3"}, ""},
		{wepay.SendGroupRedPacket, map[string]string{"total_num": "4"}, ""},
		{wepay.SendGroupRedPacket, map[string]string{"total_num": "19"}, ""},
		{wepay.SendGroupRedPacket, map[string]string{"total_num": "20"}, ""},
		{wepay.SendGroupRedPacket, map[string]string{"total_num": "21"}, "total_num"},
		{wepay.SendGroupRedPacket, map[string]string{"total_num": "03"}, "total_num"},
		{wepay.SendGroupRedPacket, map[string]string{"total_amount": "20001"}, "scene_id"},
		{wepay.SendGroupRedPacket, map[string]string{"total_amount": "99"}, "scene_id"},
		{wepay.SendGroupRedPacket, map[string]string{"amt_type": "all_rand"}, "amt_type"},
		{wepay.SendGroupRedPacket, map[string]string{"client_ip": "203.0.113.7"}, "client_ip"},
		{wepay.QueryRedPacket, map[string]string{"bill_type": "mcht"}, "bill_type"},

		{wepay.PayBank, map[string]string{"bank_no": "6225 8812"}, "bank_no"},
		{wepay.PayBank, map[string]string{"bank_code": "ICBC"}, "bank_code"},
		{wepay.PayBank, map[string]string{"amount": "0"}, "amount"},
		{wepay.PayBank, map[string]string{"enc_bank_no": "x"}, "enc_bank_no"},
		{wepay.PayBank, map[string]string{"enc_true_name": "x"}, "enc_true_name"},
		{wepay.QueryBank, map[string]string{"partner_trade_no": "T_123456"}, "partner_trade_no"},

		{wepay.QueryRefund, only(wepay.QueryRefund, map[string]string{"refund_id": "5"}), ""},
		{wepay.QueryRefund, only(wepay.QueryRefund, map[string]string{"out_refund_no": "R1"}), ""},
		{wepay.QueryRefund, only(wepay.QueryRefund, map[string]string{"out_trade_no": "A1"}), ""},
		{wepay.QueryRefund, only(wepay.QueryRefund, map[string]string{"offset": "10"}), "out_trade_no"},
		{wepay.QueryRefund, map[string]string{"offset": "-1"}, "offset"},
		{wepay.QueryRefund, map[string]string{"offset": "1000"}, ""},
		{wepay.QueryRefund, map[string]string{"offset": "1001"}, "offset"},
		{wepay.Reverse, only(wepay.Reverse, map[string]string{"transaction_id": transaction}), ""},
		{wepay.CloseOrder, only(wepay.CloseOrder, map[string]string{"transaction_id": transaction}), "transaction_id"},
		{wepay.ProfitShareReturn, map[string]string{"out_order_no": "", "order_id": "5"}, ""},
		{wepay.ProfitShareReturn, map[string]string{"out_order_no": "", "order_id": ""}, "out_order_no"},
		{wepay.ProfitShareReturn, map[string]string{"return_account_type": "PERSONAL_OPENID"}, "return_account_type"},
		{wepay.ProfitShareReturn, map[string]string{"return_amount": "0"}, "return_amount"},
		{wepay.ProfitShareReturnQuery, map[string]string{"out_order_no": "", "order_id": "5"}, ""},
		{wepay.ProfitShareReturnQuery, map[string]string{"out_order_no": "", "order_id": ""}, "out_order_no"},
		{wepay.ProfitShare, map[string]string{"brand_mch_id": "x"}, "brand_mch_id"},
		{wepay.ProfitShare, map[string]string{"out_order_no": "P_-*|@1"}, ""},
		{wepay.ProfitShareQuery, map[string]string{"receivers": sharers}, "receivers"},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.op, test.changes), func(t *testing.T) {
			if got := refusedField(t, test.op, test.changes); got != test.field {
				t.Errorf("refused for %q, want %q", got, test.field)
			}
		})
	}
}

// receiver is one receiver's JSON with some changes; "-" takes a member out.
func receiver(changes ...string) string {
	text := `{"type":"MERCHANT_ID","account":"1900000110","amount":100,"description":"分到商户","relation_type":"STORE"}`
	for i := 0; i < len(changes); i += 2 {
		text = strings.Replace(text, changes[i], changes[i+1], 1)
	}
	return text
}

func TestReceivers(t *testing.T) {
	list := func(all ...string) string { return "[" + strings.Join(all, ",") + "]" }
	many := func(n int) []string {
		var all []string
		for range n {
			all = append(all, `{"type":"MERCHANT_ID","account":"1","amount":1,"description":"x"}`)
		}
		return all
	}
	for text, ok := range map[string]bool{
		list(receiver()):                                          true,
		list(receiver(), receiver()):                              true,
		list(receiver(`"MERCHANT_ID"`, `"PERSONAL_OPENID"`)):      true,
		list(receiver(`"MERCHANT_ID"`, `"PERSONAL_SUB_OPENID"`)):  true,
		list(receiver(`,"relation_type":"STORE"`, `,"name":"x"`)): true,
		list(many(49)...):                                         true,
		list(many(50)...):                                         true,
		list(many(51)...):                                         false,
		list():                                                    false,
		receiver():                                                false,
		list(receiver())[1:]:                                      false,
		list(receiver()) + "x":                                    false,
		"null":                                                    false,
		"[null]":                                                  false,
		list(receiver(`"MERCHANT_ID"`, `"merchant_id"`)):      false,
		list(receiver(`"type":"MERCHANT_ID",`, "")):           false,
		list(receiver(`"account":"1900000110",`, "")):         false,
		list(receiver(`1900000110`, strings.Repeat("1", 64))): true,
		list(receiver(`1900000110`, strings.Repeat("1", 65))): false,
		list(receiver(`"1900000110"`, `1900000110`)):          false,
		list(receiver(`"amount":100,`, "")):                   false,
		list(receiver(`100`, `0`)):                            false,
		list(receiver(`100`, `-1`)):                           false,
		list(receiver(`100`, `1.5`)):                          false,
		list(receiver(`100`, `1e2`)):                          false,
		list(receiver(`100`, `"100"`)):                        false,
		list(receiver(`100`, `null`)):                         false,
		list(receiver(`,"description":"分到商户"`, "")):           false,
		list(receiver(`分到商户`, "")):                            false,
		list(receiver(`分到商户`, strings.Repeat("x", 80))):       true,
		list(receiver(`分到商户`, strings.Repeat("x", 81))):       false,
		list(receiver(), receiver(`100`, `0`)):                false,
	} {
		want := "receivers"
		if ok {
			want = ""
		}
		for _, op := range []wepay.Operation{wepay.ProfitShare, wepay.ProfitShareMulti} {
			if got := refusedField(t, op, map[string]string{"receivers": text}); got != want {
				t.Errorf("%s of %.200s: refused for %q, want %q", op, text, got, want)
			}
		}
	}
}

func TestReceiver(t *testing.T) {
	for text, ok := range map[string][2]bool{ // added, and removed
		receiver():                      {true, true},
		receiver(`"STORE"`, `"CUSTOM"`): {false, true},
		receiver(`"STORE"`, `"CUSTOM","custom_relation":""`):   {false, true},
		receiver(`"STORE"`, `"CUSTOM","custom_relation":"邻居"`): {true, true},
		receiver(`"STORE"`, `"store"`):                         {false, true},
		receiver(`,"relation_type":"STORE"`, ""):               {false, true},
		receiver(`,"amount":100,"description":"分到商户"`, ""):     {true, true},
		receiver(`"MERCHANT_ID"`, `"X"`):                       {false, false},
		receiver(`"account":"1900000110",`, ""):                {false, false},
		"[" + receiver() + "]":                                 {false, false},
		"null":                                                 {false, false},
		"x":                                                    {false, false},
	} {
		for i, op := range []wepay.Operation{wepay.ProfitShareAddReceiver, wepay.ProfitShareRemoveReceiver} {
			want := "receiver"
			if ok[i] {
				want = ""
			}
			if got := refusedField(t, op, map[string]string{"receiver": text}); got != want {
				t.Errorf("%s of %s: refused for %q, want %q", op, text, got, want)
			}
		}
	}
	for _, relation := range strings.Fields("SERVICE_PROVIDER STORE STAFF STORE_OWNER PARTNER HEADQUARTER BRAND DISTRIBUTOR USER SUPPLIER") {
		if got := refusedField(t, wepay.ProfitShareAddReceiver, map[string]string{"receiver": receiver("STORE", relation)}); got != "" {
			t.Errorf("%s is refused", relation)
		}
	}
}

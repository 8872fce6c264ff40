package apiv2_test

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

var aPayment = map[string]string{
	"out_trade_no": "5ba27cc3a70db45dd108b53f", "transaction_id": "4200000000202001010000000001", "total_fee": "1200",
	"trade_type": "JSAPI", "time_end": "20200101120000", "openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", "cash_fee": "1200",
	"bank_type": "CMB_CREDIT", "return_msg": "",
}

// payment returns the fields of a payment's notification after some changes; an
// empty value takes a field out.
func payment(changes map[string]string) wepay.Fields {
	all := maps.Clone(aPayment)
	maps.Copy(all, changes)
	return slices.DeleteFunc(reply(all), func(f wepay.Field) bool { return f.Value == "" })
}

// replied returns the fields of a reply that has those of a payment as well.
func replied(changes map[string]string) wepay.Fields {
	fields := payment(changes)
	fields.Set("return_msg", "OK")
	return fields
}

// WeChat signs its replies with the key that it signs notifications with.
func TestSignedRepliesAreNoPayments(t *testing.T) {
	tests := []struct {
		name   string
		fields wepay.Fields
	}{
		{"an order's", reply(requests[wepay.PlaceOrder].reply)},
		{"an order's with the order's number", replied(map[string]string{"prepay_id": "wx1"})},
		{"an order's, refused", reply(map[string]string{"result_code": "FAIL", "err_code": "ORDERPAID"})},
		{"an order's, refused, with the order's number", reply(map[string]string{"result_code": "FAIL", "out_trade_no": "A1"})},
		{"a query's, paid", replied(map[string]string{"trade_state": "SUCCESS"})},
		{"a query's, paid, which says so", payment(map[string]string{"trade_state": "SUCCESS", "trade_state_desc": "支付成功"})},
		{"a query's of a contract's debit", replied(map[string]string{"trade_type": "PAP", "contract_id": "1", "trade_state": "SUCCESS", "trade_state_desc": "OK"})},
		{"a query's of a contract's debit, not paid", replied(map[string]string{"trade_type": "PAP", "trade_state": "ACCEPT"})},
		{"a query's of a contract's debit that failed", replied(map[string]string{"contract_id": "1", "trade_state": "PAY_FAIL", "trade_state_desc": "余额不足"})},
		{"a query's, not paid", reply(requests[wepay.QueryOrder].reply)},
		{"a query's, refunded", payment(map[string]string{"trade_state": "REFUND"})},
		{"a query's, closed", payment(map[string]string{"trade_state": "CLOSED"})},
		{"a query's, not paid, with every other field", payment(map[string]string{"trade_state": "NOTPAY"})},
		{"a payment's by code", replied(map[string]string{"trade_type": "MICROPAY"})},
		{"a payment's by code without return_msg", payment(map[string]string{"trade_type": "MICROPAY"})},
		{"a payment's by code that failed", payment(map[string]string{"trade_type": "MICROPAY", "result_code": "FAIL"})},
		{"a payment's by face", payment(map[string]string{"trade_type": "FACEPAY"})},
		{"a refund's", payment(map[string]string{"refund_id": "5", "out_refund_no": "R1", "refund_fee": "1"})},
		{"a refund's without refund_id", payment(map[string]string{"out_refund_no": "R1"})},
		{"a refund query's", payment(map[string]string{"refund_count": "1", "refund_id_0": "5"})},
		{"a reversal's", replied(map[string]string{"recall": "N"})},
		{"a reversal's, without a payment", reply(map[string]string{"recall": "N", "out_trade_no": "A1"})},
		{"a closing's", reply(nil)},
		{"a closing's with the order's number", reply(map[string]string{"out_trade_no": "A1", "result_msg": "OK"})},
		{"no out_trade_no", payment(map[string]string{"out_trade_no": ""})},
		{"no transaction_id", payment(map[string]string{"transaction_id": ""})},
		{"no result_code", payment(map[string]string{"result_code": ""})},
		{"no bank_type", payment(map[string]string{"bank_type": ""})},
		{"no trade_type", payment(map[string]string{"trade_type": ""})},
		{"failed, no trade_type", payment(map[string]string{"trade_type": "", "result_code": "FAIL"})},
		{"no total_fee", payment(map[string]string{"total_fee": ""})},
		{"total_fee of nothing", payment(map[string]string{"total_fee": "0"})},
		{"total_fee with a nought in front", payment(map[string]string{"total_fee": "01"})},
	}
	for _, test := range tests {
		for _, signType := range []wepay.SignType{wepay.MD5, wepay.HMACSHA256} {
			t.Run(test.name+", "+string(signType), func(t *testing.T) {
				n, err := read([]byte(signed(test.fields, signType, key)), key)
				if !errors.Is(err, wepay.ErrNotPayment) || n != nil {
					t.Errorf("got %v, %v, want ErrNotPayment", n, err)
				}
			})
		}
	}
}

// Whatever WeChat notifies of is taken, also what is hardly ever seen.
func TestPayments(t *testing.T) {
	for name, changes := range map[string]map[string]string{
		"paid":                            nil,
		"paid, with its state":            {"trade_state": "SUCCESS"},
		"paid, with a message":            {"return_msg": "OK"},
		"with the algorithm":              {"sign_type": "HMAC-SHA256"},
		"failed":                          {"result_code": "FAIL", "transaction_id": "", "err_code": "SYSTEM ERROR", "err_code_des": "系统错误 & more"},
		"a contract's debit":              {"trade_type": "PAP", "trade_state": "SUCCESS", "contract_id": "01_91A63EAA189DDE32_1723617852_1", "user_repaid": "Y"},
		"a contract's debit, no type":     {"trade_type": "", "trade_state": "SUCCESS", "contract_id": "Wx15463511252015071056489715"},
		"a contract's debit that failed":  {"trade_type": "PAP", "trade_state": "PAY_FAIL", "transaction_id": ""},
		"of which little is told":         {"trade_type": "", "trade_state": "PAY_FAIL", "contract_id": "1", "transaction_id": "", "bank_type": "", "total_fee": "", "time_end": ""},
		"of a type of 2031":               {"trade_type": "PALM"},
		"with coupons":                    {"coupon_count": "12", "coupon_fee": "3", "coupon_id_0": "1", "coupon_type_0": "NO_CASH", "coupon_fee_11": "3", "settlement_total_fee": "1197"},
		"with a coupon without a number":  {"coupon_count": "1", "coupon_fee": "3", "coupon_id": "1", "coupon_type": "CASH"},
		"in another currency":             {"fee_type": "HKD", "cash_fee_type": "CNY", "rate_value": "83130000", "rate": "0.8313"},
		"with a device":                   {"device_info": "收银台 #3 = R&D, 2nd floor"},
		"with a promotion":                {"version": "1.0", "promotion_detail": `{"promotion_detail":[{"name":"满10减1&新=客","goods_detail":[{"goods_remark":"a=1&b=2"}]}]}`},
		"with fields of 2031":             {"a_field": "1", "new_field": "x & y=z", "new-field.1": "https://example.com/?a=1", "zzz": "&"},
		"of a sub-merchant":               {"sub_appid": "wx00112233445566bb", "sub_mch_id": "1900000110", "sub_openid": "orM1B5QURRH3PAqNItiFpY-HAAAA", "sub_is_subscribe": "N"},
		"of an order with odd characters": {"out_trade_no": "a_-*|@1.#/:"},
	} {
		t.Run(name, func(t *testing.T) {
			fields := payment(changes)
			for _, signType := range []wepay.SignType{wepay.MD5, wepay.HMACSHA256} {
				n, err := read(encoded(t, fields, signType), key)
				if err != nil {
					t.Fatal(err)
				}
				if n.Fields.Delete("sign"); !slices.Equal(n.Fields, fields) {
					t.Errorf("got %v, want %v", n.Fields, fields)
				}
			}
		})
	}
}

// encoded signs fields and writes them as WeChat does.
func encoded(t testing.TB, fields wepay.Fields, signType wepay.SignType) []byte {
	t.Helper()
	fields = fields.Clone()
	fields.Set("sign", apiv2.Sign(fields, signType, key))
	body, err := apiv2.Encode("xml", fields)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// What the payer gets is signed with the same key as well, and the payer may
// send it anywhere.
func TestClientParametersAreNoPayments(t *testing.T) {
	for _, id := range []string{"V11", "V12", "V13", "V14", "V15"} {
		t.Run(id, func(t *testing.T) {
			v := vectors(t)[id]
			fields := parse(v.Base)
			fields.Set("sign", v.Result)
			if n, err := read([]byte(document(fields)), v.Key); err == nil || n != nil {
				t.Errorf("got %v, want it refused", n)
			}
		})
	}
}

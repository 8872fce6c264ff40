// Make writes catalogue.json. Run it in this folder:
//
//	go run .
package main

import (
	"bytes"
	"encoding/json"
	"log"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// The merchant whose notifications these are, and a key that is not its own.
const (
	appID, mchID = "wx00112233445566aa", "1900000109"
	key          = "Kd7q2Vn0sX9tB4mHc6Zr1Lw8Fy3Pj5Ga"
	otherKey     = "192006250b4c09247ec02edce69f6a2d"
)

// message is one body that somebody posts as a notification.
type message struct {
	Name string `json:"name"`
	// Signed is the text that WeChat signed where the body is another reading of
	// it, or a message that is no notification; less the key.
	Signed string `json:"signed,omitempty"`
	Body   string `json:"body"`
	// Result is what comes of it: "taken", or the word why it is refused.
	Result string `json:"result"`
	// RefundID is of the refund that a notification opens to. WeChat need not
	// have one: then it is not confirmed.
	RefundID string `json:"refund_id,omitempty"`
}

var catalogue []message

func main() {
	log.SetFlags(0)
	attaches()
	readings()
	replies()
	changes()
	honest()
	notices()
	refunds()
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "\t")
	check(encoder.Encode(catalogue))
	check(os.WriteFile("catalogue.json", out.Bytes(), 0o644))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// fields makes fields of pairs of a name and a value; an empty value takes a
// field out.
func fields(from map[string]string, pairs ...string) wepay.Fields {
	all := maps.Clone(from)
	for pair := range slices.Chunk(pairs, 2) {
		all[pair[0]] = pair[1]
	}
	return slices.DeleteFunc(wepay.NewFields(all), func(f wepay.Field) bool { return f.Value == "" })
}

// payment is what WeChat notifies of an order of one fen that was paid.
func payment(pairs ...string) wepay.Fields {
	return fields(map[string]string{
		"appid": appID, "bank_type": "CMB_CREDIT", "cash_fee": "1", "fee_type": "CNY", "is_subscribe": "N", "mch_id": mchID,
		"nonce_str": "5d2b6c2a8db53831f7eda20af46e531c", "openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", "out_trade_no": "MINE-0001",
		"result_code": "SUCCESS", "return_code": "SUCCESS", "time_end": "20200101120000", "total_fee": "1", "trade_type": "JSAPI",
		"transaction_id": "4200000000202001010000000001",
	}, pairs...)
}

// reply is what WeChat answers to a call.
func reply(pairs ...string) wepay.Fields {
	return fields(map[string]string{
		"appid": appID, "mch_id": mchID, "nonce_str": "IITRi8Iabbblz1Jc", "result_code": "SUCCESS", "return_code": "SUCCESS", "return_msg": "OK",
	}, pairs...)
}

// text is what is signed of fields, less the key.
func text(of wepay.Fields) string {
	var pairs []string
	for _, field := range of {
		pairs = append(pairs, field.Name+"="+field.Value)
	}
	return strings.Join(pairs, "&")
}

func body(of wepay.Fields, sign string) string {
	of = of.Clone()
	if sign != "" {
		of.Set("sign", sign)
	}
	document, err := apiv2.Encode("xml", of)
	check(err)
	return string(document)
}

func add(name, result string, of wepay.Fields) {
	catalogue = append(catalogue, message{Name: name, Signed: text(of), Body: body(of, apiv2.Sign(of, wepay.MD5, key)), Result: result})
}

// reread adds another reading of what is signed: the fields that begin at the
// given names, of which "name 2" is the second place that a field of the name
// can begin at.
func reread(name string, signed wepay.Fields, begin string) {
	base := "&" + text(signed)
	var other wepay.Fields
	var at []int
	for place := range strings.SplitSeq(begin, ", ") {
		field, count, _ := strings.Cut(place, " ")
		n, _ := strconv.Atoi(count)
		from := 0
		for range max(n, 1) {
			next := strings.Index(base[from:], "&"+field+"=")
			if next < 0 {
				log.Fatalf("%s: no %s begins in %s", name, place, base)
			}
			from += next + 1
		}
		at = append(at, from)
	}
	for i, from := range at {
		to := len(base)
		if i+1 < len(at) {
			to = at[i+1] - 1
		}
		field, value, _ := strings.Cut(base[from:to], "=")
		other = append(other, wepay.Field{Name: field, Value: value})
	}
	if text(other) != base[1:] || !slices.IsSortedFunc(other, func(a, b wepay.Field) int { return strings.Compare(a.Name, b.Name) }) {
		log.Fatalf("%s: %q is no reading of %s", name, other, base)
	}
	result := "ambiguous"
	if other.Get("appid") != appID || other.Get("mch_id") != mchID {
		result = "foreign"
	}
	sign := apiv2.Sign(signed, wepay.MD5, key)
	catalogue = append(catalogue, message{Name: name, Signed: base[1:], Body: body(other, sign), Result: result})
}

const (
	victim = "mch_id=" + mchID + "&nonce_str=1&openid=o1&out_trade_no=VICTIM&result_code=SUCCESS&return_code=SUCCESS" +
		"&time_end=20200101120000&total_fee=999999&trade_type=JSAPI&transaction_id=1"
	victims = "appid, attach, bank_type, mch_id, nonce_str, openid, out_trade_no, result_code, return_code, time_end, total_fee, trade_type, transaction_id"
)

// attaches are true signatures under texts that are cut otherwise, by what an
// order's attach holds.
func attaches() {
	reread("an attach that is the payment of another order, as few fields as can be",
		payment("attach", "x&mch_id="+mchID+"&out_trade_no=VICTIM&result_code=SUCCESS&return_code=SUCCESS&total_fee=999999&transaction_id=1"),
		"appid, attach, mch_id, out_trade_no, result_code, return_code, total_fee, transaction_id")
	reread("an attach that is the payment of another order",
		payment("attach", "x&bank_type=OTHERS&"+victim), victims)
	reread("an attach that is the payment of another order, and a field of nobody's that holds the rest",
		payment("attach", "x&bank_type=OTHERS&"+victim+"&zzz="), victims+", zzz")
	reread("an attach that is the payment of another order, and a version that holds the rest",
		payment("attach", "x&bank_type=OTHERS&"+victim+"&version=1"), victims+", version")
	reread("an attach that is the payment of another order, of another merchant",
		payment("attach", "x&bank_type=OTHERS&"+strings.ReplaceAll(victim, mchID, "1900000110")), victims)
	reread("an attach that holds the fields behind it: another currency",
		payment("attach", "x", "fee_type", "HKD"),
		"appid, attach, mch_id, nonce_str, openid, out_trade_no, result_code, return_code, time_end, total_fee, trade_type, transaction_id")
	reread("an attach that holds the fields behind it: coupons",
		payment("attach", "x", "coupon_fee", "1", "coupon_count", "1", "coupon_id_0", "1", "coupon_fee_0", "1"),
		"appid, attach, fee_type, is_subscribe, mch_id, nonce_str, openid, out_trade_no, result_code, return_code, time_end, total_fee, trade_type, transaction_id")
	reread("an attach that holds the fields behind it, which stand in a device as well",
		payment("attach", "x", "device_info", "a&bank_type=OTHERS&cash_fee=9&device_info=b"),
		"appid, attach, bank_type 2, cash_fee 2, device_info 2, fee_type, is_subscribe, mch_id, nonce_str, openid, out_trade_no, result_code, return_code, time_end, total_fee, trade_type, transaction_id")
	reread("an attach that ends where another field of the order service's begins",
		payment("attach", "uid=7&b=5"),
		"appid, attach, b, bank_type, cash_fee, fee_type, is_subscribe, mch_id, nonce_str, openid, out_trade_no, result_code, return_code, time_end, total_fee, trade_type, transaction_id")
	reread("an attach with a bank of its own",
		payment("attach", "x&bank_type=OTHERS"),
		"appid, attach, bank_type, cash_fee, fee_type, is_subscribe, mch_id, nonce_str, openid, out_trade_no, result_code, return_code, time_end, total_fee, trade_type, transaction_id")
	reread("an attach and a device that make a promotion hold what is between",
		payment("attach", `x&bank_type=OTHERS&cash_fee=9&coupon_fee=9&detail={"a":"`, "device_info", `"}`),
		"appid, attach, bank_type, cash_fee, coupon_fee, detail, fee_type, is_subscribe, mch_id, nonce_str, openid, out_trade_no, result_code, return_code, time_end, total_fee, trade_type, transaction_id")
	reread("a promotion that is cut where a field begins in it",
		payment("promotion_detail", `{"promotion_detail":[{"goods_detail":[{"goods_remark":"&rate_value=1&re=x"}]}]}`),
		"appid, bank_type, cash_fee, fee_type, is_subscribe, mch_id, nonce_str, openid, out_trade_no, promotion_detail, rate_value, re, result_code, return_code, time_end, total_fee, trade_type, transaction_id")
	reread("an attach up to the middle of a promotion, which is a payment",
		payment("attach", "x", "promotion_detail", `{"promotion_detail":[{"goods_detail":[{"goods_remark":"&bank_type=A&mch_id=1900000109&out_trade_no=VICTIM&promotion_detail={}&pz="}]}]}`),
		"appid, attach, bank_type 2, mch_id 2, out_trade_no 2, promotion_detail 2, pz, result_code, return_code, time_end, total_fee, trade_type, transaction_id")
}

// readings are others, which need no attach.
func readings() {
	reread("an appid that holds the rest up to the order", payment(),
		"appid, mch_id, nonce_str, openid, out_trade_no, result_code, return_code, time_end, total_fee, trade_type, transaction_id")
	reread("a bank that holds what was paid in cash", payment(),
		"appid, bank_type, fee_type, is_subscribe, mch_id, nonce_str, openid, out_trade_no, result_code, return_code, time_end, total_fee, trade_type, transaction_id")
	reread("an amount that holds the currency", payment("cash_fee", "1"),
		"appid, bank_type, cash_fee, mch_id, nonce_str, openid, out_trade_no, result_code, return_code, time_end, total_fee, trade_type, transaction_id")
	reread("a field of tomorrow that holds a sub-merchant", payment("service_id", "1", "sub_mch_id", "1900000110"),
		"appid, bank_type, cash_fee, fee_type, is_subscribe, mch_id, nonce_str, openid, out_trade_no, result_code, return_code, service_id, time_end, total_fee, trade_type, transaction_id")
	reread("the answer to a query of what was refunded, its state in the field before it", payment("trade_new", "1", "trade_state", "REFUND"),
		"appid, bank_type, cash_fee, fee_type, is_subscribe, mch_id, nonce_str, openid, out_trade_no, result_code, return_code, time_end, total_fee, trade_new, trade_type, transaction_id")
	reread("the answer to a refund, what is of the refund in the openid", payment("out_refund_no", "R1", "refund_fee", "1", "refund_id", "5"),
		"appid, bank_type, cash_fee, fee_type, is_subscribe, mch_id, nonce_str, openid, result_code, return_code, time_end, total_fee, trade_type, transaction_id")
	reread("a payment by code, its trade_type in the amount", payment("trade_type", "MICROPAY"),
		"appid, bank_type, cash_fee, fee_type, is_subscribe, mch_id, nonce_str, openid, out_trade_no, result_code, return_code, time_end, total_fee, transaction_id")
}

// replies are what WeChat signs with the same key and is no notification.
func replies() {
	const no = "not_a_payment"
	paid := func(pairs ...string) wepay.Fields { return payment(append([]string{"return_msg", "OK"}, pairs...)...) }
	add("the answer to a payment by code", no, paid("trade_type", "MICROPAY"))
	add("the answer to a payment by face", no, paid("trade_type", "FACEPAY"))
	add("the answer to a query: paid", no, paid("trade_state", "SUCCESS", "trade_state_desc", "支付成功"))
	add("the answer to a query: paid, in as few fields as can be", no, paid("trade_state", "SUCCESS"))
	add("the answer to a query: a contract's debit", no, paid("trade_type", "PAP", "contract_id", "1", "trade_state", "SUCCESS", "trade_state_desc", "OK"))
	add("the answer to a query: a contract's debit that failed", no, reply("out_trade_no", "MINE-0001", "contract_id", "1", "trade_state", "PAY_FAIL", "trade_state_desc", "余额不足"))
	add("the answer to a query: not paid", no, reply("out_trade_no", "MINE-0001", "total_fee", "1", "trade_state", "NOTPAY", "trade_state_desc", "订单未支付"))
	add("the answer to a query: refunded", no, paid("trade_state", "REFUND", "trade_state_desc", "订单发生过退款"))
	add("the answer to a query: there is no such order", no, reply("result_code", "FAIL", "err_code", "ORDERNOTEXIST", "err_code_des", "order not exist"))
	add("the answer to a closing", no, reply("result_msg", "OK"))
	add("the answer to a closing, with the order", no, reply("out_trade_no", "MINE-0001"))
	add("the answer to a reversal", no, reply("recall", "N"))
	add("the answer to a reversal, with the order", no, reply("recall", "N", "out_trade_no", "MINE-0001", "transaction_id", "1"))
	add("the answer to an order", no, reply("prepay_id", "wx201411101639507cbf6ffd8b0779950874", "trade_type", "JSAPI"))
	add("the answer to an order that is refused", no, reply("result_code", "FAIL", "err_code", "ORDERPAID", "err_code_des", "该订单已支付", "out_trade_no", "MINE-0001"))
	refund := []string{"out_trade_no", "MINE-0001", "transaction_id", "1", "total_fee", "1", "cash_fee", "1"}
	add("the answer to a refund", no, reply(append(refund, "out_refund_no", "R1", "refund_id", "5", "refund_fee", "1")...))
	add("the answer to a query of refunds", no, reply(append(refund, "refund_count", "1", "out_refund_no_0", "R1", "refund_id_0", "5", "refund_fee_0", "1")...))
	add("the answer to a profit sharing", no, reply(append(refund, "out_order_no", "P1", "order_id", "30000", "status", "FINISHED")...))
	link := fields(map[string]string{
		"appid": appID, "mch_id": mchID, "nonce_str": "1", "time_stamp": "1415949957", "product_id": "x&result_code=SUCCESS&return_code=SUCCESS",
	})
	reread("a link to pay by, whose product is a result", link, "appid, mch_id, nonce_str, product_id, result_code, return_code, time_stamp")
	catalogue[len(catalogue)-1].Result = no
}

// changes are of what is signed, so that the signature does not hold.
func changes() {
	signed := payment()
	sign := apiv2.Sign(signed, wepay.MD5, key)
	wrong := func(name, result string, other wepay.Fields, sign string) {
		catalogue = append(catalogue, message{Name: name, Body: body(other, sign), Result: result})
	}
	wrong("another amount", "wrong_signature", payment("total_fee", "999999"), sign)
	wrong("another order", "wrong_signature", payment("out_trade_no", "VICTIM"), sign)
	wrong("a field more", "wrong_signature", payment("coupon_fee", "1"), sign)
	wrong("a field less", "wrong_signature", payment("fee_type", ""), sign)
	wrong("an amount in capitals", "wrong_signature", payment("Total_fee", "999999"), sign)
	wrong("signed with another key", "wrong_signature", signed, apiv2.Sign(signed, wepay.MD5, otherKey))
	wrong("signed without a key", "wrong_signature", signed, apiv2.Sign(signed, wepay.MD5, ""))
	wrong("signed in lower case", "wrong_signature", signed, strings.ToLower(sign))
	wrong("another algorithm's length", "wrong_signature", signed, sign+sign)
	wrong("a sign_type that was not signed", "wrong_signature", payment("sign_type", "HMAC-SHA256"), sign)
	wrong("no signature", "unsigned", signed, "")
	for name, change := range map[string][2]string{
		"a field twice":         {"</xml>", "<total_fee>999999</total_fee></xml>"},
		"fields within a field": {"<fee_type>CNY</fee_type>", "<fee_type><a>CNY</a></fee_type>"},
		"an entity":             {"<xml>", `<!DOCTYPE xml [<!ENTITY a SYSTEM "file:///etc/passwd">]><xml>`},
		"two messages":          {"</xml>", "</xml><xml></xml>"},
		"return_code FAIL":      {"<return_code>SUCCESS", "<return_code>FAIL"},
	} {
		catalogue = append(catalogue, message{Name: name, Body: strings.Replace(body(signed, sign), change[0], change[1], 1), Result: "malformed"})
	}
	slices.SortStableFunc(catalogue[len(catalogue)-5:], func(a, b message) int { return strings.Compare(a.Name, b.Name) })
}

// honest are notifications that WeChat sends.
func honest() {
	for name, of := range map[string]wepay.Fields{
		"an attach with pairs":                 payment("attach", "uid=7&total=5"),
		"an attach with pairs of one letter":   payment("attach", "a=1&b=2"),
		"an attach with an ampersand":          payment("attach", "a & b"),
		"an attach with fields of the message": payment("attach", "type=1&openid=oUpF8uMuAJO_M2pxb1Q9zNjWeS6o&out_trade_no=MINE-0001&total_fee=1"),
		"an attach with everything":            payment("attach", "x&"+victim),
		"a device with an ampersand":           payment("device_info", "收银台 #3 = R&D"),
		"a promotion":                          payment("version", "1.0", "promotion_detail", `{"promotion_detail":[{"name":"满10减1","goods_detail":[{"goods_remark":"a=1&b=2"}]}]}`),
		"fields of tomorrow":                   payment("a_field", "1", "new_field", "x & y=z"),
		"a contract's debit":                   payment("trade_type", "PAP", "trade_state", "SUCCESS", "contract_id", "1"),
		"a contract's debit that failed":       payment("trade_type", "", "trade_state", "PAY_FAIL", "contract_id", "1", "transaction_id", "", "total_fee", "", "cash_fee", "", "bank_type", ""),
	} {
		add(name, "taken", of)
	}
	slices.SortStableFunc(catalogue[len(catalogue)-10:], func(a, b message) int { return strings.Compare(a.Name, b.Name) })
	signed := payment()
	empty := strings.Replace(body(signed, apiv2.Sign(signed, wepay.MD5, key)), "<xml>", "<xml><device_info></device_info><trade_state/>", 1)
	catalogue = append(catalogue, message{Name: "elements without a value", Signed: text(signed), Body: empty, Result: "taken"})
}

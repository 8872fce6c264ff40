package apiv3

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

// changes are new members of a resource by their paths; nil takes one away.
type changes map[string]any

func (c changes) to(tb testing.TB, plain string) string {
	tb.Helper()
	content := object{}
	if err := decode([]byte(plain), &content); err != nil {
		tb.Fatal(err)
	}
	for path, value := range c {
		if path, last, nested := strings.Cut(path, "."); nested { // put replaces what it did not make
			inner, _ := content.object(path)
			inner = maps.Clone(inner)
			if inner == nil {
				inner = object{}
			}
			inner[last], value = value, inner
			content[path] = value
			continue
		}
		content[path] = value
	}
	text, err := encode(content)
	if err != nil {
		tb.Fatal(err)
	}
	return string(text)
}

// differ says how fields are other than they were: "" takes one away.
func differ(tb testing.TB, got wepay.Fields, was map[string]string, by map[string]string) {
	tb.Helper()
	want := maps.Clone(was)
	for name, value := range by {
		want[name] = value
		if value == "" {
			delete(want, name)
		}
	}
	if !slices.Equal(got, wepay.NewFields(want)) {
		tb.Errorf("got  %v\nwant %v", got, wepay.NewFields(want))
	}
}

var noCoupons = map[string]string{
	"coupon_fee": "", "coupon_count": "", "coupon_id_0": "", "coupon_fee_0": "", "coupon_type_0": "",
	"coupon_id_1": "", "coupon_fee_1": "", "coupon_type_1": "", "settlement_total_fee": "",
}

func coupons(all ...any) []any { return all }

func TestPayment(t *testing.T) {
	s := newSender(t)
	plain, was := vectorInto[notificationVector](t, "N1").Plaintext, vectorInto[map[string]string](t, "M1")
	without := func(more map[string]string) map[string]string { return plus(noCoupons, more) }
	cash := func(id string, amount any) object { return object{"coupon_id": id, "type": "CASH", "amount": amount} }
	for name, test := range map[string]struct {
		changes changes
		want    map[string]string
		omitted bool
	}{
		"as it is":               {nil, nil, false},
		"in another zone":        {changes{"success_time": "2023-11-14T22:13:18Z"}, nil, false},
		"in milliseconds":        {changes{"success_time": "2023-11-15T06:13:18.999+08:00"}, nil, false},
		"west of Greenwich":      {changes{"success_time": "2023-11-14T17:13:18-05:00"}, nil, false},
		"no attach":              {changes{"attach": ""}, map[string]string{"attach": ""}, false},
		"null":                   {changes{"attach": nil, "bank_type": nil}, map[string]string{"attach": "", "bank_type": ""}, false},
		"escapes":                {changes{"attach": "a\"\\\u2028袜<&>"}, map[string]string{"attach": "a\"\\\u2028袜<&>"}, false},
		"no payer":               {changes{"payer": object{}}, map[string]string{"openid": ""}, false},
		"a device":               {changes{"scene_info.device_id": "013467"}, map[string]string{"device_info": "013467"}, false},
		"no original_type":       {nil, nil, false},
		"without coupons":        {changes{"promotion_detail": nil, "amount.payer_total": 888}, without(map[string]string{"cash_fee": "888"}), false},
		"an empty list":          {changes{"promotion_detail": coupons(), "amount.payer_total": nil}, without(map[string]string{"cash_fee": "888"}), false},
		"coupons, no payer's":    {changes{"amount.payer_total": nil}, without(map[string]string{"cash_fee": ""}), true},
		"they do not add up":     {changes{"amount.payer_total": 789}, without(map[string]string{"cash_fee": "789"}), true},
		"one that is negative":   {changes{"promotion_detail": coupons(cash("1", 150), cash("2", -50))}, noCoupons, true},
		"one above all":          {changes{"promotion_detail": coupons(cash("1", 889))}, noCoupons, true},
		"sums that overflow":     {changes{"promotion_detail": coupons(cash("1", int64(1)<<62), cash("2", int64(1)<<62), cash("3", int64(1)<<62), cash("4", int64(1)<<62), cash("5", 100))}, noCoupons, true},
		"half a fen":             {changes{"promotion_detail": coupons(cash("1", 99.5))}, noCoupons, true},
		"one that is no coupon":  {changes{"promotion_detail": coupons(cash("1", 100), "x")}, noCoupons, true},
		"one without an amount":  {changes{"promotion_detail": coupons(cash("1", 100), object{})}, noCoupons, true},
		"paid by coupons alone":  {changes{"promotion_detail": coupons(cash("7", 888)), "amount.payer_total": 0}, without(map[string]string{"cash_fee": "0", "coupon_fee": "888", "coupon_count": "1", "coupon_id_0": "7", "coupon_fee_0": "888", "coupon_type_0": "CASH"}), false},
		"of a type not known":    {changes{"promotion_detail": coupons(object{"coupon_id": "7", "type": "GIFT", "amount": 100})}, without(map[string]string{"coupon_fee": "100", "coupon_count": "1", "coupon_id_0": "7", "coupon_fee_0": "100"}), false},
		"without an id":          {changes{"promotion_detail": coupons(object{"type": "CASH", "amount": 100})}, without(map[string]string{"coupon_fee": "100", "coupon_count": "1", "coupon_type_0": "CASH", "coupon_fee_0": "100"}), false},
		"more than ten of them":  {changes{"promotion_detail": coupons(cash("0", 9), cash("1", 9), cash("2", 9), cash("3", 9), cash("4", 9), cash("5", 9), cash("6", 9), cash("7", 9), cash("8", 9), cash("9", 9), cash("10", 10))}, elevenCoupons(), false},
		"trade_state_desc is by": {changes{"trade_state_desc": "x", "unheard_of": object{"a": 1}}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			original := "transaction"
			if name == "no original_type" {
				original = ""
			}
			o, err := s.tell("TRANSACTION.SUCCESS", original, test.changes.to(t, plain))
			if err != nil {
				t.Fatal(err)
			}
			n := o.Notification(&wepay.Merchant{}, "another")
			differ(t, n.Fields, was, test.want)
			if n.Kind != wepay.Payment || (n.Omitted != "") != test.omitted {
				t.Errorf("it is a %s, and omitted is %q", n.Kind, n.Omitted)
			}
		})
	}
}

func elevenCoupons() map[string]string {
	want := maps.Clone(noCoupons)
	maps.Copy(want, map[string]string{"coupon_fee": "100", "coupon_count": "11"})
	for _, n := range strings.Fields("0 1 2 3 4 5 6 7 8 9 10") {
		want["coupon_id_"+n], want["coupon_fee_"+n], want["coupon_type_"+n] = n, "9", "CASH"
	}
	want["coupon_fee_10"] = "10"
	return want
}

// checkOther demands that a content is told of as what it is and never as the kind
// that it is almost: byte for byte, with the reason for the log.
func checkOther(t *testing.T, s *sender, event, original, plain, misfit string) *wepay.Notification {
	t.Helper()
	o, err := s.tell(event, original, plain)
	if err != nil {
		t.Errorf("refused: %v", err)
		return nil
	}
	n := o.Notification(&wepay.Merchant{MchID: "1"}, "another")
	payload, err := n.Payload()
	if err != nil || n.Kind != wepay.OtherEvent || n.EventType != event || string(payload) != plain || n.Fields.Get("appid") == "another" {
		t.Errorf("it is a %s %s: %s, %v", n.Kind, n.EventType, payload, err)
	}
	if !strings.Contains(n.Misfit, misfit) || (n.Misfit == "") != (misfit == "") {
		t.Errorf("it is no other since %q, want %q", n.Misfit, misfit)
	}
	return n
}

// What is no order that was paid is handed over as it is, but not as a payment.
func TestNotAPayment(t *testing.T) {
	s, plain := newSender(t), vectorInto[notificationVector](t, "N1").Plaintext
	const members = "its members, or its original_type"
	for name, test := range map[string]struct {
		changes changes
		misfit  string
	}{
		"not paid":                {changes{"trade_state": "NOTPAY"}, `its trade_state is "NOTPAY"`},
		"refunded":                {changes{"trade_state": "REFUND"}, `its trade_state is "REFUND"`},
		"no state":                {changes{"trade_state": nil}, "its trade_state"},
		"a state that is true":    {changes{"trade_state": true}, "its trade_state"},
		"no transaction_id":       {changes{"transaction_id": nil}, "no transaction_id"},
		"empty transaction_id":    {changes{"transaction_id": ""}, "no transaction_id"},
		"a zero byte in it":       {changes{"transaction_id": "42\x00"}, "its transaction_id"},
		"a transaction_id long":   {changes{"transaction_id": strings.Repeat("4", 129)}, "its transaction_id is longer"},
		"no out_trade_no":         {changes{"out_trade_no": nil}, "no out_trade_no"},
		"no merchant":             {changes{"mchid": nil}, "no mch_id"},
		"two merchants":           {changes{"sp_mchid": "1900000109"}, "both mchid and sp_mchid"},
		"two apps":                {changes{"sp_appid": "wx8888888888888888"}, "both appid and sp_appid"},
		"no amount":               {changes{"amount": nil}, "its total"},
		"no total":                {changes{"amount.total": nil}, "its total"},
		"nothing paid":            {changes{"amount.total": 0}, "its total"},
		"less than nothing":       {changes{"amount.total": -1}, "amount.total"},
		"a total as text":         {changes{"amount.total": "888"}, "its total"},
		"a fraction":              {changes{"amount.total": 888.5}, "amount.total"},
		"an exponent":             {changes{"amount.total": 1e21}, "amount.total"},
		"a total too large":       {changes{"amount.total": uint64(1) << 63}, "its total"},
		"a refund within":         {changes{"refund_id": "50300907922023111512345678901"}, members},
		"a transfer within":       {changes{"transfer_bill_no": "1"}, members},
		"combined, but of none":   {changes{"combine_out_trade_no": "C1", "combine_mchid": "1900000001"}, "no sub_orders"},
		"of nothing that is told": {changes{"trade_state": nil, "out_trade_no": nil}, members},
	} {
		t.Run(name, func(t *testing.T) {
			checkOther(t, s, "TRANSACTION.SUCCESS", "transaction", test.changes.to(t, plain), test.misfit)
		})
	}
	for _, event := range []string{"TRANSACTION.FAIL", "TRANSACTION.PAY_BACK", "PARKING.ENTER"} {
		checkOther(t, s, event, "transaction", plain, "")
	}
	checkOther(t, s, "TRANSACTION.SUCCESS", "parking", plain, members)
	checkOther(t, s, "TRANSACTION.SUCCESS", "transaction", "[]", members)
	for name, plain := range map[string]string{"empty": "", "twice": `{"mchid":"1","mchid":"2"}`, "escaped": `{"mchid":"1","\u006dchid":"2"}`, "behind": plain + "x"} {
		if _, err := s.tell("TRANSACTION.SUCCESS", "transaction", plain); !errors.Is(err, wepay.ErrMalformed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func plus(all, more map[string]string) map[string]string {
	all = maps.Clone(all)
	maps.Copy(all, more)
	return all
}

// Coupons of one of several orders are numbered twice, and those that do not add
// up are left out alone.
func TestCombined(t *testing.T) {
	s := newSender(t)
	part := func(number string, promotions any) object {
		return object{
			"mchid": "1900000109", "sub_mchid": "1900000209", "out_trade_no": number, "transaction_id": "42" + number, "trade_state": "SUCCESS",
			"success_time": "2023-11-15T06:13:18+08:00", "amount": object{"total_amount": 100, "payer_amount": 60}, "promotion_detail": promotions,
		}
	}
	resource := object{
		"combine_appid": "wx1", "combine_mchid": "1900000109", "combine_out_trade_no": "C1",
		"sub_orders": []object{
			part("A", []object{{"coupon_id": "7", "type": "CASH", "amount": 30}, {"coupon_id": "8", "type": "NOCASH", "amount": 10}}),
			part("B", []object{{"coupon_id": "9", "amount": 41}}),
		},
	}
	plain := string(mustEncode(t, resource))
	o, err := s.tell("TRANSACTION.SUCCESS", "transaction", plain)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"return_code": "SUCCESS", "result_code": "SUCCESS", "appid": "wx1", "mch_id": "1900000109", "combine_out_trade_no": "C1", "sub_order_count": "2",
		"coupon_fee_0": "40", "coupon_count_0": "2", "coupon_id_0_0": "7", "coupon_fee_0_0": "30", "coupon_type_0_0": "CASH",
		"coupon_id_0_1": "8", "coupon_fee_0_1": "10", "coupon_type_0_1": "NO_CASH", "settlement_total_fee_0": "90",
	}
	for i, number := range map[string]string{"_0": "A", "_1": "B"} {
		want["mch_id"+i], want["sub_mch_id"+i], want["out_trade_no"+i], want["transaction_id"+i] = "1900000109", "1900000209", number, "42"+number
		want["total_fee"+i], want["cash_fee"+i], want["time_end"+i] = "100", "60", "20231115061318"
	}
	n := o.Notification(&wepay.Merchant{}, "")
	differ(t, n.Fields, want, nil)
	if !strings.HasPrefix(n.Omitted, "of sub_orders[1] coupon_*") || o.Recipient() != (wepay.Recipient{MchID: "1900000109", AppID: "wx1", SubMchID: "1900000209", APIv3Key: s.keys.APIv3Key}) {
		t.Errorf("omitted %q, for %+v", n.Omitted, o.Recipient())
	}
	parts := resource["sub_orders"].([]object)
	for name, spoil := range map[string]any{
		"none": []object{}, "not paid": []object{parts[0], changed(parts[1], "trade_state", "NOTPAY")}, "no number": []object{changed(parts[0], "transaction_id", nil)},
		"no total": []object{parts[0], changed(parts[1], "amount", nil)}, "no order": []any{parts[0], "x"},
	} {
		t.Run(name, func(t *testing.T) {
			checkOther(t, s, "TRANSACTION.SUCCESS", "transaction", changes{"sub_orders": spoil}.to(t, plain), "sub_orders")
		})
	}
}

func changed(o object, name string, value any) object {
	o = maps.Clone(o)
	o[name] = value
	return o
}

func mustEncode(tb testing.TB, value any) []byte {
	tb.Helper()
	text, err := encode(value)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

func TestRefund(t *testing.T) {
	s := newSender(t)
	plain, was := vectorInto[notificationVector](t, "N2").Plaintext, vectorInto[map[string]string](t, "M2")
	for name, test := range map[string]struct {
		event   string
		changes changes
		want    map[string]string
	}{
		"as it is":      {"SUCCESS", nil, nil},
		"closed":        {"CLOSED", changes{"refund_status": "CLOSED", "success_time": nil}, map[string]string{"refund_status": "REFUNDCLOSE", "success_time": ""}},
		"abnormal":      {"ABNORMAL", changes{"refund_status": "ABNORMAL", "success_time": nil}, map[string]string{"refund_status": "CHANGE", "success_time": ""}},
		"no coupons":    {"SUCCESS", changes{"amount.payer_total": 888}, map[string]string{"settlement_refund_fee": "100"}},
		"an old one":    {"SUCCESS", changes{"amount": nil}, map[string]string{"total_fee": "", "refund_fee": ""}},
		"no payer's":    {"SUCCESS", changes{"amount.payer_total": nil}, nil},
		"at a partner":  {"SUCCESS", changes{"mchid": nil, "sp_mchid": "1900000109", "sub_mchid": "1900000209"}, map[string]string{"mch_id": "1900000109", "sub_mch_id": "1900000209"}},
		"to nobody":     {"SUCCESS", changes{"user_received_account": ""}, map[string]string{"refund_recv_accout": ""}},
		"in zulu times": {"SUCCESS", changes{"success_time": "2023-11-14T22:13:19.5Z"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := s.tell("REFUND."+test.event, "refund", test.changes.to(t, plain))
			if err != nil {
				t.Fatal(err)
			}
			n := o.Notification(&wepay.Merchant{}, "wx1")
			was := maps.Clone(was)
			was["appid"] = "wx1"
			differ(t, n.Fields, was, test.want)
			if o.Recipient().AppID != "" || n.Kind != wepay.Refunded {
				t.Errorf("it is a %s for %+v", n.Kind, o.Recipient())
			}
		})
	}
	for name, test := range map[string]struct {
		event   string
		changes changes
		misfit  string
	}{
		"of another state":    {"REFUND.SUCCESS", changes{"refund_status": "CLOSED"}, "its refund_status"},
		"under way":           {"REFUND.SUCCESS", changes{"refund_status": "PROCESSING"}, "its refund_status"},
		"no state":            {"REFUND.SUCCESS", changes{"refund_status": nil}, "its refund_status"},
		"as an unknown event": {"REFUND.PROCESSING", changes{"refund_status": "PROCESSING"}, ""},
		"as a payment":        {"TRANSACTION.SUCCESS", nil, "its members"},
		"no refund_id":        {"REFUND.SUCCESS", changes{"refund_id": nil}, "no refund_id"},
		"no transaction_id":   {"REFUND.SUCCESS", changes{"transaction_id": nil}, "no transaction_id"},
		"no out_refund_no":    {"REFUND.SUCCESS", changes{"out_refund_no": ""}, "no out_refund_no"},
		"no merchant":         {"REFUND.SUCCESS", changes{"mchid": nil}, "no mch_id"},
		"a negative refund":   {"REFUND.SUCCESS", changes{"amount.refund": -100}, "amount.refund"},
		"a refund as text":    {"REFUND.SUCCESS", changes{"amount.refund": "100"}, "amount.refund"},
		"a refund as object":  {"REFUND.SUCCESS", changes{"amount.refund": object{"fen": 100}}, "amount.refund"},
	} {
		original := "refund"
		if test.event == "TRANSACTION.SUCCESS" {
			original = "transaction"
		}
		t.Run(name, func(t *testing.T) {
			checkOther(t, s, test.event, original, test.changes.to(t, plain), test.misfit)
		})
	}
}

// One event is one, by whichever API it is told.
func TestEventIDsOfBothAPIs(t *testing.T) {
	s := newSender(t)
	merchant := &wepay.Merchant{MchID: "1900000001", AppID: "wxd678efh567hg6787"}
	payment, err := s.tell("TRANSACTION.SUCCESS", "transaction", vectorInto[notificationVector](t, "N1").Plaintext)
	if err != nil {
		t.Fatal(err)
	}
	refund, err := s.tell("REFUND.SUCCESS", "refund", vectorInto[notificationVector](t, "N2").Plaintext)
	if err != nil {
		t.Fatal(err)
	}
	paid := &wepay.Notification{Kind: wepay.Payment, Merchant: merchant, Fields: wepay.NewFields(map[string]string{
		"return_code": "SUCCESS", "result_code": "SUCCESS", "appid": merchant.AppID, "mch_id": merchant.MchID, "nonce_str": "n", "sign": "s",
		"out_trade_no": "T20231115061320001", "transaction_id": "4200002001202311156789012345", "total_fee": "888", "is_subscribe": "Y",
	})}
	if got := payment.Notification(merchant, "").EventID(); got != paid.EventID() {
		t.Errorf("the payment is %s, over v2 %s", got, paid.EventID())
	}
	refunded := &wepay.Notification{Kind: wepay.Refunded, Merchant: merchant, Fields: wepay.NewFields(map[string]string{
		"return_code": "SUCCESS", "appid": merchant.AppID, "mch_id": merchant.MchID, "nonce_str": "n", "refund_status": "SUCCESS",
		"transaction_id": "4200002001202311156789012345", "refund_id": "50300907922023111512345678901", "refund_account": "REFUND_SOURCE_RECHARGE_FUNDS",
	})}
	told := refund.Notification(merchant, "wx1")
	if told.EventID() != refunded.EventID() || told.PrecedingID() != paid.EventID() {
		t.Errorf("the refund is %s behind %s, over v2 %s behind %s", told.EventID(), told.PrecedingID(), refunded.EventID(), paid.EventID())
	}
}

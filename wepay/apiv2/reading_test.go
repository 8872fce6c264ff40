package apiv2_test

import (
	"errors"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// fieldStart is where a field can begin in a text that is signed.
var fieldStart = regexp.MustCompile(`&([A-Za-z_][-.\w]*)=`)

// baseOf is the text of fields that is signed, less the key.
func baseOf(fields wepay.Fields) string {
	var pairs []string
	for _, f := range fields {
		pairs = append(pairs, f.Name+"="+f.Value)
	}
	return strings.Join(pairs, "&")
}

// placesIn are the places of a text behind the first where a field can begin.
func placesIn(base string) (places []int) {
	for from := 0; ; {
		place := fieldStart.FindStringIndex(base[from:])
		if place == nil {
			return places
		}
		from += place[0] + len("&")
		places = append(places, from)
	}
}

// cut makes fields of a text that is signed: at some of the places where one can
// begin. It is false where another text would be signed: the fields are not in
// order, or some are left out.
func cut(base string, at []int) (wepay.Fields, bool) {
	var fields wepay.Fields
	for i, from := range at {
		to := len(base)
		if i+1 < len(at) {
			to = at[i+1] - len("&")
		}
		name, value, _ := strings.Cut(base[from:to], "=")
		if len(fields) > 0 && name <= fields[len(fields)-1].Name || value == "" || name == "sign" {
			return nil, false
		}
		fields = append(fields, wepay.Field{Name: name, Value: value})
	}
	return fields, true
}

// selections tries subsets of n places: all, if there are at most 2^11, else
// those that leave out or keep a few or a run of them, and others at random.
func selections(n int, random *rand.Rand, try func(kept func(i int) bool)) {
	if n <= 11 {
		for bits := range 1 << n {
			try(func(i int) bool { return bits>>i&1 == 1 })
		}
		return
	}
	for from := range n {
		for to := from; to <= n; to++ {
			try(func(i int) bool { return i < from || i >= to })
			try(func(i int) bool { return i >= from && i < to })
			try(func(i int) bool { return i == from || i == to })
			try(func(i int) bool { return i != from && i != to })
		}
	}
	for range 200 {
		bits := random.Uint64()
		try(func(i int) bool { return bits>>(i%64)&1 == 1 })
	}
}

// otherReadings has every other way to cut what fields sign tried as a message
// of its own. None may be believed, whether the fields themselves are or not.
func otherReadings(t *testing.T, fields wepay.Fields, random *rand.Rand) (tried int) {
	t.Helper()
	shop := apiv2.NewClient(merchant(), wepay.ClientOptions{})
	base, sign := baseOf(fields), apiv2.Sign(fields, wepay.MD5, key)
	places := placesIn(base)
	selections(len(places), random, func(kept func(int) bool) {
		at := []int{0}
		for i, place := range places {
			if kept(i) {
				at = append(at, place)
			}
		}
		other, ordered := cut(base, at)
		if !ordered || slices.Equal(other, fields) {
			return
		}
		tried++
		other.Set("sign", sign)
		n, err := shop.Verify(t.Context(), apiv2.NewUnverified(other))
		switch {
		case err == nil:
			t.Fatalf("%q was signed, and is believed as\n%q", fields, n.Fields)
		case !errors.Is(err, wepay.ErrAmbiguous) && !errors.Is(err, wepay.ErrNotPayment):
			t.Fatalf("%q was signed, not %q: %v", fields, other, err)
		}
	})
	return tried
}

// The hardest cases: what an attacker would have an order's attach be.
var attaches = []string{
	"", "uid=7&total=5", "a & b", "a=1&b=2", "&", "&&", "&=", "=", "&b=", "&b=&b=", "福州路店 & 🧦=1", "]]>&x=1", "x&attach=y", "x&sign=ABC",
	"x&appid=wx00112233445566aa", "type=1&openid=oUpF8uMuAJO_M2pxb1Q9zNjWeS6o&out_trade_no=1", "a&bank_type=OTHERS", "a&bank_type=A&bank_type=B",
	"a&bank_type=A&cash_fee=1", "a&coupon_fee=1", "a&fee_type=HKD", "a&key=1", "a&sign_type=MD5", "a&trade_state=PAY_FAIL", "a&contract_id=1",
	"a&bank_type=OTHERS&mch_id=1900000109&out_trade_no=VICTIM&result_code=SUCCESS&return_code=SUCCESS&total_fee=999999&transaction_id=1",
	"a&bank_type=A&contract_id=1&device_info=", `a&bank_type=A&promotion_detail={"a":"`, "a&bank_type=A&zzz=",
	"a&bank_type=A&cash_fee=1&cash_fee_type=CNY&coupon_count=1&coupon_fee=1&coupon_id=",
}

// believable are messages of every kind that is believed, with an attach.
func believable(attach string) map[string]wepay.Fields {
	messages := make(map[string]wepay.Fields)
	for name, changes := range map[string]map[string]string{
		"a payment": {"nonce_str": "", "appid": "", "cash_fee": "", "time_end": "", "openid": ""},
		"with more": {"fee_type": "CNY", "is_subscribe": "N", "device_info": "WEB", "coupon_count": "1", "coupon_fee": "1", "coupon_id_0": "1", "coupon_type_0": "CASH"},
		"promoted":  {"version": "1.0", "promotion_detail": `{"promotion_detail":[{"goods_detail":[{"goods_remark":"` + inJSON(attach) + `"}]}]}`},
		"of a sub":  {"sub_mch_id": "1900000110", "new_field_of_2031": "x", "a_field_of_2031": "y"},
		"a debit":   {"trade_type": "PAP", "trade_state": "SUCCESS", "contract_id": "1"},
		"failed":    {"trade_type": "PAP", "trade_state": "PAY_FAIL", "contract_id": "1", "cash_fee": "", "openid": ""},
	} {
		fields := payment(changes)
		if attach != "" {
			fields.Set("attach", attach)
		}
		messages[name] = fields
	}
	return messages
}

// replies are messages that are not believed, with an attach that the caller
// chose for the order.
func replies(attach string) map[string]wepay.Fields {
	messages := make(map[string]wepay.Fields)
	for name, fields := range map[string]wepay.Fields{
		"a query's, paid":     replied(map[string]string{"trade_state": "SUCCESS", "trade_state_desc": "支付成功"}),
		"a query's, not paid": reply(map[string]string{"out_trade_no": "A1", "total_fee": "1", "trade_state": "NOTPAY", "trade_state_desc": "订单未支付"}),
		"a query's, closed":   reply(map[string]string{"out_trade_no": "A1", "trade_state": "CLOSED", "trade_state_desc": "订单已关闭"}),
		"a payment's by code": replied(map[string]string{"trade_type": "MICROPAY"}),
		"a refund's":          reply(map[string]string{"refund_id": "5", "out_refund_no": "R1", "refund_fee": "1", "total_fee": "1", "transaction_id": "1", "out_trade_no": "A1"}),
	} {
		if attach != "" {
			fields.Set("attach", attach)
		}
		messages[name] = fields
	}
	return messages
}

// inJSON writes a text into a JSON string as WeChat does, ampersands as they are.
func inJSON(text string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(text)
}

// carried says whether XML carries a text unchanged, as it does what an order's
// rules let pass.
func carried(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool {
		return r < ' ' && r != '\t' && r != '\n' || r == 0xFFFE || r == 0xFFFF
	})
}

func TestOtherReadings(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, attach := range attaches {
		for _, messages := range []map[string]wepay.Fields{believable(attach), replies(attach)} {
			for name, fields := range messages {
				t.Run(name+" "+attach, func(t *testing.T) {
					if otherReadings(t, fields, random) == 0 {
						t.Error("there was nothing to try")
					}
				})
			}
		}
	}
}

// A debit that failed need not have a bank_type, so that what WeChat adds one
// day behind attach cannot be told from a part of it. What it says stays.
func TestOtherReadingsOfAFailure(t *testing.T) {
	for attach, want := range map[string]int{
		"a&bank_type=B&cash_fee=1&mch_id=1900000110&out_trade_no=VICTIM&trade_state=SUCCESS&transaction_id=1": 0,
		"a&bank_type=B&cash_fee=1": 1,
	} {
		if n := readingsOfAFailure(t, attach); n != want {
			t.Errorf("with attach %q %d are believed, want %d", attach, n, want)
		}
	}
}

// readingsOfAFailure has every way tried to cut what says that a debit failed,
// and returns how many are believed.
func readingsOfAFailure(t *testing.T, attach string) (believed int) {
	t.Helper()
	signed := payment(map[string]string{
		"attach": attach, "contract_id": "1", "bank_type": "", "trade_state": "PAY_FAIL", "transaction_id": "",
		"total_fee": "", "cash_fee": "", "time_end": "", "trade_type": "",
	})
	shop, base, sign := apiv2.NewClient(merchant(), wepay.ClientOptions{}), baseOf(signed), apiv2.Sign(signed, wepay.MD5, key)
	places := placesIn(base)
	for bits := range 1 << len(places) {
		at := []int{0}
		for i, place := range places {
			if bits>>i&1 == 1 {
				at = append(at, place)
			}
		}
		other, ordered := cut(base, at)
		if !ordered {
			continue
		}
		other.Set("sign", sign)
		n, err := shop.Verify(t.Context(), apiv2.NewUnverified(other))
		if err != nil {
			continue
		}
		believed++
		for _, name := range []string{"appid", "mch_id", "out_trade_no", "trade_state", "result_code", "contract_id", "transaction_id"} {
			if got, want := n.Fields.Get(name), signed.Get(name); got != want {
				t.Errorf("%s is %q, was %q: %q", name, got, want, other)
			}
		}
	}
	return believed
}

// Run it for longer with
//
//	go test ./wepay/apiv2 -run '^$' -fuzz '^FuzzOtherReadings$' -fuzztime 2m
func FuzzOtherReadings(f *testing.F) {
	for i, attach := range attaches {
		f.Add(attach, uint64(i))
	}
	f.Fuzz(func(t *testing.T, attach string, seed uint64) {
		if !carried(attach) || len(attach) > 512 {
			return
		}
		messages := believable(attach)
		maps.Copy(messages, replies(attach))
		name := slices.Sorted(maps.Keys(messages))[seed%uint64(len(messages))]
		otherReadings(t, messages[name], rand.New(rand.NewPCG(seed, 0)))
	})
}

// documented are the fields of which an attach can be taken to hold one.
var documented = regexp.MustCompile(`^(appid|attach|bank_type|cash_fee|cash_fee_type|contract_id|coupon_(count|fee|id|type)|coupon_(fee|id|type)_\d+|` +
	`device_info|err_code|err_code_des|fee_type|is_subscribe|mch_id|nonce_str|openid|out_trade_no|promotion_detail|rate_value|result_code|` +
	`return_code|return_msg|settlement_total_fee|sign_type|sub_appid|sub_is_subscribe|sub_mch_id|sub_openid|time_end|total_fee|` +
	`trade_state|trade_type|transaction_id|user_repaid|version)$`)

// refusable says that an honest attach is refused all the same: it reads as the
// field behind it, or as a documented one that is missing.
func refusable(attach string, fields wepay.Fields) bool {
	for from := 0; ; {
		match := fieldStart.FindStringSubmatchIndex(attach[from:])
		if match == nil {
			return false
		}
		name := attach[from+match[2] : from+match[3]]
		if _, found := fields.Lookup(name); documented.MatchString(name) && (!found || name == "bank_type") {
			return true
		}
		from += match[0] + 1
	}
}

func honest(t *testing.T, attach string) {
	t.Helper()
	for name, fields := range believable(attach) {
		if name == "promoted" && refusableText(attach) {
			continue
		}
		n, err := read(encoded(t, fields, wepay.HMACSHA256), key)
		switch {
		case refusable(attach, fields):
			if !errors.Is(err, wepay.ErrAmbiguous) {
				t.Errorf("%s with attach %q: got %v, want ErrAmbiguous", name, attach, err)
			}
		case err != nil:
			t.Errorf("%s with attach %q: %v", name, attach, err)
		case n.Fields.Get("attach") != attach:
			t.Errorf("%s with attach %q: it came as %q", name, attach, n.Fields.Get("attach"))
		}
	}
}

// refusableText says that a promotion's text reads as a documented field.
func refusableText(text string) bool {
	return refusable(inJSON(text), wepay.Fields{})
}

// Whatever attach an order has is taken and handed on as it is, except one that
// could not be told from a forgery.
func TestHonestAttach(t *testing.T) {
	for _, attach := range attaches {
		honest(t, attach)
	}
}

// Run it for longer with
//
//	go test ./wepay/apiv2 -run '^$' -fuzz '^FuzzHonestAttach$' -fuzztime 2m
func FuzzHonestAttach(f *testing.F) {
	for _, attach := range attaches {
		f.Add(attach)
	}
	f.Fuzz(func(t *testing.T, attach string) {
		if carried(attach) {
			honest(t, attach)
		}
	})
}

// An order is refused where its notification would be, or where it could be cut
// otherwise; any other attach is taken.
func TestOrderText(t *testing.T) {
	for _, test := range []struct{ attach, device, field string }{
		{attach: "uid=7&total=5"},
		{attach: "a & b"},
		{attach: "a=1&b=2"},
		{attach: "type=1&openid=o1&out_trade_no=1&total_fee=1"},
		{device: "收银台 #3 = R&D"},
		{attach: "x&bank_type=A", field: "attach"},
		{attach: "x&coupon_fee_0=1", field: "attach"},
		{attach: "x&fee_type=HKD", field: "attach"},
		{attach: "x&sub_mch_id=1", field: "attach"},
		{attach: "&cash_fee=1", field: "attach"},
		{device: "x&fee_type=HKD", field: "device_info"},
		{device: "x&a=1", field: "device_info"},
	} {
		server := serve(t, does(wepay.PlaceOrder))
		order := anOrder.Clone()
		order.Set("attach", test.attach)
		order.Set("device_info", test.device)
		_, err := client(t, merchant(server.URL)).Do(t.Context(), wepay.PlaceOrder, order)
		field, refused := errors.AsType[*wepay.FieldError](err)
		switch {
		case test.field == "" && err != nil:
			t.Errorf("%q, %q: %v", test.attach, test.device, err)
		case test.field != "" && (!refused || field.Field != test.field || len(server.asked()) > 0):
			t.Errorf("%q, %q: got %v, want %s refused", test.attach, test.device, err, test.field)
		}
	}
}

// What WeChat writes otherwise tomorrow is passed on, where nothing depends on it and
// it has one reading.
func TestOddForms(t *testing.T) {
	for _, changes := range []map[string]string{
		{"time_end": "2020-01-01 10:00:00"},
		{"time_end": "2020-01-01T10:00:00+0800"},
		{"bank_type": "招商银行 DEBIT"},
		{"openid": "oUpF８"},
		{"is_subscribe": "?"},
		{"cash_fee": "12.00"},
		{"cash_fee": "1,00"},
		{"coupon_fee": "-1"},
		{"coupon_fee_0": "x"},
		{"coupon_count": "?"},
		{"settlement_total_fee": "1.5"},
	} {
		if n, err := read(encoded(t, payment(changes), wepay.MD5), key); err != nil || n == nil {
			t.Errorf("%v: got %v", changes, err)
		}
	}
}

// Forms that only a forger's reading has.
func TestForms(t *testing.T) {
	for name, changes := range map[string]map[string]string{
		"a field in a number":                {"out_trade_no": "A1&result_code=FAIL"},
		"an ampersand in a number":           {"out_trade_no": "A&1"},
		"an amount that is none":             {"total_fee": "1,00"},
		"an amount with a field":             {"cash_fee": "1&fee_type=HKD"},
		"an amount with an equals sign":      {"coupon_fee": "=1"},
		"a coupon's amount with a field":     {"coupon_fee_0": "1&coupon_id_0=1"},
		"a coupon's number that is none":     {"coupon_id_0": "1&coupon_type_0=CASH"},
		"an equals sign in a time":           {"time_end": "20200101=1"},
		"a field in a device":                {"device_info": "x&fee_type=HKD"},
		"a field in a message":               {"return_msg": "x&sub_mch_id=1"},
		"a field in one of 2031":             {"new_field": "x&y=1"},
		"a field in an unknown coupon field": {"coupon_batch_0": "x&y=1"},
		"a field in a coupon without number": {"coupon_fee_": "x&y=1"},
		"a promotion that is no JSON":        {"promotion_detail": `{"a":"`},
		"a field in a promotion":             {"promotion_detail": `{"a":"&result_code=FAIL"}`},
		"a field of 2031 behind attach":      {"attach": "x", "b": "1"},
		"a field with a capital in attach":   {"attach": "x&coupon_fee_12=1"},
	} {
		t.Run(name, func(t *testing.T) {
			if n, err := read(encoded(t, payment(changes), wepay.MD5), key); !errors.Is(err, wepay.ErrAmbiguous) || n != nil {
				t.Errorf("got %v, %v, want ErrAmbiguous", n, err)
			}
		})
	}
}

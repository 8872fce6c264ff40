package wepay_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

// tables are all rules of the package and, for each, the smallest request that
// they accept.
var tables = map[string]struct {
	rules wepay.Rules
	least map[string]string
}{
	"order": {wepay.OrderRules, map[string]string{
		"out_trade_no": "1", "total_fee": "1", "body": "x", "spbill_create_ip": "203.0.113.7",
	}},
	"order query": {wepay.OrderQueryRules, map[string]string{"out_trade_no": "1"}},
	"refund": {wepay.RefundRules, map[string]string{
		"out_refund_no": "1", "out_trade_no": "1", "total_fee": "1", "refund_fee": "1",
	}},
}

// with returns the fields of a map and one more.
func with(values map[string]string, name, value string) wepay.Fields {
	fields := wepay.NewFields(values)
	fields.Set(name, value)
	return fields
}

// sized returns a value of a rule that is exactly so many bytes long, or false
// where the form of the value leaves no choice of its length.
func sized(rule wepay.Rule, size int) (string, bool) {
	for _, form := range []string{
		strings.Repeat("a", size),
		`"` + strings.Repeat("a", max(size-2, 0)) + `"`,
		"https://a/" + strings.Repeat("a", max(size-10, 0)),
	} {
		if len(form) == size && (rule.Is == nil || rule.Is(form) == nil) {
			return form, true
		}
	}
	return "", false
}

func TestRulesLimits(t *testing.T) {
	for name, table := range tables {
		for _, rule := range table.rules {
			if rule.Max == 0 {
				continue
			}
			for _, size := range []int{rule.Max - 1, rule.Max, rule.Max + 1} {
				value, ok := sized(rule, size)
				if !ok {
					continue
				}
				t.Run(fmt.Sprintf("%s %s of %d bytes", name, rule.Name, size), func(t *testing.T) {
					want := ""
					if size > rule.Max {
						want = rule.Name
					}
					wantField(t, table.rules.Check(with(table.least, rule.Name, value)), want)
				})
			}
		}
	}
}

// The limits themselves, since the test above takes them from the rules.
func TestRulesAreWeChats(t *testing.T) {
	limits := map[string]map[string]int{
		"order": {
			"out_trade_no": 32, "attach": 127, "detail": 6000, "device_info": 32, "fee_type": 16, "goods_tag": 32,
			"openid": 128, "sub_openid": 128, "product_id": 32, "scene_info": 256, "spbill_create_ip": 64,
		},
		"order query": {"out_trade_no": 32, "transaction_id": 32},
		"refund": {
			"out_refund_no": 64, "out_trade_no": 32, "transaction_id": 32, "refund_desc": 80, "refund_fee_type": 8,
			"notify_url": 256, "detail": 6000, "op_user_id": 32,
		},
	}
	for name, fields := range limits {
		for field, limit := range fields {
			t.Run(name+" "+field, func(t *testing.T) {
				for _, rule := range tables[name].rules {
					if rule.Name == field {
						if rule.Max != limit {
							t.Errorf("the limit is %d, want %d", rule.Max, limit)
						}
						return
					}
				}
				t.Error("there is no such rule")
			})
		}
	}
}

// A limit in bytes counts a Chinese character as three.
func TestRulesCountBytes(t *testing.T) {
	order := tables["order"].least
	wantField(t, wepay.OrderRules.Check(with(order, "attach", strings.Repeat("福", 42))), "")
	wantField(t, wepay.OrderRules.Check(with(order, "attach", strings.Repeat("福", 43))), "attach")
}

func TestRulesRequired(t *testing.T) {
	for name, table := range tables {
		t.Run(name+" with the least", func(t *testing.T) {
			wantField(t, table.rules.Check(wepay.NewFields(table.least)), "")
		})
		for field := range table.least {
			// An empty field counts as not given, so both must be refused alike.
			for how, change := range map[string]func(*wepay.Fields){
				"without": func(f *wepay.Fields) { f.Delete(field) },
				"empty":   func(f *wepay.Fields) { f.Set(field, "") },
			} {
				t.Run(name+" "+how+" "+field, func(t *testing.T) {
					in := wepay.NewFields(table.least)
					change(&in)
					err := wantField(t, table.rules.Check(in), field)
					if !err.Missing {
						t.Error("the error does not say that the field is missing")
					}
				})
			}
		}
	}
}

func TestRulesUnless(t *testing.T) {
	query := wepay.Fields{{Name: "transaction_id", Value: "4200000000202001010000000001"}}
	wantField(t, wepay.OrderQueryRules.Check(query), "")

	err := wantField(t, wepay.OrderQueryRules.Check(nil), "out_trade_no")
	if !strings.Contains(err.Reason, "transaction_id") {
		t.Errorf("the reason %q does not name what may be given instead", err.Reason)
	}
}

func TestRulesForms(t *testing.T) {
	tests := []struct {
		table, field, value string
		ok                  bool
	}{
		{"order", "total_fee", "1", true},
		{"order", "total_fee", "9223372036854775807", true},
		{"order", "total_fee", "9223372036854775808", false},
		{"order", "total_fee", "0", false},
		{"order", "total_fee", "-1", false},
		{"order", "total_fee", "+1", false},
		{"order", "total_fee", "01", false},
		{"order", "total_fee", "1.0", false},
		{"order", "total_fee", "1e2", false},
		{"order", "total_fee", " 1", false},
		{"order", "total_fee", "1_0", false},
		{"order", "total_fee", "１", false},
		{"order", "out_trade_no", "aZ09_-*|@", true},
		{"order", "out_trade_no", "a b", false},
		{"order", "out_trade_no", "a/b", false},
		{"order", "out_trade_no", "订单1", false},
		{"order", "spbill_create_ip", "2001:db8::7", true},
		{"order", "spbill_create_ip", "::ffff:203.0.113.7", true},
		{"order", "spbill_create_ip", "203.0.113.7:80", false},
		{"order", "spbill_create_ip", "203.0.113.7, 10.0.0.1", false},
		{"order", "spbill_create_ip", "localhost", false},
		{"order", "limit_pay", "no_credit", true},
		{"order", "limit_pay", "no_debit", false},
		{"order", "profit_sharing", "Y", true},
		{"order", "profit_sharing", "y", false},
		{"order", "receipt", "N", true},
		{"order", "receipt", "1", false},
		{"order", "scene_info", `{"h5_info":{}}`, true},
		{"order", "scene_info", `{"h5_info":`, false},
		{"order", "time_start", "20200101120000", true},
		{"order", "time_expire", "20200101120000", true},
		{"order", "time_expire", "20200230120000", false},
		{"order", "time_expire", "2020-01-01 12:00:00", false},
		{"order", "attach", "a\tb\nc", true},
		{"order", "attach", "a\rb", false},
		{"order", "attach", "a\x00b", false},
		{"order", "attach", "a\x1fb", false},
		{"order", "attach", "a\uFFFEb", false},
		{"order", "attach", "a\uFFFFb", false},
		{"order", "attach", "a\xffb", false},
		{"order", "attach", "🧦 & <b>", true},
		{"order", "appid", "wx1", false},
		{"order", "sign", "x", false},
		{"order query", "nonce_str", "x", false},
		{"order query", "spbill_create_ip", "203.0.113.7", false},
		{"refund", "notify_url", "https://pay.example.cn/refund", true},
		{"refund", "notify_url", "https://pay.example.cn/refund?a=1", false},
		{"refund", "notify_url", "https://pay.example.cn/refund?", false},
		{"refund", "notify_url", "https://pay.example.cn/refund#a", false},
		{"refund", "notify_url", "https://支付.example.cn/", false},
		{"refund", "notify_url", "//pay.example.cn/refund", false},
		{"refund", "notify_url", "ftp://pay.example.cn/refund", false},
		{"refund", "notify_url", "https://:443/refund", false},
		{"refund", "notify_url", "https://pay.example.cn/a b", false},
		{"refund", "refund_account", "REFUND_SOURCE_RECHARGE_FUNDS", true},
		{"refund", "refund_account", "MINE", false},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%s %s %q", test.table, test.field, test.value), func(t *testing.T) {
			want := test.field
			err := tables[test.table].rules.Check(with(tables[test.table].least, test.field, test.value))
			if test.ok {
				want = ""
			} else if err == nil {
				t.Fatal("accepted")
			}
			wantField(t, err, want)
		})
	}
}

// A value may be a secret, and errors go to logs.
func TestFieldErrorKeepsValuesOut(t *testing.T) {
	const secret = "hunter2:hunter2"
	for _, rule := range wepay.RefundRules {
		if rule.Is == nil {
			continue
		}
		value := secret
		if rule.Name == "detail" { // which may be any text, but not JSON like this
			value = `{"hunter2":1,"hunter2":2}`
		}
		err := wepay.RefundRules.Check(with(tables["refund"].least, rule.Name, value))
		wantField(t, err, rule.Name)
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error repeats the value: %v", err)
		}
	}
	if _, err := wepay.AbsoluteURL("https://user:hunter2@%zz/"); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v, want an error without the password", err)
	}
}

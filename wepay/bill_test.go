package wepay_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// Titles as WeChat's bills have them.
const (
	allTitles = "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类," +
		"应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注"
	allSummary = "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额"
	oldTitles  = "交易时间,公众账号ID,商户号,子商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类," +
		"总金额,代金券或立减优惠金额,微信退款单号,商户退款单号,退款金额,代金券或立减优惠退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率"
	oldSummary    = "总交易单数,总交易额,总退款金额,总代金券或立减优惠退款金额,手续费总金额"
	successTitles = "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类," +
		"应结订单金额,代金券金额,商品名称,商户数据包,手续费,费率,订单金额,费率备注"
	refundTitles = "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类," +
		"应结订单金额,代金券金额,退款申请时间,退款成功时间,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注"
	flowTitles  = "记账时间,微信支付业务单号,资金流水单号,业务名称,业务类型,收支类型,收支金额(元),账户结余(元),资金变更提交申请人,备注,业务凭证号"
	flowSummary = "资金流水总笔数,收入笔数,收入金额,支出笔数,支出金额"
)

// trade begins every trade of these bills.
const trade = "`2026-01-01 05:01:46,`wx1,`1900000109,`0,`,`42,`A1,`o1,`JSAPI,"

// rowOf writes a row as WeChat does; a cell may hold a comma.
func rowOf(cells ...string) string { return trade + "`" + strings.Join(cells, ",`") }

func lines(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n" }

// The bills that WeChat's documents describe.
var bills = map[string]string{
	"ALL": "\ufeff" + lines(allTitles,
		rowOf("SUCCESS", "CMB", "CNY", "11.60", "0.40", "0", "0", "0.00", "0.00", "", "", "袜子,红,大`", "a,b", "0.07000", "0.60%", "12.00", "0.00", ""),
		rowOf("REFUND", "CMB", "CNY", "0.00", "0.00", "50", "R1", "11.00", "0.50", "ORIGINAL", "SUCCESS", "袜子", "", "-0.06600", "0.60%", "0.00", "11.00", "x"),
		allSummary, "`2,`11.6,`11.0,`0.5,`0.0,`12.0,`11.0"),
	"ALL, old": lines(oldTitles,
		rowOf("SUCCESS", "CMB", "CNY", "0.01", "0.00", "0", "0", "0", "0", "", "", "袜子", "", "0.00000", "0.60%"),
		rowOf("REFUND", "CMB", "CNY", "0.00", "0.00", "50", "R1", "0.01", "0.00", "ORIGINAL", "SUCCESS", "袜子", "", "0.00", "0.60%"),
		oldSummary, "`2,`0.01,`0.01,`0.0,`0.0"),
	"SUCCESS": lines(successTitles,
		rowOf("SUCCESS", "CMB", "CNY", "45.00", "0.00", "袜子", "", "0.27000", "0.60%", "45.00", ""),
		allSummary, "`1,`45.0,`0.0,`0.0,`0.27,`45.0,`0.0"),
	"REFUND": lines(refundTitles,
		rowOf("REFUND", "CMB", "CNY", "0.00", "0.00", "2026-01-02 01:00:00", "2026-01-02 01:00:01", "50", "R1", "0.47", "0.00", "ORIGINAL", "SUCCESS", "袜子", "", "-0.00282", "0.60%", "0.00", "0.47", ""),
		allSummary, "`1,`0.00,`0.47,`0.00,`-0.00,`0.00,`0.47"),
	"fund flow": lines(flowTitles,
		"`2026-01-01 05:01:46,`42,`43,`交易,`交易,`收入,`12.00,`112.00,`system,`缺省,`A1",
		"`2026-01-01 05:01:46,`42,`43,`扣除交易手续费,`扣除交易手续费,`支出,`0.07,`111.93,`system,`缺省,`A1",
		"`2026-01-01 06:01:46,`44,`45,`退款,`退款,`支出,`11.00,`100.93,`system,`缺省,`R1",
		flowSummary, "`3,`1,`12.00,`2,`11.07"),
	// As WeChat writes them, too: full-width brackets, whole numbers with decimals,
	// commas of the merchant's as a backslash and a space.
	"ALL, commas": lines(allTitles,
		rowOf("SUCCESS", "CMB", "CNY", "0.01", "0.00", "0", "0", "0.00", "0.00", "", "", `袜子\ 红\  大`, `{"a":1\ "b":"\\n"}`, "0.00000", "0.60%", "0.01", "0.00", ""),
		allSummary, "`1.0,`0.01,`0.0,`0.0,`0.0,`0.01,`0.0"),
	"fund flow, full-width": lines(strings.NewReplacer("(", "（", ")", "）").Replace(flowTitles),
		"`2026-01-01 05:01:46,`42,`43,`交易,`交易,`收入,`12.00,`112.00,`system,`缺省,`A1",
		"`2026-01-01 06:01:46,`44,`45,`退款,`退款,`支出,`11.00,`101.00,`system,`缺货\\ 退款,`R1",
		flowSummary, "`2.0,`1.0,`12.00,`1.00,`11.0"),
	"no trades": lines(allTitles, allSummary, "`0,`0.00,`0.00,`0.00,`0.00,`0.00,`0.00"),
}

func bill(text string) *wepay.Bill {
	return &wepay.Bill{Reader: strings.NewReader(text)}
}

// objects returns what a bill is written as, and what is wrong with it.
func objects(t *testing.T, text string) ([]map[string]any, error) {
	t.Helper()
	var out strings.Builder
	err := bill(text).WriteJSON(&out)
	if out.Len() > 0 && !strings.HasSuffix(out.String(), "\n") && err == nil {
		t.Errorf("the last line has no end: %q", out.String())
	}
	var all []map[string]any
	scanner := bufio.NewScanner(strings.NewReader(out.String()))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		object := make(map[string]any)
		if unmarshalErr := json.Unmarshal(scanner.Bytes(), &object); unmarshalErr != nil && err == nil {
			t.Errorf("%v in %s", unmarshalErr, scanner.Bytes())
		}
		all = append(all, object)
	}
	return all, err
}

func TestBillWriteJSON(t *testing.T) {
	tests := []struct {
		name string
		rows []map[string]any // some of each row's columns; the last is the summary
	}{
		{"ALL", []map[string]any{
			{
				"交易时间": "2026-01-01 05:01:46", "微信订单号": "42", "设备号": "", "商品名称": "袜子,红,大`", "商户数据包": "a,b", "应结订单金额(分)": 1160.0,
				"代金券金额(分)": 40.0, "手续费(分)": 7.0, "费率": "0.60%", "订单金额(分)": 1200.0, "退款金额(分)": 0.0, "微信退款单号": "0", "费率备注": "",
			},
			{"应结订单金额(分)": 0.0, "退款金额(分)": 1100.0, "充值券退款金额(分)": 50.0, "手续费(分)": "-6.6", "申请退款金额(分)": 1100.0, "费率备注": "x"},
			{"总交易单数": "2", "应结订单总金额(分)": 1160.0, "退款总金额(分)": 1100.0, "手续费总金额(分)": 0.0, "订单总金额(分)": 1200.0},
		}},
		{"ALL, old", []map[string]any{
			{"总金额(分)": 1.0, "代金券或立减优惠金额(分)": 0.0, "退款金额(分)": 0.0, "手续费(分)": 0.0},
			{"退款金额(分)": 1.0},
			{"总交易单数": "2", "总交易额(分)": 1.0, "总退款金额(分)": 1.0, "手续费总金额(分)": 0.0},
		}},
		{"SUCCESS", []map[string]any{{"应结订单金额(分)": 4500.0, "手续费(分)": 27.0}, {"应结订单总金额(分)": 4500.0, "退款总金额(分)": 0.0}}},
		{"REFUND", []map[string]any{{"退款申请时间": "2026-01-02 01:00:00", "退款金额(分)": 47.0, "手续费(分)": "-0.282"}, {"退款总金额(分)": 47.0}}},
		{"fund flow", []map[string]any{
			{"收支类型": "收入", "收支金额(分)": 1200.0, "账户结余(分)": 11200.0, "业务凭证号": "A1"},
			{"收支金额(分)": 7.0},
			{"收支金额(分)": 1100.0},
			{"资金流水总笔数": "3", "收入笔数": "1", "收入金额(分)": 1200.0, "支出笔数": "2", "支出金额(分)": 1107.0},
		}},
		{"ALL, commas", []map[string]any{
			{"商品名称": "袜子,红, 大", "商户数据包": `{"a":1,"b":"\\n"}`, "订单金额(分)": 1.0},
			{"总交易单数": "1", "订单总金额(分)": 1.0},
		}},
		{"fund flow, full-width", []map[string]any{
			{"收支金额(分)": 1200.0, "账户结余(分)": 11200.0},
			{"收支金额(分)": 1100.0, "备注": "缺货,退款"},
			{"资金流水总笔数": "2", "收入笔数": "1", "收入金额(分)": 1200.0, "支出笔数": "1", "支出金额(分)": 1100.0},
		}},
		{"no trades", []map[string]any{{"总交易单数": "0", "订单总金额(分)": 0.0}}},
	}
	for _, test := range tests {
		for how, text := range map[string]string{
			"CR LF":      bills[test.name],
			"LF":         strings.ReplaceAll(bills[test.name], "\r\n", "\n"),
			"BOM":        "\ufeff" + strings.TrimPrefix(bills[test.name], "\ufeff"),
			"no BOM":     strings.TrimPrefix(bills[test.name], "\ufeff"),
			"no end":     strings.TrimSuffix(bills[test.name], "\r\n"),
			"empty line": bills[test.name] + "\r\n",
		} {
			t.Run(test.name+" "+how, func(t *testing.T) {
				got, err := objects(t, text)
				if err != nil {
					t.Fatal(err)
				}
				if len(got) != len(test.rows) {
					t.Fatalf("%d lines, want %d", len(got), len(test.rows))
				}
				for i, want := range test.rows {
					row := got[i]
					if i == len(got)-1 {
						row, _ = row["summary"].(map[string]any)
					} else if titles := strings.Count(strings.SplitN(text, "\n", 2)[0], ",") + 1; len(row) != titles {
						t.Errorf("line %d has %d columns, want %d", i+1, len(row), titles)
					}
					for title := range row {
						if strings.HasSuffix(title, "额") || strings.Contains(title, "元") || strings.ContainsAny(title, "（）") {
							t.Errorf("line %d: fen are called %s, as WeChat calls yuan", i+1, title)
						}
					}
					for title, value := range want {
						if row[title] != value {
							t.Errorf("line %d: %s is %#v, want %#v", i+1, title, row[title], value)
						}
					}
				}
			})
		}
	}
}

// A bill that is not whole, or not what its summary says, is no bill. Only one
// that breaks off may be better the next time.
func TestBillRefused(t *testing.T) {
	all := bills["ALL"]
	replace := func(name, old, new string) string {
		t.Helper()
		if strings.Count(bills[name], old) == 0 {
			t.Fatalf("%s has no %s", name, old)
		}
		return strings.Replace(bills[name], old, new, 1)
	}
	for name, text := range map[string]string{
		"nothing":                   "",
		"empty lines":               "\r\n\r\n",
		"a page":                    "<html>\n<title>502</title>\n</html>\n",
		"JSON":                      `{"code":"x"}`,
		"titles alone":              lines(allTitles),
		"a row of another width":    lines("a,b", "`1,`2,`3", "c", "`1"),
		"a row with too few cells":  lines("a,b", "`1", "c", "`1"),
		"a summary of other width":  lines("a,b", "`1,`2", "c,d", "`1"),
		"a summary without values":  lines("a,b", "`1,`2", "c,d"),
		"a summary without ticks":   lines("a,b", "`1,`2", "c,d", "1,2"),
		"a row less":                replace("ALL", strings.Split(all, "\r\n")[1]+"\r\n", ""),
		"a row more":                replace("ALL", "\r\n总交易单数", "\r\n"+strings.Split(all, "\r\n")[2]+"\r\n总交易单数"),
		"a count that is wrong":     replace("ALL", "`2,`11.6", "`3,`11.6"),
		"a count that is no number": replace("ALL", "`2,`11.6", "`2a,`11.6"),
		"a count of parts":          replace("ALL", "`2,`11.6", "`2.5,`11.6"),
		"a count with an exponent":  replace("ALL", "`2,`11.6", "`2e0,`11.6"),
		"no count":                  replace("ALL", "`2,`11.6", "`,`11.6"),
		"a cell more":               replace("ALL", "袜子,红,大", "袜子,`红"),
		"another currency":          replace("ALL", "`CNY", "`JPY"),
		"no UTF-8":                  replace("ALL", "袜子,红,大", "\xcd\xe0"),
		"a title twice":             replace("ALL", "订单金额,申请退款金额", "订单金额,订单金额(元)"),
		"a title twice, in width":   strings.Replace(bills["fund flow"], "备注", "收支金额（元）", 1),
		"no settlement sum":         replace("ALL", "`2,`11.6,", "`2,`,"),
		"settlement by 1 fen":       replace("ALL", "`2,`11.6,", "`2,`11.61,"),
		"refunds by 1 fen":          replace("ALL", "`11.6,`11.0,", "`11.6,`10.99,"),
		"coupons by 1 fen":          replace("ALL", "`0.5,`0.0,`12.0", "`0.51,`0.0,`12.0"),
		"fees by 2 fen":             replace("ALL", "`0.5,`0.0,`12.0", "`0.5,`0.02,`12.0"),
		"orders by 1 fen":           replace("ALL", "`12.0,`11.0\r", "`12.01,`11.0\r"),
		"applied for by 1 fen":      replace("ALL", "`12.0,`11.0\r", "`12.0,`11.01\r"),
		"old: trades":               replace("ALL, old", "`2,`0.01,", "`2,`0.02,"),
		"old: refunds":              replace("ALL, old", "`2,`0.01,`0.01", "`2,`0.01,`0.02"),
		"old: coupons":              replace("ALL, old", "`0.01,`0.0,`0.0\r", "`0.01,`0.01,`0.0\r"),
		"old: fees":                 replace("ALL, old", "`0.01,`0.0,`0.0\r", "`0.01,`0.0,`0.01\r"),
		"flow: movements":           replace("fund flow", "`3,`1,", "`4,`1,"),
		"flow: how often in":        replace("fund flow", "`3,`1,", "`3,`2,"),
		"flow: how much in":         replace("fund flow", "`1,`12.00", "`1,`12.01"),
		"flow: how often out":       replace("fund flow", "`12.00,`2,", "`12.00,`1,"),
		"flow: how much out":        replace("fund flow", "`2,`11.07", "`2,`11.08"),
		"an amount that is none":    replace("ALL", "`11.60", "`11.6O"),
		"an amount with a sign":     replace("ALL", "`11.60", "`+11.60"),
		"two signs":                 replace("ALL", "`-0.06600", "`--0.06600"),
		"a sign alone":              replace("ALL", "`-0.06600", "`-"),
		"six decimals":              replace("ALL", "`-0.06600", "`-0.066000"),
		"no whole part":             replace("ALL", "`-0.06600", "`-.06600"),
		"two points":                replace("ALL", "`11.60", "`1.1.6"),
		"an exponent":               replace("ALL", "`11.60", "`1e1"),
		"a thousand's comma":        replace("ALL", "`11.60", "`11,60"),
		"thirteen digits":           replace("ALL", "`11.60", "`1000000000000"),
		"a sum, and no line end":    strings.TrimSuffix(replace("ALL", "`12.0,`11.0\r", "`12.0,`11.01\r"), "\r\n"),
		"an overlong line":          replace("ALL", "袜子,红", strings.Repeat("a", 64<<10)),
		"overlong titles":           strings.Repeat("a", 64<<10) + all,
	} {
		t.Run(name, func(t *testing.T) {
			got, err := objects(t, text)
			brokenOff := map[string]bool{"nothing": true, "empty lines": true, "JSON": true, "titles alone": true, "a summary without values": true}[name]
			if !errors.Is(err, wepay.ErrMalformed) || errors.Is(err, wepay.ErrBillForm) == brokenOff {
				t.Errorf("got %v, %v, want ErrMalformed, broken off %v", got, err, brokenOff)
			}
		})
	}
}

// Wherever a bill breaks off it is not taken for whole; only the last zeros of
// the last sum say nothing.
func TestBillCutOff(t *testing.T) {
	for name, text := range bills {
		whole := strings.TrimRight(text, "0.\r\n")
		for i := range whole {
			_, err := objects(t, whole[:i])
			// A sum whose end is missing looks like another sum.
			ownFault := errors.Is(err, wepay.ErrBillForm) && !strings.Contains(whole[i:], "`")
			if !errors.Is(err, wepay.ErrMalformed) || errors.Is(err, wepay.ErrBillForm) && !ownFault {
				t.Fatalf("%s cut at byte %d of %d (…%q): got %v", name, i, len(text), whole[max(i-20, 0):i], err)
			}
		}
	}
}

// A bill that ends early but has the digest that WeChat signed is as short as it
// will ever be; one that cannot be read to its end is not to blame.
func TestBillVerified(t *testing.T) {
	half := bills["ALL"][:len(bills["ALL"])/2]
	reset := errors.New("reset")
	for name, test := range map[string]struct {
		rest     io.Reader
		verified bool
		form     bool
	}{
		"breaks off":                 {strings.NewReader(""), false, false},
		"breaks off, verified":       {strings.NewReader(""), true, true},
		"no summary, verified":       {strings.NewReader("\r\n"), true, true},
		"misfit":                     {strings.NewReader("\r\n`1\r\n"), false, true},
		"misfit, and not its digest": {io.MultiReader(strings.NewReader("\r\n`1\r\n"), iotest.ErrReader(reset)), true, false},
	} {
		b := &wepay.Bill{Reader: io.MultiReader(strings.NewReader(half), test.rest), Verified: test.verified}
		err := b.WriteJSON(io.Discard)
		if !errors.Is(err, wepay.ErrMalformed) || errors.Is(err, wepay.ErrBillForm) != test.form {
			t.Errorf("%s: got %v, want ErrBillForm %v", name, err, test.form)
		}
	}
}

// No line is written in part, so that what comes behind it can be read.
func TestBillWritesWholeLines(t *testing.T) {
	for name, text := range map[string]string{
		"in a row":       strings.Replace(bills["ALL"], "`a,b", "`\xff", 1),
		"in the summary": strings.Replace(bills["ALL"], "`0.5,`0.0,`12.0", "`0.5,`0.0,`1x", 1),
	} {
		var out strings.Builder
		if err := bill(text).WriteJSON(&out); err == nil || out.Len() > 0 && !strings.HasSuffix(out.String(), "}\n") {
			t.Errorf("%s: got %v behind %q", name, err, out.String())
		}
	}
}

// Until ten the next morning, Beijing time, no bill says nothing.
func TestNoBill(t *testing.T) {
	for at, want := range map[string]wepay.Verdict{
		"2026-01-01T12:00:00+08:00": wepay.Later, "2026-01-02T09:59:59+08:00": wepay.Later,
		"2026-01-02T10:00:00+08:00": wepay.Done, "2026-01-02T02:00:00Z": wepay.Done, "2026-01-02T01:59:59Z": wepay.Later,
		"2026-03-01T00:00:00Z": wepay.Done,
	} {
		now, err := time.Parse(time.RFC3339, at)
		if got := wepay.NoBill("20260101", now); err != nil || got != want {
			t.Errorf("at %s: got %s (%v), want %s", at, got, err, want)
		}
	}
}

package e2e_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// newTraded is a shop on the day after two orders and a refund; day is that of
// the orders.
func newTraded(t *testing.T) (env *environment, shop *merchant, day string) {
	t.Helper()
	env, shop = newStall(t)
	day = env.clock.Now().In(time.FixedZone("CST", 8*60*60)).Format("20060102")
	env.paid(shop, "order-1", nil)
	env.paid(shop, "order-2", map[string]any{"fee": 1, "body": "a, `b`"})
	env.get("refund", shop.refund("order-1", "refund-1", 200))
	env.clock.Advance(48 * time.Hour)
	return env, shop, day
}

// bill downloads what has to be whole.
func (env *environment) bill(route, contentType string, request map[string]any) string {
	env.t.Helper()
	a, err := env.fetch(route, toJSON(env.t, request))
	if err != nil || a.status != http.StatusOK || a.header.Get("Content-Type") != contentType || a.header.Get("Content-Encoding") != "" {
		env.t.Fatalf("%s: HTTP %d %v (%v) %.1000s", route, a.status, a.header, err, a.body)
	}
	return a.body
}

const (
	csvType  = "text/csv; charset=utf-8"
	jsonType = "application/x-ndjson"
)

// readLines reads JSON lines: the trades, and the summary that ends them.
func readLines(t *testing.T, text string) (trades []map[string]any, summary map[string]any) {
	t.Helper()
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		var line map[string]any
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil || summary != nil {
			t.Fatalf("the line %s (%v)", lines.Text(), err)
		}
		if total, found := line["summary"]; found {
			summary = total.(map[string]any)
			continue
		}
		trades = append(trades, line)
	}
	if summary == nil {
		t.Fatalf("no summary: %.1000s", text)
	}
	return trades, summary
}

// checkLine demands members of a line: text, or numbers of fen.
func checkLine(t *testing.T, got, want map[string]any) {
	t.Helper()
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s is %#v, wants %#v, in %v", name, got[name], value, got)
		}
	}
}

func TestDownloadBill(t *testing.T) {
	env, shop, day := newTraded(t)
	request := map[string]any{"bill_date": day}
	text := env.bill("download_bill", csvType, request)
	if !strings.HasPrefix(text, "交易时间,公众账号ID,") || !strings.Contains(text, "`order-1,`") || !strings.Contains(text, "`a\\  `b`,`") {
		t.Errorf("the bill is %s", text)
	}
	request["tar_type"] = "GZIP"
	packed := env.bill("download_bill", "application/gzip", request)
	z, err := gzip.NewReader(strings.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	if unpacked, err := io.ReadAll(z); err != nil || string(unpacked) != text {
		t.Errorf("unpacked the bill is %s (%v)", unpacked, err)
	}

	trades, summary := readLines(t, env.bill("download_bill", jsonType, map[string]any{"bill_date": day, "format": "json"}))
	if len(trades) != 3 {
		t.Fatalf("the trades are %v", trades)
	}
	checkLine(t, trades[0], map[string]any{"商户订单号": "order-1", "订单金额(分)": 1200.0, "手续费(分)": "7.2", "交易状态": "SUCCESS", "商户号": shop.mchID})
	checkLine(t, trades[1], map[string]any{"商户订单号": "order-2", "订单金额(分)": 1.0, "商品名称": "a, `b`"})
	checkLine(t, trades[2], map[string]any{"商户退款单号": "refund-1", "退款金额(分)": 200.0, "交易状态": "REFUND", "订单金额(分)": 0.0})
	checkLine(t, summary, map[string]any{"总交易单数": "3", "订单总金额(分)": 1201.0, "退款总金额(分)": 200.0, "应结订单总金额(分)": 1201.0})

	trades, _ = readLines(t, env.bill("download_bill?format=json", jsonType, map[string]any{"bill_date": day, "bill_type": "REFUND"}))
	if len(trades) != 1 {
		t.Errorf("the refunds are %v", trades)
	}
	for _, sent := range env.wechat.Requests("/pay/downloadbill") {
		checkFields(t, asMap(sent.Fields), map[string]string{"bill_date": day, "format": "", "appid": shop.appID})
	}
}

func TestDownloadFundFlow(t *testing.T) {
	env, shop, day := newTraded(t)
	trades, summary := readLines(t, env.bill("download_fund_flow", jsonType, map[string]any{"bill_date": day, "account_type": "Basic", "format": "json"}))
	if len(trades) != 3 {
		t.Fatalf("the movements are %v", trades)
	}
	checkLine(t, trades[2], map[string]any{"收支类型": "支出", "收支金额(分)": 200.0, "账户结余(分)": 1001.0, "业务凭证号": "refund-1"})
	checkLine(t, summary, map[string]any{"资金流水总笔数": "3", "收入笔数": "2", "收入金额(分)": 1201.0, "支出笔数": "1", "支出金额(分)": 200.0})
	last := env.last("/pay/downloadfundflow")
	if last.Serial() != shop.credential.Serial || last.Fields.Get("sign_type") != "HMAC-SHA256" {
		t.Errorf("WeChat got %s with the certificate %q", last.Body, last.Serial())
	}
	env.declines("download_fund_flow", map[string]any{"bill_date": "20200101", "account_type": "Fees"}, "NO_BILL_EXIST", "DONE")
	// For this server, whose clock nobody turned, the day is not over.
	env.declines("download_fund_flow", map[string]any{"bill_date": day, "account_type": "Fees"}, "NO_BILL_EXIST", "LATER")
	env.refuses("download_fund_flow", map[string]any{"bill_date": day, "account_type": "basic"}, 40003, "account_type: ")
}

// No bill is an answer like others; what is wrong is said before WeChat is
// asked.
func TestNoBill(t *testing.T) {
	env, shop, day := newTraded(t)
	if a := env.declines("download_bill", map[string]any{"bill_date": "20200101"}, "20002", "DONE"); a.ErrCodeDes != "No Bill Exist" || !strings.Contains(a.XOrigMsg, "nothing was traded or moved that day") {
		t.Errorf("%s", a.body)
	}
	env.declines("download_bill", map[string]any{"bill_date": "20200101", "tar_type": "GZIP"}, "20002", "DONE")
	env.declines("download_bill", map[string]any{"bill_date": "20200101", "format": "json"}, "20002", "DONE")
	if err := env.wechat.DelayBills(shop.mchID, true); err != nil {
		t.Fatal(err)
	}
	env.declines("download_bill", map[string]any{"bill_date": day}, "20003", "LATER")
	env.refuses("download_bill", map[string]any{"bill_date": "2026-01-01"}, 40003, "bill_date: ")
	env.refuses("download_bill", map[string]any{"bill_date": day, "format": "xml"}, 40003, "format: ")
	env.refuses("download_bill", map[string]any{"bill_date": day, "format": "json", "tar_type": "GZIP"}, 40003, "tar_type: ")
	env.refuses("order_query", map[string]any{"out_trade_no": "order-1", "format": "json"}, 40003, "format: ")
}

// A bill that is longer than any buffer comes whole, and whoever hangs up in
// the middle of it disturbs nobody.
func TestLongBill(t *testing.T) {
	env, shop, day := newTraded(t)
	const filled = 20_000
	if err := env.wechat.FillBill(shop.mchID, day, filled); err != nil {
		t.Fatal(err)
	}
	request := toJSON(t, map[string]any{"bill_date": day, "format": "json"})
	resp, err := env.web.Post(env.site+"/apis/v1/wepay/download_bill", "application/json", strings.NewReader(request))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, 1000); err != nil {
		t.Error(err)
	}
	resp.Body.Close()

	trades, summary := readLines(t, env.bill("download_bill", jsonType, map[string]any{"bill_date": day, "format": "json"}))
	sum := 0.0
	for _, trade := range trades {
		sum += trade["订单金额(分)"].(float64)
	}
	if len(trades) != filled+3 {
		t.Errorf("there are %d trades", len(trades))
	}
	checkLine(t, summary, map[string]any{"总交易单数": fmt.Sprint(filled + 3), "订单总金额(分)": sum})
}

// brokenOff demands that an answer ends short of its end, and as JSON says so
// in its last line.
func (env *environment) brokenOff(request map[string]any, verdict, says string) (lines []string) {
	env.t.Helper()
	a, err := env.fetch("download_bill", toJSON(env.t, request))
	if !errors.Is(err, io.ErrUnexpectedEOF) || a.status != http.StatusOK {
		env.t.Errorf("the answer ends with %v: HTTP %d %.1000s", err, a.status, a.body)
	}
	if request["format"] != "json" {
		return nil
	}
	lines = strings.Split(strings.TrimSuffix(a.body, "\n"), "\n")
	var last full
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil ||
		last.Errcode != 40000 || last.Verdict != verdict || !strings.Contains(last.XOrigMsg, says) {
		env.t.Errorf("the last line is %s, wants %s, %q", lines[len(lines)-1], verdict, says)
	}
	return lines
}

func TestBillBreaksOff(t *testing.T) {
	env, shop, day := newTraded(t)
	if err := env.wechat.FillBill(shop.mchID, day, 1000); err != nil {
		t.Fatal(err)
	}
	// Of the first kind the connection ends, of the second the bill alone.
	for _, kind := range []wepaytest.FaultKind{wepaytest.CutOff, wepaytest.TruncatedXML} {
		env.wechat.Misbehave("/pay/downloadbill", wepaytest.Fault{Kind: kind})
		lines := env.brokenOff(map[string]any{"bill_date": day, "format": "json"}, "AGAIN", "download it again after a pause")
		if !strings.Contains(lines[0], `"商户订单号":"order-1"`) || len(lines) < 100 {
			t.Errorf("there are %d lines, the first %s", len(lines), lines[0])
		}
	}
	for _, form := range []map[string]any{{"bill_date": day}, {"bill_date": day, "tar_type": "GZIP"}} {
		env.wechat.Misbehave("/pay/downloadbill", wepaytest.Fault{Kind: wepaytest.CutOff})
		env.brokenOff(form, "", "")
	}
	readLines(t, env.bill("download_bill", jsonType, map[string]any{"bill_date": day, "format": "json"}))
}

// A bill whose rows do not add up to its summary is told to the end, and then
// cut; it will not add up the next time either.
func TestBillDoesNotAddUp(t *testing.T) {
	env, shop, day := newTraded(t)
	text := env.bill("download_bill", csvType, map[string]any{"bill_date": day})
	var says []byte
	liar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(says)
	}))
	t.Cleanup(liar.Close)
	shop.endpoint, shop.shared = liar.URL, true
	env.patience = redials
	if err := env.load(env.stalls(stall{shop, nil})); err != nil {
		t.Fatal(err)
	}
	request := map[string]any{"bill_date": day, "format": "json"}
	says = []byte(text)
	readLines(t, env.bill("download_bill", jsonType, request))
	for _, test := range []struct{ name, from, to, verdict, says string }{
		{"an amount", "`12.00,`0.00,`0,`", "`12.01,`0.00,`0,`", "NEVER", "应结订单总金额"},
		{"a trade", "\r\n`3,`", "\r\n`4,`", "NEVER", "总交易单数"},
		{"no amount", "`12.00,`0.00,`0,`", "`12,00,`0.00,`0,`", "NEVER", "应结订单金额"},
		{"a cell less", "`order-1,`", "`order-1,", "NEVER", "cells"},
		{"no summary", text[strings.LastIndex(text, "总交易单数"):], "", "AGAIN", "breaks off"},
	} {
		t.Run(test.name, func(t *testing.T) {
			env := env.in(t)
			says = bytes.Replace([]byte(text), []byte(test.from), []byte(test.to), 1)
			if string(says) == text {
				t.Fatalf("%q does not stand in %s", test.from, text)
			}
			env.brokenOff(request, test.verdict, test.says)
		})
	}
}

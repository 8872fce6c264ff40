package wepaytest_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

const (
	day      = "20260101"
	allTitle = "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注"
	sumTitle = "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额"
)

var validBill = map[string]string{"bill_date": day, "bill_type": "ALL"}

// bill is a bill read: its titles, its lines by title, its summary.
type bill struct {
	titles  []string
	lines   []map[string]string
	summary map[string]string
}

// download asks for a bill as it is sent.
func (s *shop) download(path string, in map[string]string) (body string, header http.Header) {
	s.t.Helper()
	document, err := apiv2.Encode("xml", request(path, in))
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.wechat.URL+path, bytes.NewReader(document))
	if err != nil {
		s.t.Fatal(err)
	}
	transport := wepay.NewTransport(s.merchant)
	transport.TLSClientConfig.RootCAs = s.wechat.RootCAs()
	transport.DisableCompression = true
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text), resp.Header
}

func parseBill(t *testing.T, text string) bill {
	t.Helper()
	lines := strings.Split(text, "\r\n")
	if len(lines) < 4 || lines[len(lines)-1] != "" || strings.Contains(strings.ReplaceAll(text, "\r\n", ""), "\n") {
		t.Fatalf("the bill is %q", text)
	}
	row := func(titles []string, line string) map[string]string {
		rest, found := strings.CutPrefix(line, "`")
		cells := strings.Split(rest, ",`")
		if !found || len(cells) != len(titles) {
			t.Fatalf("a line of %d cells for %d titles: %q", len(cells), len(titles), line)
		}
		values := make(map[string]string)
		for i, title := range titles {
			values[title] = cells[i]
		}
		return values
	}
	n := len(lines)
	b := bill{titles: strings.Split(lines[0], ",")}
	for _, line := range lines[1 : n-3] {
		b.lines = append(b.lines, row(b.titles, line))
	}
	b.summary = row(strings.Split(lines[n-3], ","), lines[n-2])
	return b
}

func (s *shop) bill(in map[string]string) bill {
	s.t.Helper()
	text, _ := s.download(billPath, in)
	return parseBill(s.t, text)
}

func checkRow(t *testing.T, got, want map[string]string) {
	t.Helper()
	for title, value := range want {
		if got[title] != value {
			t.Errorf("%s is %q, want %q", title, got[title], value)
		}
	}
}

// tradingDay is a day with a payment, its refund, a code payment reversed, and
// the morning after.
func tradingDay(t *testing.T, options ...wepaytest.Option) *shop {
	t.Helper()
	clock := wepaytest.NewFakeClock(start)
	s := newShopAt(t, newServer(t, append(options, wepaytest.WithClock(clock))...))
	s.clock = clock
	s.pay("ORDER-0001", 1200, wepaytest.WithCoupons(wepaytest.Coupon{Type: wepaytest.NoCash, ID: "1", Fee: 200}))
	s.do(wepay.Refund, refundOf("ORDER-0001", "R-1", 1200, 600))
	if _, err := s.wechat.FinishRefund(mchID, "R-1", wepaytest.RefundSuccess); err != nil {
		t.Fatal(err)
	}
	s.granted(micropayPath, s.charge("CODE-0001"))
	s.granted(reversePath, map[string]string{"out_trade_no": "CODE-0001"})
	s.clock.Advance(4 * time.Hour) // midnight in Beijing
	s.pay("NEXT-0001", 1)
	s.clock.Advance(9 * time.Hour)
	return s
}

func TestBill(t *testing.T) {
	s := tradingDay(t)
	text, header := s.download(billPath, validBill)
	if !strings.HasPrefix(text, allTitle+"\r\n`2026-01-01 20:00:00,`"+appID+",`"+mchID+",`0,`,`4200000000") || !strings.Contains(text, "\r\n"+sumTitle+"\r\n`4,`") {
		t.Errorf("the bill is %s", text)
	}
	if header.Get("Content-Encoding") != "" || header.Get("Digest") != "" {
		t.Errorf("the header is %v", header)
	}
	b := parseBill(t, text)
	if len(b.lines) != 4 {
		t.Fatalf("%d lines", len(b.lines))
	}
	got, _ := s.wechat.Order(mchID, "ORDER-0001")
	checkRow(t, b.lines[0], map[string]string{
		"微信订单号": got.TransactionID, "商户订单号": "ORDER-0001", "用户标识": openID, "交易类型": "JSAPI", "交易状态": "SUCCESS", "付款银行": "CMB_CREDIT", "货币种类": "CNY",
		"应结订单金额": "10.00", "代金券金额": "2.00", "微信退款单号": "0", "退款金额": "0.00", "退款状态": "", "商品名称": "福州路店 - 袜子 & 🧦", "商户数据包": "shelf <7>",
		"手续费": "0.06000", "费率": "0.60%", "订单金额": "12.00", "申请退款金额": "0.00",
	})
	checkRow(t, b.lines[1], map[string]string{
		"商户订单号": "ORDER-0001", "交易状态": "REFUND", "应结订单金额": "0.00", "代金券金额": "0.00", "商户退款单号": "R-1", "退款金额": "5.00", "充值券退款金额": "1.00",
		"退款类型": "ORIGINAL", "退款状态": "SUCCESS", "手续费": "-0.03000", "订单金额": "0.00", "申请退款金额": "6.00",
	})
	checkRow(t, b.lines[2], map[string]string{"商户订单号": "CODE-0001", "交易类型": "MICROPAY", "交易状态": "SUCCESS", "手续费": "0.00600"})
	checkRow(t, b.lines[3], map[string]string{"商户订单号": "CODE-0001", "交易状态": "REVOKED", "退款金额": "1.00", "手续费": "-0.00600"})
	checkRow(t, b.summary, map[string]string{
		"总交易单数": "4", "应结订单总金额": "11.00", "退款总金额": "6.00", "充值券退款总金额": "1.00", "手续费总金额": "0.03000", "订单总金额": "13.00", "申请退款总金额": "7.00",
	})
}

func TestBillKinds(t *testing.T) {
	s := tradingDay(t)
	all := s.bill(map[string]string{"bill_date": day}) // ALL without a word
	if len(all.lines) != 4 || len(all.titles) != 27 {
		t.Errorf("ALL has %d lines of %d columns", len(all.lines), len(all.titles))
	}
	paid := s.bill(with(validBill, "bill_type", "SUCCESS"))
	if len(paid.lines) != 2 || len(paid.titles) != 20 || slices.Contains(paid.titles, "退款金额") {
		t.Errorf("SUCCESS has %d lines of %v", len(paid.lines), paid.titles)
	}
	refunds := s.bill(with(validBill, "bill_type", "REFUND"))
	at := slices.Index(refunds.titles, "微信退款单号")
	if len(refunds.lines) != 1 || len(refunds.titles) != 29 || at < 2 || refunds.titles[at-2] != "退款申请时间" || refunds.titles[at-1] != "退款成功时间" {
		t.Errorf("REFUND has %d lines of %v", len(refunds.lines), refunds.titles)
	}
	checkRow(t, refunds.lines[0], map[string]string{"退款申请时间": "2026-01-01 20:00:00", "退款成功时间": "2026-01-01 20:00:00", "商户退款单号": "R-1"})
	checkRow(t, refunds.summary, map[string]string{"总交易单数": "1", "退款总金额": "5.00", "订单总金额": "0.00"})
}

func TestBillForms(t *testing.T) {
	s := tradingDay(t, wepaytest.WithBillMark())
	text, _ := s.download(billPath, validBill)
	if !strings.HasPrefix(text, "\uFEFF交易时间") {
		t.Errorf("the bill begins with %.20q", text)
	}
	packed, header := s.download(billPath, with(validBill, "tar_type", "GZIP"))
	z, err := gzip.NewReader(strings.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := io.ReadAll(z)
	if err != nil || string(unpacked) != text || header.Get("Content-Encoding") != "" {
		t.Errorf("error %v, unpacked %.200q", err, unpacked)
	}
	s.wechat.Misbehave(billPath, wepaytest.Fault{Kind: wepaytest.TruncatedXML})
	if half, _ := s.download(billPath, validBill); half != text[:len(text)/2] {
		t.Errorf("truncated it is %q", half)
	}
}

func TestNoBill(t *testing.T) {
	s := tradingDay(t)
	refused := func(path string, in map[string]string, want map[string]string) {
		t.Helper()
		body, _ := s.download(path, with(in, "tar_type", "GZIP"))
		check(t, decode(t, body), want)
	}
	words := func(message, code string) map[string]string {
		return map[string]string{"return_code": "FAIL", "return_msg": message, "error_code": code, "result_code": "", "err_code": "", "sign": ""}
	}
	for _, date := range []string{"20251231", "20260102", "20260103"} {
		refused(billPath, with(validBill, "bill_date", date), words("No Bill Exist", "20002"))
	}
	refused(billPath, with(validBill, "bill_type", "RECHARGE_REFUND"), words("No Bill Exist", "20002"))
	refused(billPath, with(validBill, "bill_type", "SOME"), words("invalid bill_type", "20001"))
	refused(billPath, with(validBill, "bill_date", "2026-01-01"), words("invalid bill_date", "20001"))
	refused(billPath, with(validBill, "colour", "red"), words("invalid parameter", "20001"))
	if body, _ := s.download(billPath, with(validBill, "tar_type", "ZIP")); !strings.Contains(body, "invalid tar_type, Only GZIP supported") || !strings.Contains(body, "20001") {
		t.Errorf("an unknown tar_type gives %s", body)
	}
	refused(billPath, with(validBill, "bill_date", ""), words("missing parameter", "20001"))
	s.wechat.Misbehave(billPath, wepaytest.Fault{Kind: wepaytest.Refused})
	refused(billPath, validBill, words("SYSTEMERROR", "20100"))
	forged := request(billPath, validBill)
	forged.Set("sign", strings.Repeat("0", 32))
	_, reply, _ := s.raw(billPath, forged)
	check(t, reply, words("SIGN ERROR", "20001"))

	if err := s.wechat.DelayBills(mchID, true); err != nil {
		t.Fatal(err)
	}
	refused(billPath, validBill, words("Bill Creating", "20003"))
	refused(flowPath, validFlow, map[string]string{"result_code": "FAIL", "err_code": "BILL_CREATING", "sign": ""})
	if err := s.wechat.DelayBills(mchID, false); err != nil {
		t.Fatal(err)
	}
	s.bill(validBill)
	s.clock.Advance(92 * 24 * time.Hour)
	refused(billPath, validBill, words("No Bill Exist", "20002"))
}

// The bill is there at nine the next morning.
func TestBillIsReady(t *testing.T) {
	s := newShop(t) // eight in the evening in Beijing
	s.pay("ORDER-0001", 1)
	s.clock.Advance(13*time.Hour - 1)
	body, _ := s.download(billPath, validBill)
	check(t, decode(t, body), map[string]string{"return_msg": "No Bill Exist"})
	s.clock.Advance(1)
	s.bill(validBill)
}

// A partner's bill is of all its sub-merchants, or of one.
func TestPartnersBill(t *testing.T) {
	s := newShop(t)
	err := s.wechat.AddMerchant(wepaytest.Merchant{
		MchID: mchID, AppIDs: []string{appID}, Key: key, SubMerchants: []wepaytest.SubMerchant{{MchID: "1900000110"}, {MchID: "1900000111"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"1900000110", "1900000111"} {
		s.granted(micropayPath, with(s.charge("CODE-"+sub), "sub_mch_id", sub))
	}
	s.clock.Advance(24 * time.Hour)
	if got := s.bill(validBill); len(got.lines) != 2 {
		t.Errorf("all are %v", got.lines)
	}
	got := s.bill(with(validBill, "sub_mch_id", "1900000111"))
	if len(got.lines) != 1 || got.lines[0]["特约商户号"] != "1900000111" {
		t.Errorf("one's are %v", got.lines)
	}
}

// WeChat spells bills in more ways than one; as JSON they say the same.
func TestBillSpellings(t *testing.T) {
	asJSON := func(text string) []string {
		var lines strings.Builder
		if err := (&wepay.Bill{Reader: strings.NewReader(text)}).WriteJSON(&lines); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		return strings.Split(lines.String(), "\n")
	}
	for _, test := range []struct {
		options           []wepaytest.Option
		unit, trades, ins string
	}{
		{nil, "收支金额(元),", "\r\n`4,`", "\r\n`4,`2,`"},
		{[]wepaytest.Option{wepaytest.WithWideBills()}, "收支金额（元）,", "\r\n`4.0,`", "\r\n`4.0,`2.0,`"},
	} {
		s := tradingDay(t, test.options...)
		bill, _ := s.download(billPath, validBill)
		flow, _ := s.download(flowPath, validFlow)
		if !strings.Contains(bill, test.trades) || !strings.Contains(flow, test.unit) || !strings.Contains(flow, test.ins) {
			t.Errorf("the bill is %s, the flow %s", bill, flow)
		}
		if lines := asJSON(bill); !strings.Contains(lines[4], `"总交易单数":"4","应结订单总金额(分)":1100,`) {
			t.Errorf("as JSON the bill is %s", lines)
		}
		if lines := asJSON(flow); !strings.Contains(lines[0], `"收支金额(分)":1000,"账户结余(分)":1000,`) || !strings.Contains(lines[4], `"收入笔数":"2"`) {
			t.Errorf("as JSON the flow is %s", lines)
		}
	}
	s := newShop(t)
	const body, attach = "袜子, 一双", `{"a":1,"b":"'"}`
	in := s.charge("CODE-0001")
	in["body"], in["attach"] = body, attach
	s.granted(micropayPath, in)
	s.clock.Advance(24 * time.Hour)
	text, _ := s.download(billPath, validBill)
	if !strings.Contains(text, "`袜子\\  一双,`") {
		t.Errorf("the bill is %s", text)
	}
	var row map[string]any
	if err := json.Unmarshal([]byte(asJSON(text)[0]), &row); err != nil || row["商品名称"] != body || row["商户数据包"] != attach {
		t.Errorf("as JSON the order is %v (%v)", row, err)
	}
}

func TestFilledBill(t *testing.T) {
	s := tradingDay(t)
	const lines = 5000
	if err := s.wechat.FillBill(mchID, day, lines); err != nil {
		t.Fatal(err)
	}
	b := s.bill(validBill)
	var total int64
	for i := range int64(lines) {
		total += i%10_000 + 1
	}
	if len(b.lines) != lines+4 || b.summary["总交易单数"] != fmt.Sprint(lines+4) || b.summary["订单总金额"] != fmt.Sprintf("%d.%02d", (total+1300)/100, (total+1300)%100) {
		t.Errorf("%d lines, the summary is %v", len(b.lines), b.summary)
	}
	for _, c := range []struct{ mchID, day string }{{"1", day}, {mchID, "2026-01-01"}} {
		if err := s.wechat.FillBill(c.mchID, c.day, 1); err == nil {
			t.Errorf("filling %s of %s succeeds", c.day, c.mchID)
		}
	}
	if err := s.wechat.DelayBills("1", true); !errors.Is(err, wepay.ErrNoMerchant) {
		t.Errorf("delaying nobody's bills gives %v", err)
	}
}

// A bill longer than memory begins at once, and ends when nobody reads on: the
// server could not be closed otherwise.
func TestBillIsStreamed(t *testing.T) {
	s := tradingDay(t)
	if err := s.wechat.FillBill(mchID, day, 1<<40); err != nil {
		t.Fatal(err)
	}
	document, err := apiv2.Encode("xml", request(billPath, validBill))
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(soon(t), http.MethodPost, s.wechat.URL+billPath, bytes.NewReader(document))
	if err != nil {
		t.Fatal(err)
	}
	transport := wepay.NewTransport(s.merchant)
	transport.TLSClientConfig.RootCAs = s.wechat.RootCAs()
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, len(allTitle))
	if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != allTitle {
		t.Errorf("the bill begins with %q, error %v", first, err)
	}
	_ = resp.Body.Close()
	s.wechat.Close()
}

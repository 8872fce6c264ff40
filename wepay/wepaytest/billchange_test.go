package wepaytest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// fullDay is the morning after a day with everything that a bill tells of: orders and
// refunds over both APIs, a combined order, codes; and with what it does not tell of.
func fullDay(t *testing.T) (v2 *shop, v3 *v3shop) {
	t.Helper()
	v3 = combiner(t, withV2)
	v2 = newShopAt(t, v3.wechat)
	v2.clock = v3.clock
	if err := v3.wechat.AddMerchant(wepaytest.Merchant{MchID: mchID, AppIDs: []string{appID}, Key: key, APIv3Key: apiV3Key}); err != nil {
		t.Fatal(err)
	}
	v2.pay("ORDER-V2", 1200, wepaytest.WithCoupons(wepaytest.Coupon{Type: wepaytest.NoCash, ID: "1", Fee: 200}))
	v3.pay("ORDER-V3", 3000)
	v2.do(wepay.PlaceOrder, order("NOT-PAID", 7))
	v3.granted("POST", v3Combine+"/jsapi", v3.combine("COMBINE"))
	if _, err := v3.wechat.PayCombined(mchID, "COMBINE", wepaytest.Held()); err != nil {
		t.Fatal(err)
	}
	v2.granted(micropayPath, v2.charge("CODE-0001"))
	v2.do(wepay.Refund, refundOf("ORDER-V2", "R-V2", 1200, 600))
	for i, status := range []string{wepaytest.RefundSuccess, wepaytest.RefundChanged, wepaytest.RefundClosed, ""} {
		number := fmt.Sprintf("R-V3-%d", i)
		v3.granted("POST", v3RefundPath, v3.refund("ORDER-V3", number, 3000, 100))
		if status == "" {
			continue
		}
		if _, err := v3.wechat.FinishRefund(mchID, number, status, wepaytest.Held()); err != nil {
			t.Fatal(err)
		}
	}
	v3.clock.Advance(30 * time.Hour)
	return v2, v3
}

func TestBillOfFullDay(t *testing.T) {
	v2, v3 := fullDay(t)
	text := v3.file(v3.granted("GET", tradeBill, nil), false)
	if _, _, same := v2.raw(billPath, request(billPath, validBill)); same != text {
		t.Errorf("API v2 tells %s, API v3 %s", same, text)
	}
	got := parseBill(t, text)
	code, _ := v2.wechat.Order(mchID, "CODE-0001")
	want := []map[string]string{
		{"商户订单号": "ORDER-V2", "交易状态": "SUCCESS", "订单金额": "12.00", "应结订单金额": "10.00", "代金券金额": "2.00", "手续费": "0.06000"},
		{"商户订单号": "ORDER-V3", "交易状态": "SUCCESS", "订单金额": "30.00", "应结订单金额": "30.00", "手续费": "0.18000"},
		{"商户订单号": "COMBINE-1", "交易状态": "SUCCESS", "订单金额": "1.00", "手续费": "0.00600"},
		{"商户订单号": "CODE-0001", "交易状态": "SUCCESS", "交易类型": "MICROPAY", "微信订单号": code.TransactionID},
		{"商户订单号": "ORDER-V2", "交易状态": "REFUND", "商户退款单号": "R-V2", "退款状态": "PROCESSING", "申请退款金额": "6.00", "退款金额": "5.00", "手续费": "-0.03000"},
		{"商户退款单号": "R-V3-0", "退款状态": "SUCCESS", "退款金额": "1.00", "手续费": "-0.00600"},
		{"商户退款单号": "R-V3-1", "退款状态": "CHANGE"},
		{"商户退款单号": "R-V3-2", "退款状态": "REFUNDCLOSE"},
		{"商户退款单号": "R-V3-3", "退款状态": "PROCESSING"},
	}
	if len(got.lines) != len(want) || got.summary["总交易单数"] != fmt.Sprint(len(want)) {
		t.Fatalf("the bill has %d lines: %s", len(got.lines), text)
	}
	for i, line := range got.lines {
		checkRow(t, line, want[i])
	}
}

func TestChangedBill(t *testing.T) {
	v2, v3 := fullDay(t)
	before := parseBill(t, v3.file(v3.granted("GET", tradeBill, nil), false))
	if err := v2.wechat.ChangeBill(mchID, func(l *wepaytest.BillLine) bool {
		switch {
		case l.OutRefundNo == "R-V2":
			l.Refunded, l.Status = 700, "SUCCESS"
		case l.OutTradeNo == "ORDER-V2":
			l.Total, l.Fee = l.Total+1, 0
		case l.OutTradeNo == "CODE-0001":
			l.OutTradeNo, l.TransactionID = "OTHERS", "42"
		}
		return l.OutTradeNo != "COMBINE-1"
	}); err != nil {
		t.Fatal(err)
	}
	text := v3.file(v3.granted("GET", tradeBill, nil), false)
	if _, _, same := v2.raw(billPath, request(billPath, validBill)); same != text {
		t.Errorf("API v2 tells %s, API v3 %s", same, text)
	}
	got := parseBill(t, text)
	if len(got.lines) != len(before.lines)-1 || strings.Contains(text, "COMBINE") || strings.Contains(text, "CODE-0001") {
		t.Fatalf("the bill is %s", text)
	}
	checkRow(t, got.lines[0], map[string]string{"商户订单号": "ORDER-V2", "订单金额": "12.01", "应结订单金额": "10.01", "手续费": "0.00000"})
	checkRow(t, got.lines[2], map[string]string{"商户订单号": "OTHERS", "微信订单号": "42"})
	checkRow(t, got.lines[3], map[string]string{"商户退款单号": "R-V2", "申请退款金额": "7.00", "退款金额": "6.00", "退款状态": "SUCCESS"})
	if before.summary["申请退款总金额"] != "10.00" || got.summary["申请退款总金额"] != "11.00" {
		t.Errorf("the summaries are %v and %v", before.summary, got.summary)
	}
	if err := v2.wechat.ChangeBill(mchID, nil); err != nil {
		t.Fatal(err)
	}
	if again := parseBill(t, v3.file(v3.granted("GET", tradeBill, nil), false)); len(again.lines) != len(before.lines) {
		t.Error("the bill stays changed")
	}
	if err := v2.wechat.ChangeBill("1", nil); err == nil {
		t.Error("nobody's bill was changed")
	}
}

package wepaytest_test

import (
	"crypto/sha1"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

var validFlow = map[string]string{"bill_date": day, "account_type": "Basic"}

func TestFundFlow(t *testing.T) {
	s := newShop(t)
	s.deposit(500)
	s.pay("ORDER-0001", 1200)
	s.do(wepay.Refund, refundOf("ORDER-0001", "R-1", 1200, 200))
	s.granted(transferPath, validTransfer)
	transaction := s.payShared("ORDER-0002") // which is frozen yet
	s.granted(finishPath, map[string]string{"transaction_id": transaction, "out_order_no": "S-1", "description": "done"})
	s.clock.Advance(24 * time.Hour)
	text, header := s.download(flowPath, validFlow)
	sum := sha1.Sum([]byte(text))
	if got := header.Get("Digest"); got != "SHA="+hex.EncodeToString(sum[:]) {
		t.Errorf("the digest is %q", got)
	}
	b := parseBill(t, text)
	if got := strings.Join(b.titles, ","); got != "记账时间,微信支付业务单号,资金流水单号,业务名称,业务类型,收支类型,收支金额(元),账户结余(元),资金变更提交申请人,备注,业务凭证号" {
		t.Errorf("the titles are %s", got)
	}
	var got []string
	for _, line := range b.lines {
		got = append(got, line["收支类型"]+line["收支金额(元)"]+"="+line["账户结余(元)"]+" "+line["业务凭证号"])
	}
	want := []string{"收入5.00=5.00 ", "收入12.00=17.00 ORDER-0001", "支出2.00=15.00 R-1", "支出1.00=14.00 T0000001", "收入10.00=24.00 ORDER-0002"}
	if !slices.Equal(got, want) {
		t.Errorf("the lines are %q, want %q", got, want)
	}
	checkRow(t, b.summary, map[string]string{"资金流水总笔数": "5", "收入笔数": "3", "收入金额": "27.00", "支出笔数": "2", "支出金额": "3.00"})
	s.wallet(mchID, wepaytest.Funds{Available: 2400})

	packed, header := s.download(flowPath, with(validFlow, "tar_type", "GZIP"))
	if !strings.HasPrefix(packed, "\x1f\x8b") || header.Get("Digest") != "SHA="+hex.EncodeToString(sum[:]) {
		t.Errorf("packed it is %.4q with %v", packed, header)
	}
	for _, c := range []struct{ name, value, code string }{
		{"account_type", "Operation", "NO_BILL_EXIST"},
		{"account_type", "Fees", "NO_BILL_EXIST"},
		{"account_type", "Mine", "PARAM_ERROR"},
		{"bill_date", "20251231", "NO_BILL_EXIST"},
		{"bill_date", "1", "PARAM_ERROR"},
	} {
		body, _ := s.download(flowPath, with(validFlow, c.name, c.value))
		check(t, decode(t, body), map[string]string{"return_code": "SUCCESS", "result_code": "FAIL", "err_code": c.code, "sign": ""})
	}
}

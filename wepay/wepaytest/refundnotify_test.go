package wepaytest_test

import (
	"crypto/aes"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// opened decrypts a refund's notification, by a way of its own.
func opened(t *testing.T, d *wepaytest.Delivery, key string) (outer, inner wepay.Fields, err error) {
	t.Helper()
	outer, err = apiv2.Decode("xml", d.Body())
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := base64.StdEncoding.DecodeString(outer.Get("req_info"))
	if err != nil || len(sealed) == 0 || len(sealed)%aes.BlockSize != 0 {
		t.Fatalf("req_info is %q", outer.Get("req_info"))
	}
	block, err := aes.NewCipher(fmt.Appendf(nil, "%x", md5.Sum([]byte(key))))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(sealed); i += aes.BlockSize {
		block.Decrypt(sealed[i:], sealed[i:])
	}
	padding := int(sealed[len(sealed)-1])
	if padding < 1 || padding > aes.BlockSize {
		return outer, nil, errors.New("the padding is wrong")
	}
	inner, err = apiv2.Decode("root", sealed[:len(sealed)-padding])
	return outer, inner, err
}

func TestRefundNotification(t *testing.T) {
	s := newShop(t)
	s.pay("ORDER-0001", 1200)
	in := refundOf("ORDER-0001", "R-1", 1200, 500)
	in.Set("notify_url", s.notified.URL)
	reply := s.do(wepay.Refund, in)
	before := len(s.notified.received())
	d, err := s.wechat.FinishRefund(mchID, "R-1", wepaytest.RefundSuccess, wepaytest.WithField("new_field", "x"))
	if err != nil || !d.Taken() {
		t.Fatalf("error %v, %+v", err, d)
	}
	if got := s.notified.received(); len(got) != before+1 || string(got[before]) != string(d.Body()) {
		t.Errorf("received %q", got)
	}
	outer, inner, err := opened(t, d, key)
	if err != nil {
		t.Fatal(err)
	}
	check(t, outer, map[string]string{"return_code": "SUCCESS", "appid": appID, "mch_id": mchID, "sign": "", "result_code": "", "sub_mch_id": ""})
	check(t, inner, map[string]string{
		"transaction_id": reply.Get("transaction_id"), "out_trade_no": "ORDER-0001", "refund_id": reply.Get("refund_id"), "out_refund_no": "R-1",
		"total_fee": "1200", "settlement_total_fee": "1200", "refund_fee": "500", "settlement_refund_fee": "500",
		"refund_status": "SUCCESS", "success_time": "2026-01-01 20:00:00", "refund_recv_accout": "招商银行信用卡0403",
		"refund_account": "REFUND_SOURCE_UNSETTLED_FUNDS", "refund_request_source": "API", "new_field": "x",
	})
}

// What is told of a refund the server says again when it is asked, whatever state
// it ended in, with coupons or without, and for a sub-merchant; what it does not
// have booked it does not confirm.
func TestRefundNotificationIsConfirmed(t *testing.T) {
	confirmed := func(s *shop, d *wepaytest.Delivery) {
		s.t.Helper()
		unverified, err := apiv2.ReadNotification(d.Body())
		if err != nil {
			s.t.Fatal(err)
		}
		_, told, err := opened(s.t, d, key)
		if err != nil {
			s.t.Fatal(err)
		}
		n, err := s.client.Verify(s.t.Context(), unverified)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, field := range told {
			if got := n.Fields.Get(field.Name); got != field.Value && field.Name != "refund_request_source" {
				s.t.Errorf("%s is %q, was told as %q", field.Name, got, field.Value)
			}
		}
		check(s.t, n.Fields, map[string]string{"return_code": "SUCCESS", "appid": appID, "mch_id": mchID, "sub_mch_id": s.merchant.SubMchID})
	}
	for _, coupons := range [][]wepaytest.Coupon{nil, {{Type: wepaytest.Cash, ID: "1", Fee: 300}, {Type: wepaytest.NoCash, ID: "2", Fee: 100}}} {
		s := newShop(t)
		s.pay("ORDER-0001", 1200, wepaytest.WithCoupons(coupons...))
		for number, states := range map[string][]string{
			"R-1": {wepaytest.RefundSuccess}, "R-2": {wepaytest.RefundClosed},
			"R-3": {wepaytest.RefundChanged, wepaytest.RefundClosed}, "R-4": {wepaytest.RefundChanged, wepaytest.RefundSuccess},
		} {
			in := refundOf("ORDER-0001", number, 1200, 100)
			in.Set("notify_url", s.notified.URL)
			s.do(wepay.Refund, in)
			for _, state := range states {
				d, err := s.wechat.FinishRefund(mchID, number, state)
				if err != nil {
					t.Fatal(err)
				}
				confirmed(s, d)
			}
		}
		in := refundOf("ORDER-0001", "R-5", 1200, 100)
		in.Set("notify_url", s.notified.URL)
		s.do(wepay.Refund, in)
		d, err := s.wechat.FinishRefund(mchID, "R-5", wepaytest.RefundSuccess, wepaytest.WithField("refund_id", "50000000000"))
		if err != nil {
			t.Fatal(err)
		}
		unverified, err := apiv2.ReadNotification(d.Body())
		if err != nil {
			t.Fatal(err)
		}
		if n, err := s.client.Verify(t.Context(), unverified); !errors.Is(err, wepay.ErrUnconfirmed) || n != nil {
			t.Errorf("of no refund: got %v, %v, want ErrUnconfirmed", n, err)
		}
	}
}

// Nobody is told unless a URL is there: the refund's, or else the account's.
func TestRefundNotifyURL(t *testing.T) {
	s := newShop(t)
	s.pay("ORDER-0001", 100)
	finish := func(number string, options ...wepaytest.PayOption) *wepaytest.Delivery {
		t.Helper()
		s.do(wepay.Refund, refundOf("ORDER-0001", number, 100, 10))
		d, err := s.wechat.FinishRefund(mchID, number, wepaytest.RefundClosed, options...)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if d := finish("R-1"); d != nil {
		t.Errorf("the merchant is notified: %s", d.Body())
	}
	account := wepaytest.Merchant{MchID: mchID, AppIDs: []string{appID}, Key: key, RefundNotifyURL: s.notified.URL}
	if err := s.wechat.AddMerchant(account); err != nil {
		t.Fatal(err)
	}
	d := finish("R-2")
	_, inner, err := opened(t, d, key)
	if err != nil || !d.Taken() {
		t.Fatalf("error %v, attempts %+v", err, d.Attempts())
	}
	if value, found := inner.Lookup("success_time"); !found || value != "" || inner.Get("refund_status") != "REFUNDCLOSE" {
		t.Errorf("told is %v", inner)
	}
	if _, _, err := opened(t, finish("R-3", wepaytest.WithWrongSignature()), key); err == nil {
		t.Error("what is encrypted with a foreign key can be read")
	}
	held := finish("R-4", wepaytest.Held())
	s.notified.reply("")
	if err := held.Release(); err != nil || len(held.Attempts()) != 1 {
		t.Errorf("Release gives %v and %+v", err, held.Attempts())
	}
	s.clock.Advance(48 * time.Hour)
	if got := len(held.Attempts()); got != 16 {
		t.Errorf("not taken it was sent %d times", got)
	}
}

func TestFinishRefundRefuses(t *testing.T) {
	s := newShop(t)
	s.pay("ORDER-0001", 100)
	s.do(wepay.Refund, refundOf("ORDER-0001", "R-1", 100, 10))
	for _, c := range []struct {
		mchID, number, status string
		want                  error
	}{
		{"1", "R-1", wepaytest.RefundSuccess, wepay.ErrNoMerchant},
		{mchID, "R-2", wepaytest.RefundSuccess, wepaytest.ErrNoRefund},
		{mchID, "R-1", wepaytest.RefundProcessing, wepaytest.ErrStatus},
		{mchID, "R-1", wepaytest.RefundChanged, nil}, // which is not the end
		{mchID, "R-1", wepaytest.RefundClosed, nil},
		{mchID, "R-1", wepaytest.RefundSuccess, wepaytest.ErrFinished},
		{mchID, "R-1", wepaytest.RefundClosed, wepaytest.ErrFinished},
	} {
		if _, err := s.wechat.FinishRefund(c.mchID, c.number, c.status); !errors.Is(err, c.want) {
			t.Errorf("%s of %s as %s gives %v, want %v", c.number, c.mchID, c.status, err, c.want)
		}
	}
	s.wallet(mchID, wepaytest.Funds{Available: 100})
}

// However often it is closed at once, the money comes back once.
func TestRefundIsClosedOnce(t *testing.T) {
	s := newShop(t)
	s.pay("ORDER-0001", 100)
	s.do(wepay.Refund, refundOf("ORDER-0001", "R-1", 100, 40))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { _, _ = s.wechat.FinishRefund(mchID, "R-1", wepaytest.RefundClosed) })
	}
	all.Wait()
	s.wallet(mchID, wepaytest.Funds{Available: 100})
}

func TestRefundWithoutMoney(t *testing.T) {
	s := newShop(t)
	s.pay("ORDER-0001", 100)
	s.granted(transferPath, with(validTransfer, "amount", "60"))
	if got := s.refused(wepay.Refund, refundOf("ORDER-0001", "R-1", 100, 41)); got.Code != "NOTENOUGH" {
		t.Errorf("got %v", got)
	}
	if got, _ := s.wechat.Order(mchID, "ORDER-0001"); got.Refunds != 0 || got.TradeState != "SUCCESS" {
		t.Errorf("the books have %+v", got)
	}
	s.deposit(1)
	s.do(wepay.Refund, refundOf("ORDER-0001", "R-1", 100, 41)) // the same number serves
	s.wallet(mchID, wepaytest.Funds{})
}

func hexMD5(value string) string {
	digest := md5.Sum([]byte(value))
	return hex.EncodeToString(digest[:])
}

package wepaytest_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// From order to refund, with each algorithm and each kind of merchant.
func TestLifeOfAnOrder(t *testing.T) {
	for name, change := range map[string]func(*wepay.Merchant){
		"MD5":         func(*wepay.Merchant) {},
		"HMAC-SHA256": func(m *wepay.Merchant) { m.SignType = wepay.HMACSHA256 },
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, change)
			number := "ORDER-0001"
			prepaid := s.do(wepay.PlaceOrder, order(number, 1200))
			check(t, s.do(wepay.QueryOrder, query(number)), map[string]string{
				"trade_state": "NOTPAY", "out_trade_no": number, "attach": "shelf <7>", "transaction_id": "",
			})
			if again := s.do(wepay.PlaceOrder, order(number, 1200)); again.Get("package") != prepaid.Get("package") {
				t.Errorf("placed again the order has another prepay_id: %s, then %s", prepaid.Get("package"), again.Get("package"))
			}
			d, err := s.wechat.Pay(mchID, number)
			if err != nil {
				t.Fatal(err)
			}
			if !d.Taken() {
				t.Fatalf("the notification was not taken: %+v", d.Attempts())
			}
			if code := s.refused(wepay.PlaceOrder, order(number, 1200)).Code; code != "ORDERPAID" {
				t.Errorf("placing a paid order gives %q", code)
			}
			state := s.do(wepay.QueryOrder, query(number))
			check(t, state, map[string]string{
				"trade_state": "SUCCESS", "total_fee": "1200", "cash_fee": "1200", "fee_type": "CNY",
				"openid": openID, "is_subscribe": "N", "trade_type": "JSAPI", "time_end": "20260101200000",
			})
			transaction := state.Get("transaction_id")
			if len(transaction) != 28 {
				t.Errorf("transaction_id %q is not of 28 digits", transaction)
			}
			s.refundTwice(number, transaction)
		})
	}
}

// refundTwice gives back an order of 1200 fen in two parts, each asked for
// twice.
func (s *shop) refundTwice(number, transaction string) {
	s.t.Helper()
	first := s.do(wepay.Refund, refundOf(number, "R-1", 1200, 500))
	check(s.t, first, map[string]string{
		"transaction_id": transaction, "out_trade_no": number, "out_refund_no": "R-1",
		"refund_fee": "500", "total_fee": "1200", "cash_refund_fee": "500", "coupon_refund_fee": "0",
	})
	if again := s.do(wepay.Refund, refundOf(number, "R-1", 1200, 500)); again.Get("refund_id") != first.Get("refund_id") {
		s.t.Error("the same out_refund_no is two refunds")
	}
	byTransaction := refundOf("", "R-2", 1200, 700)
	byTransaction.Set("transaction_id", transaction)
	second := s.do(wepay.Refund, byTransaction)
	if second.Get("refund_id") == first.Get("refund_id") || second.Get("out_trade_no") != number {
		s.t.Errorf("the second refund is %v", second)
	}
	check(s.t, s.do(wepay.QueryOrder, query(number)), map[string]string{"trade_state": "REFUND", "total_fee": "1200"})
	_, reply, _ := s.raw(queryPath, sealed(map[string]string{"transaction_id": transaction, "out_trade_no": "OTHER-0001"}, wepay.MD5))
	check(s.t, reply, map[string]string{"trade_state": "REFUND", "out_trade_no": number}) // transaction_id wins
	want := wepaytest.Order{TradeState: "REFUND", TransactionID: transaction, Total: 1200, Refunded: 1200, Refunds: 2}
	if got, _ := s.wechat.Order(mchID, number); got != want {
		s.t.Errorf("the books have %+v, want %+v", got, want)
	}
}

func TestTradeTypes(t *testing.T) {
	for env, link := range map[wepay.Env]string{wepay.NATIVE: "code_url", wepay.MWEB: "mweb_url", wepay.APP: "prepayid"} {
		t.Run(string(env), func(t *testing.T) {
			s := newShop(t, func(m *wepay.Merchant) { m.Env = env })
			in := order("ORDER-0001", 100)
			in.Delete("openid")
			if out := s.do(wepay.PlaceOrder, in); out.Get(link) == "" {
				t.Errorf("no %s in %v", link, out)
			}
			if _, err := s.wechat.Pay(mchID, "ORDER-0001"); err != nil {
				t.Fatal(err)
			}
			if got := s.do(wepay.QueryOrder, query("ORDER-0001")); got.Get("trade_type") != env.TradeType() || got.Get("openid") == "" {
				t.Errorf("the paid order is %v", got)
			}
		})
	}
}

func TestPartner(t *testing.T) {
	const subMchID, subAppID = "1900000110", "wx00112233445566bb"
	s := newShop(t, func(m *wepay.Merchant) {
		m.Type, m.SubMchID, m.SubAppID = wepay.Partner, subMchID, subAppID
	})
	if got := s.refused(wepay.PlaceOrder, order("ORDER-0001", 100)); got.Code != "NOAUTH" {
		t.Errorf("a direct merchant acts for a sub-merchant: %v", got)
	}
	err := s.wechat.AddMerchant(wepaytest.Merchant{
		MchID: mchID, AppIDs: []string{appID}, Key: key,
		SubMerchants: []wepaytest.SubMerchant{{MchID: subMchID, AppIDs: []string{subAppID}}, {MchID: "1900000111"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	d := s.pay("ORDER-0001", 100)
	if !d.Taken() {
		t.Fatalf("the notification was not taken: %+v", d.Attempts())
	}
	check(t, s.verified(d), map[string]string{
		"sub_mch_id": subMchID, "sub_appid": subAppID, "sub_openid": openID, "sub_is_subscribe": "N",
	})
	refund := refundOf("ORDER-0001", "R-1", 100, 100)
	refund.Set("notify_url", s.notified.URL)
	s.do(wepay.Refund, refund)
	if d, err = s.wechat.FinishRefund(mchID, "R-1", wepaytest.RefundSuccess); err != nil {
		t.Fatal(err)
	}
	check(t, s.verified(d), map[string]string{"sub_mch_id": subMchID, "sub_appid": subAppID, "out_refund_no": "R-1"})

	_, reply, _ := s.raw("/pay/orderquery", sealed(map[string]string{"out_trade_no": "ORDER-0001", "sub_mch_id": "1900000111"}, wepay.MD5))
	if reply.Get("err_code") != "ORDERNOTEXIST" {
		t.Errorf("another sub-merchant sees the order: %v", reply)
	}
	_, reply, _ = s.raw("/pay/orderquery", sealed(map[string]string{"out_trade_no": "ORDER-0001"}, wepay.MD5))
	if reply.Get("err_code") != "LACK_PARAMS" {
		t.Errorf("a partner names no sub-merchant and gets %v", reply)
	}
	_, reply, _ = s.raw("/pay/orderquery", sealed(map[string]string{
		"out_trade_no": "ORDER-0001", "sub_mch_id": "1900000111", "sub_appid": subAppID,
	}, wepay.MD5))
	if reply.Get("err_code") != "APPID_MCHID_NOT_MATCH" {
		t.Errorf("a sub_appid of another gets %v", reply)
	}
}

func TestPrepayIDIsRenewed(t *testing.T) {
	s := newShop(t)
	first := s.do(wepay.PlaceOrder, order("ORDER-0001", 100)).Get("package")
	s.clock.Advance(2*time.Hour - time.Second)
	if got := s.do(wepay.PlaceOrder, order("ORDER-0001", 100)).Get("package"); got != first {
		t.Error("a prepay_id changed while it could be paid with")
	}
	s.clock.Advance(time.Second)
	if got := s.do(wepay.PlaceOrder, order("ORDER-0001", 100)).Get("package"); got == first {
		t.Error("a prepay_id outlived two hours")
	}
}

func TestOrderExpires(t *testing.T) {
	s := newShop(t)
	// The client's clock stands still: it would refuse itself what has expired.
	s.client = apiv2.NewClient(s.merchant, wepay.ClientOptions{Transport: trusting(t, s.wechat, s.merchant), Now: func() time.Time { return start }})
	in := order("ORDER-0001", 100)
	in.Set("time_expire", "20260101201000") // Beijing: ten minutes on
	s.do(wepay.PlaceOrder, in)
	s.clock.Advance(10 * time.Minute)
	check(t, s.do(wepay.QueryOrder, query("ORDER-0001")), map[string]string{"trade_state": "CLOSED"})
	if got := s.refused(wepay.PlaceOrder, in); got.Code != "ORDERCLOSED" {
		t.Errorf("placing it again gives %v", got)
	}
	if _, err := s.wechat.Pay(mchID, "ORDER-0001"); !errors.Is(err, wepaytest.ErrNotPayable) {
		t.Errorf("paying it gives %v", err)
	}
	in.Set("out_trade_no", "ORDER-0002")
	if got := s.refused(wepay.PlaceOrder, in); got.Code != "PARAM_ERROR" {
		t.Errorf("placing an order that has expired gives %v", got)
	}
}

// A changed key holds at once, and the orders stay.
func TestKeyIsChanged(t *testing.T) {
	s := newShop(t)
	s.pay("ORDER-0001", 100)
	const newKey = "00000000000000000000000000000000"
	if err := s.wechat.AddMerchant(wepaytest.Merchant{MchID: mchID, AppIDs: []string{appID}, Key: newKey}); err != nil {
		t.Fatal(err)
	}
	if got := s.refused(wepay.QueryOrder, query("ORDER-0001")); got.Message != "签名错误" {
		t.Errorf("the old key gives %v", got)
	}
	s.merchant.PartnerKey = newKey
	check(t, s.do(wepay.QueryOrder, query("ORDER-0001")), map[string]string{"trade_state": "SUCCESS"})
}

func TestAddMerchantRefuses(t *testing.T) {
	wechat := newServer(t)
	for name, m := range map[string]wepaytest.Merchant{
		"no mch_id":   {Key: key},
		"a short key": {MchID: mchID, Key: key[1:]},
	} {
		var field *wepay.FieldError
		if err := wechat.AddMerchant(m); !errors.As(err, &field) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAddress(t *testing.T) {
	wechat := newServer(t, wepaytest.WithAddress(":0"))
	if !strings.HasPrefix(wechat.URL, "https://127.0.0.1:") {
		t.Errorf("the URL is %s", wechat.URL)
	}
	if _, err := wepaytest.NewServer(wepaytest.WithAddress(strings.TrimPrefix(wechat.URL, "https://"))); err == nil {
		t.Error("two servers listen on one address")
	}
	// It can be dialled under WeChat's own name, by who trusts its authority.
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(wechat.CACertPEM()) {
		t.Fatal("CACertPEM is no certificate")
	}
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: "api.mch.weixin.qq.com"}}
	conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(wechat.URL, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

// Close ends idle connections and those on which nothing was said, is done
// when it returns, and may be called again.
func TestClose(t *testing.T) {
	s := newShop(t)
	s.do(wepay.PlaceOrder, order("ORDER-0001", 100))
	mute, err := net.Dial("tcp", strings.TrimPrefix(s.wechat.URL, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	s.notified.reply("")
	s.pay("ORDER-0002", 100) // leaves a timer
	held := s.pay("ORDER-0003", 100, wepaytest.Held())
	s.wechat.Close()
	s.wechat.Close()
	if _, err := mute.Read(make([]byte, 1)); err == nil {
		t.Error("a connection is left")
	}
	if err := held.Release(); !errors.Is(err, wepaytest.ErrClosed) {
		t.Errorf("Release gives %v", err)
	}
	if err := held.Repeat(); !errors.Is(err, wepaytest.ErrClosed) {
		t.Errorf("Repeat gives %v", err)
	}
	if _, err := s.wechat.Pay(mchID, "ORDER-0001"); !errors.Is(err, wepaytest.ErrClosed) {
		t.Errorf("Pay gives %v", err)
	}
	before := len(s.notified.received())
	s.clock.Advance(48 * time.Hour)
	if got := len(s.notified.received()); got != before {
		t.Error("a closed server notifies")
	}
}

func TestRequestsAreRecorded(t *testing.T) {
	s := newShop(t)
	s.pay("ORDER-0001", 100)
	s.do(wepay.Refund, refundOf("ORDER-0001", "R-1", 100, 100))
	if got := len(s.wechat.Requests("")); got != 2 {
		t.Errorf("%d requests are recorded, want 2", got)
	}
	got := s.wechat.Requests("/secapi/pay/refund")
	if len(got) != 1 {
		t.Fatalf("%d refunds are recorded, want 1", len(got))
	}
	r := got[0]
	check(t, r.Fields, map[string]string{"out_refund_no": "R-1", "mch_id": mchID})
	if r.CommonName() != mchID || r.Serial() != wepay.CertificateSerial(s.merchant.Certificate.Leaf) {
		t.Errorf("the certificate seen is %s of %s", r.Serial(), r.CommonName())
	}
	if r.Method != http.MethodPost || !r.At.Equal(start) || r.Header.Get("User-Agent") == "" || len(r.Body) == 0 {
		t.Errorf("recorded is %+v", r)
	}
}

// However many ask at once, one out_refund_no is one refund.
func TestConcurrentRefunds(t *testing.T) {
	s := newShop(t)
	s.pay("ORDER-0001", 100)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			if _, err := s.client.Do(t.Context(), wepay.Refund, refundOf("ORDER-0001", fmt.Sprintf("R-%d", i%2), 100, 30)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got, _ := s.wechat.Order(mchID, "ORDER-0001"); got.Refunds != 2 || got.Refunded != 60 {
		t.Errorf("the books have %+v", got)
	}
	if got := len(s.wechat.Requests(refundPath)); got != 16 {
		t.Errorf("%d requests are recorded", got)
	}
}

package wepaytest_test

import (
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

const codePayer = "oUpF8uCodePayer00000000000000"

func escape(raw string) string { return url.QueryEscape(raw) }

var validMicropay = map[string]string{
	"out_trade_no": "CODE-0001", "total_fee": "100", "body": "socks", "spbill_create_ip": "203.0.113.9",
	"auth_code": "130000000000000001", "attach": "shelf <7>",
}

// charge asks for a payment by a code that was just shown.
func (s *shop) charge(number string, options ...wepaytest.CodeOption) map[string]string {
	return with(validMicropay, "out_trade_no", number, "auth_code", s.wechat.ShowCode(codePayer, options...))
}

func (s *shop) tradeState(number string) string {
	s.t.Helper()
	return s.do(wepay.QueryOrder, query(number)).Get("trade_state")
}

func TestMicropay(t *testing.T) {
	s := newShop(t)
	in := s.charge("CODE-0001", wepaytest.CodeCoupons(wepaytest.Coupon{Type: wepaytest.NoCash, ID: "1", Fee: 7}))
	got := s.granted(micropayPath, in)
	check(t, got, map[string]string{
		"openid": codePayer, "is_subscribe": "N", "trade_type": "MICROPAY", "bank_type": "CMB_CREDIT", "fee_type": "CNY",
		"total_fee": "100", "cash_fee": "93", "settlement_total_fee": "93", "coupon_fee": "7", "out_trade_no": "CODE-0001",
		"attach": "shelf <7>", "time_end": "20260101200000",
	})
	check(t, s.do(wepay.QueryOrder, query("CODE-0001")), map[string]string{
		"trade_state": "SUCCESS", "trade_type": "MICROPAY", "transaction_id": got.Get("transaction_id"), "openid": codePayer,
	})
	if n := len(s.notified.received()); n != 0 {
		t.Errorf("%d notifications came", n)
	}
	s.denied(micropayPath, "ORDERPAID", in)
	s.denied(micropayPath, "OUT_TRADE_NO_USED", with(in, "total_fee", "101"))
	s.denied(micropayPath, "AUTHCODEEXPIRE", with(in, "out_trade_no", "CODE-0002"))
	s.wallet(mchID, wepaytest.Funds{Available: 93})
	s.do(wepay.Refund, refundOf("CODE-0001", "R-1", 100, 100))
	s.wallet(mchID, wepaytest.Funds{})

	// The payer of a code that was never shown pays at once, once.
	if got := s.granted(micropayPath, with(validMicropay, "out_trade_no", "CODE-0003")); got.Get("openid") == "" {
		t.Errorf("the payer is nobody: %v", got)
	}
	s.denied(micropayPath, "AUTHCODEEXPIRE", with(validMicropay, "out_trade_no", "CODE-0004"))
	if _, found := s.wechat.Order(mchID, "CODE-0004"); found {
		t.Error("a code that was refused left an order")
	}
}

func TestCodesAreRefused(t *testing.T) {
	s := newShop(t)
	for _, code := range []string{"12345678901234567", "1234567890123456789", "160000000000000001", "230000000000000001", "13000000000000000x"} {
		for _, path := range []string{micropayPath, openIDPath} {
			in := with(validMicropay, "auth_code", code)
			if path == openIDPath {
				in = map[string]string{"auth_code": code}
			}
			s.denied(path, "AUTH_CODE_INVALID", in)
		}
	}
	s.denied(micropayPath, "PARAM_ERROR", with(s.charge("CODE-0000"), "time_expire", "20260101200059"))
	in := s.charge("CODE-0001")
	s.clock.Advance(time.Minute)
	late := s.charge("CODE-0002")
	s.granted(micropayPath, in)
	s.clock.Advance(time.Minute + 1)
	s.denied(micropayPath, "AUTHCODEEXPIRE", late)
	s.denied(micropayPath, "NOTENOUGH", s.charge("CODE-0003", wepaytest.CodeRefused("NOTENOUGH")))
	s.denied(micropayPath, "TRADE_ERROR", s.charge("CODE-0005", wepaytest.CodeCoupons(wepaytest.Coupon{Type: wepaytest.Cash, ID: "1", Fee: 101})))
	s.wallet(mchID, wepaytest.Funds{Available: 100})
	if got := s.tradeState("CODE-0003"); got != "PAYERROR" {
		t.Errorf("a payer without money leaves %s", got)
	}
}

// The payer decides when told, or when it is time.
func TestPassword(t *testing.T) {
	for name, c := range map[string]struct {
		option wepaytest.CodeOption
		decide func(*shop) error
		want   string
	}{
		"entered":            {wepaytest.AsksPassword(), func(s *shop) error { return s.wechat.EnterPassword(mchID, "CODE-0001") }, "SUCCESS"},
		"cancelled":          {wepaytest.AsksPassword(), func(s *shop) error { return s.wechat.CancelPassword(mchID, "CODE-0001") }, "PAYERROR"},
		"entered in time":    {wepaytest.PaysAfter(10 * time.Second), nil, "SUCCESS"},
		"not known in time":  {wepaytest.FailsAfter(10 * time.Second), nil, "PAYERROR"},
		"reversed meanwhile": {wepaytest.PaysAfter(10 * time.Second), (*shop).reverse, "REVOKED"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			in := s.charge("CODE-0001", c.option)
			s.denied(micropayPath, "USERPAYING", in)
			s.denied(micropayPath, "USERPAYING", in) // which charges nothing either
			s.clock.Advance(10*time.Second - 1)
			if got := s.tradeState("CODE-0001"); got != "USERPAYING" {
				t.Errorf("while the payer thinks it is %s", got)
			}
			s.denied(closePath, "TRADE_STATE_ERROR", map[string]string{"out_trade_no": "CODE-0001"})
			s.denied(orderPath, "OUT_TRADE_NO_USED", with(validOrder, "out_trade_no", "CODE-0001"))
			if c.decide != nil {
				if err := c.decide(s); err != nil {
					t.Fatal(err)
				}
			}
			s.clock.Advance(1)
			if got := s.tradeState("CODE-0001"); got != c.want {
				t.Errorf("it is %s, want %s", got, c.want)
			}
			want := wepaytest.Funds{}
			if c.want == "SUCCESS" {
				want.Available = 100
			}
			s.wallet(mchID, want)
			if err := s.wechat.EnterPassword(mchID, "CODE-0001"); !errors.Is(err, wepaytest.ErrNotPayable) {
				t.Errorf("the password is taken once more: %v", err)
			}
		})
	}
}

func (s *shop) reverse() error {
	check(s.t, s.granted(reversePath, map[string]string{"out_trade_no": "CODE-0001"}), map[string]string{"recall": "N"})
	return nil
}

func TestPasswordRefuses(t *testing.T) {
	s := newShop(t)
	s.do(wepay.PlaceOrder, order("OPEN-0001", 100))
	for _, c := range []struct {
		mchID, number string
		want          error
	}{
		{"1", "OPEN-0001", wepay.ErrNoMerchant},
		{mchID, "NONE-0001", wepaytest.ErrNoOrder},
		{mchID, "OPEN-0001", wepaytest.ErrNotCode},
	} {
		if err := s.wechat.EnterPassword(c.mchID, c.number); !errors.Is(err, c.want) {
			t.Errorf("the password gives %v, want %v", err, c.want)
		}
		if err := s.wechat.Recall(c.mchID, c.number, 1); !errors.Is(err, c.want) {
			t.Errorf("recalling gives %v, want %v", err, c.want)
		}
	}
}

// WeChat does not know, and yet it is paid.
func TestMicropaySystemError(t *testing.T) {
	s := newShop(t)
	s.wechat.Misbehave(micropayPath, wepaytest.Fault{Kind: wepaytest.Refused})
	in := s.charge("CODE-0001")
	s.denied(micropayPath, "SYSTEMERROR", in)
	if got := s.tradeState("CODE-0001"); got != "SUCCESS" {
		t.Errorf("it is %s", got)
	}
	s.denied(micropayPath, "ORDERPAID", in)
	s.wallet(mchID, wepaytest.Funds{Available: 100})
}

func TestReverse(t *testing.T) {
	s := newShop(t)
	paid := s.granted(micropayPath, s.charge("CODE-0001"))
	s.pay("ORDER-0001", 50)
	in := map[string]string{"out_trade_no": "CODE-0001"}
	if err := s.wechat.Recall(mchID, "CODE-0001", 2); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		recall, state string
		funds         int64
	}{{"Y", "SUCCESS", 150}, {"Y", "SUCCESS", 150}, {"N", "REVOKED", 50}, {"N", "REVOKED", 50}} {
		check(t, s.granted(reversePath, in), map[string]string{"recall": c.recall})
		if got := s.tradeState("CODE-0001"); got != c.state {
			t.Errorf("it is %s, want %s", got, c.state)
		}
		s.wallet(mchID, wepaytest.Funds{Available: c.funds})
	}
	check(t, s.granted(reversePath, map[string]string{"transaction_id": paid.Get("transaction_id")}), map[string]string{"recall": "N"})
	s.denied(micropayPath, "ORDERREVERSED", with(validMicropay, "auth_code", s.lastCode()))
	s.denied(refundPath, "ORDERNOTEXIST", map[string]string{"out_trade_no": "CODE-0001", "out_refund_no": "R-1", "total_fee": "100", "refund_fee": "1"})

	s.denied(reversePath, "INVALID_REQUEST", map[string]string{"out_trade_no": "ORDER-0001"})
	s.denied(reversePath, "ORDERNOTEXIST", map[string]string{"out_trade_no": "NONE-0001"})
	s.denied(reversePath, "INVALID_TRANSACTIONID", map[string]string{"transaction_id": "4200x"})
	s.granted(micropayPath, s.charge("CODE-0002"))
	s.do(wepay.Refund, refundOf("CODE-0002", "R-1", 100, 1))
	s.denied(reversePath, "TRADE_ERROR", map[string]string{"out_trade_no": "CODE-0002"})
	s.granted(micropayPath, s.charge("CODE-0003"))
	s.granted(micropayPath, s.charge("CODE-0004"))
	s.clock.Advance(7 * 24 * time.Hour)
	s.granted(reversePath, map[string]string{"out_trade_no": "CODE-0003"})
	s.clock.Advance(1)
	s.denied(reversePath, "REVERSE_EXPIRE", map[string]string{"out_trade_no": "CODE-0004"})
}

// lastCode is the code that was charged first.
func (s *shop) lastCode() string { return s.wechat.Requests(micropayPath)[0].Fields.Get("auth_code") }

// However many charge one code, one order is paid; however many reverse it, the
// money goes back once.
func TestConcurrentCodes(t *testing.T) {
	s := newShop(t)
	s.deposit(1000)
	code := s.wechat.ShowCode(codePayer)
	var all sync.WaitGroup
	for i := range 8 {
		number := "CODE-000" + string(rune('0'+i))
		all.Go(func() { s.ask(micropayPath, with(validMicropay, "out_trade_no", number, "auth_code", code)) })
	}
	all.Wait()
	s.wallet(mchID, wepaytest.Funds{Available: 1100})
	for i := range 8 {
		number := "CODE-000" + string(rune('0'+i))
		for range 2 {
			all.Go(func() { s.ask(reversePath, map[string]string{"out_trade_no": number}) })
		}
	}
	all.Wait()
	s.wallet(mchID, wepaytest.Funds{Available: 1000})
}

func TestAuthCodeToOpenID(t *testing.T) {
	s := newShop(t)
	const otherID = "1900000119"
	if err := s.wechat.AddMerchant(wepaytest.Merchant{MchID: otherID, AppIDs: []string{appID}, Key: key}); err != nil {
		t.Fatal(err)
	}
	in := s.charge("CODE-0001")
	ask := map[string]string{"auth_code": in["auth_code"]}
	for range 2 {
		check(t, s.granted(openIDPath, ask), map[string]string{"openid": codePayer, "sub_openid": ""})
	}
	reply := s.ask(micropayPath, with(in, "mch_id", otherID))
	check(t, reply, map[string]string{"err_code": "AUTH_CODE_INVALID"})
	s.granted(micropayPath, in)
	s.denied(openIDPath, "AUTHCODEEXPIRE", ask)
}

func TestShortURL(t *testing.T) {
	s := newShop(t)
	const long = "weixin://wxpay/bizpayurl?sign=AB+C&appid=wx1&product_id=袜子 7"
	first := s.granted(shortPath, map[string]string{"long_url": long}).Get("short_url")
	if !strings.HasPrefix(first, "weixin://wxpay/") || len(first) > 64 {
		t.Errorf("the short URL is %q", first)
	}
	if again := s.granted(shortPath, map[string]string{"long_url": long}).Get("short_url"); again != first {
		t.Error("the same URL has another short one")
	}
	if other := s.granted(shortPath, map[string]string{"long_url": long + "8"}).Get("short_url"); other == first {
		t.Error("another URL has the same short one")
	}
	s.granted(shortPath, map[string]string{"long_url": "weixin://a?" + strings.Repeat("=", 501)}) // 512 before it is encoded
	checkRefusal(t, s.ask(shortPath, map[string]string{"long_url": "weixin://a?" + strings.Repeat("=", 502)}), "", "long_url参数长度有误")
	s.denied(shortPath, "PARAM_ERROR", map[string]string{"long_url": "bizpayurl"})
	s.denied(shortPath, "LACK_PARAMS", map[string]string{})

	asSent := request(shortPath, map[string]string{"long_url": long})
	asSent.Set("long_url", long)
	_, reply, _ := s.raw(shortPath, asSent)
	checkRefusal(t, reply, "", "long_url参数格式错误")
	asSent.Set("long_url", escape(long))
	asSent.Set("sign", apiv2.Sign(asSent, wepay.MD5, key)) // of the encoded one
	_, reply, _ = s.raw(shortPath, asSent)
	checkRefusal(t, reply, "", "签名错误")
}

package wepaytest_test

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

const billno = mchID + "20260101" + "0000000001"

var (
	validTransfer = map[string]string{
		"partner_trade_no": "T0000001", "openid": openID, "check_name": "NO_CHECK", "amount": "100", "desc": "thanks",
	}
	validPacket = map[string]string{
		"mch_billno": billno, "send_name": "shop", "re_openid": openID, "total_amount": "300", "total_num": "1",
		"wishing": "luck", "client_ip": "203.0.113.9", "act_name": "new year", "remark": "-",
	}
	validGroup = with(validPacket, "client_ip", "", "total_num", "3", "amt_type", "ALL_RAND", "total_amount", "1000")
)

func TestTransfer(t *testing.T) {
	s := newShop(t)
	s.denied(transferPath, "NOTENOUGH", validTransfer)
	s.deposit(250)
	first := s.granted(transferPath, validTransfer)
	check(t, first, map[string]string{"partner_trade_no": "T0000001", "payment_time": "2026-01-01 20:00:00", "mch_appid": appID, "mch_id": ""})
	s.clock.Advance(time.Hour)
	if again := s.granted(transferPath, validTransfer); again.Get("payment_no") != first.Get("payment_no") || again.Get("payment_time") != first.Get("payment_time") {
		t.Errorf("the same number gives %v, then %v", first, again)
	}
	s.wallet(mchID, wepaytest.Funds{Available: 150})
	for name, value := range map[string]string{"amount": "101", "openid": "another", "desc": "sorry", "device_info": "1"} {
		s.denied(transferPath, "FATAL_ERROR", with(validTransfer, name, value))
	}
	s.denied(transferPath, "AMOUNT_LIMIT", with(validTransfer, "partner_trade_no", "T2", "amount", "29"))
	s.granted(transferPath, with(validTransfer, "partner_trade_no", "T2", "amount", "30"))
	s.denied(transferPath, "NOTENOUGH", with(validTransfer, "partner_trade_no", "T3", "amount", "121"))
	s.wallet(mchID, wepaytest.Funds{Available: 120})
	in := map[string]string{"partner_trade_no": "T0000001"}
	check(t, s.granted(transferQuery, in), map[string]string{
		"detail_id": first.Get("payment_no"), "status": "SUCCESS", "openid": openID, "payment_amount": "100", "desc": "thanks",
		"transfer_time": "2026-01-01 20:00:00", "payment_time": "2026-01-01 20:00:00", "reason": "", "transfer_name": "",
	})
	s.denied(transferQuery, "NOT_FOUND", map[string]string{"partner_trade_no": "T3"})
	s.clock.Advance(30*24*time.Hour - time.Hour)
	s.granted(transferQuery, in)
	s.clock.Advance(1)
	s.denied(transferQuery, "NOT_FOUND", in)
}

func TestTransferChecksNames(t *testing.T) {
	s := newShop(t)
	s.deposit(1000)
	force := with(validTransfer, "check_name", "FORCE_CHECK")
	s.denied(transferPath, "PARAM_ERROR", force)
	s.wechat.NamePayee(openID, "王小二")
	s.denied(transferPath, "NAME_MISMATCH", with(force, "re_user_name", "王小三"))
	s.granted(transferPath, with(force, "re_user_name", "王小二"))
	check(t, s.granted(transferQuery, map[string]string{"partner_trade_no": "T0000001"}), map[string]string{"transfer_name": "王小二"})
	s.granted(transferPath, with(force, "partner_trade_no", "T2", "openid", "nameless", "re_user_name", "王小三"))
}

func TestTransferWaits(t *testing.T) {
	s := newShop(t)
	s.deposit(300)
	if err := s.wechat.PayoutsWait(mchID, true); err != nil {
		t.Fatal(err)
	}
	fails, arrives := with(validTransfer, "partner_trade_no", "T1"), with(validTransfer, "partner_trade_no", "T2")
	for range 2 {
		s.denied(transferPath, "SYSTEMERROR", fails)
		s.denied(transferPath, "SYSTEMERROR", arrives)
	}
	s.wallet(mchID, wepaytest.Funds{Available: 100})
	check(t, s.granted(transferQuery, map[string]string{"partner_trade_no": "T1"}), map[string]string{"status": "PROCESSING", "payment_time": ""})
	for _, c := range []struct {
		mchID, number, status string
		want                  error
	}{
		{"1", "T1", wepaytest.PayoutFailed, wepay.ErrNoMerchant},
		{mchID, "T3", wepaytest.PayoutFailed, wepaytest.ErrNoPayout},
		{mchID, "T1", wepaytest.PayoutReturned, wepaytest.ErrStatus},
		{mchID, "T1", wepaytest.PayoutFailed, nil},
		{mchID, "T1", wepaytest.PayoutFailed, wepaytest.ErrFinished},
		{mchID, "T2", wepaytest.PayoutSuccess, nil},
		{mchID, "T2", wepaytest.PayoutFailed, wepaytest.ErrFinished},
	} {
		if err := s.wechat.FinishTransfer(c.mchID, c.number, c.status, "payee's account is closed"); !errors.Is(err, c.want) {
			t.Errorf("%s of %s as %s gives %v, want %v", c.number, c.mchID, c.status, err, c.want)
		}
	}
	s.wallet(mchID, wepaytest.Funds{Available: 200})
	s.denied(transferPath, "SEND_FAILED", fails)
	s.granted(transferPath, arrives)
	check(t, s.granted(transferQuery, map[string]string{"partner_trade_no": "T1"}), map[string]string{"status": "FAILED", "reason": "payee's account is closed"})
	s.wallet(mchID, wepaytest.Funds{Available: 200})
}

// WeChat does not know, though the money moved; asking again moves none.
func TestPayoutSystemError(t *testing.T) {
	s := newShop(t)
	s.deposit(1000)
	for path, in := range map[string]map[string]string{transferPath: validTransfer, packetPath: validPacket, groupPath: with(validGroup, "mch_billno", billno[:27]+"2", "total_amount", "300")} {
		before, _ := s.wechat.Funds(mchID)
		s.wechat.Misbehave(path, wepaytest.Fault{Kind: wepaytest.Refused})
		s.denied(path, "SYSTEMERROR", in)
		after, _ := s.wechat.Funds(mchID)
		if after.Available >= before.Available {
			t.Errorf("%s: no money moved", path)
		}
		s.granted(path, in)
		s.wallet(mchID, after)
		s.wechat.Misbehave(path, wepaytest.Fault{Kind: wepaytest.Foreign})
		_, mchName := names(path)
		check(t, s.ask(path, in), map[string]string{mchName: "1999999999"})
		s.wechat.Misbehave(path, wepaytest.Fault{Kind: wepaytest.Failed, Message: "busy"})
		check(t, s.ask(path, in), map[string]string{"return_code": "FAIL", "return_msg": "busy", "err_code": "", "result_code": ""})
	}
}

// However many ask at once, a number pays once, and no more than there is.
func TestConcurrentPayouts(t *testing.T) {
	s := newShop(t)
	s.deposit(250)
	var all sync.WaitGroup
	for i := range 12 {
		number := "T000000" + strconv.Itoa(i%4)
		all.Go(func() { s.ask(transferPath, with(validTransfer, "partner_trade_no", number)) })
	}
	all.Wait()
	s.wallet(mchID, wepaytest.Funds{Available: 50})
}

func TestRedPacket(t *testing.T) {
	s := newShop(t)
	s.denied(packetPath, "NOTENOUGH", validPacket)
	s.deposit(300)
	first := s.granted(packetPath, validPacket)
	check(t, first, map[string]string{"mch_billno": billno, "re_openid": openID, "total_amount": "300", "wxappid": appID})
	if again := s.granted(packetPath, validPacket); again.Get("send_listid") != first.Get("send_listid") {
		t.Error("the same number is sent twice")
	}
	s.denied(packetPath, "FATAL_ERROR", with(validPacket, "total_amount", "301"))
	s.denied(groupPath, "FATAL_ERROR", validGroup)
	s.wallet(mchID, wepaytest.Funds{})
	check(t, s.packet(billno, 0), map[string]string{"status": "SENT", "hb_type": "NORMAL", "send_type": "API", "total_amount": "300", "detail_id": first.Get("send_listid")})
	if _, err := s.wechat.OpenRedPacket(mchID, billno, "another"); !errors.Is(err, wepaytest.ErrNotOpen) {
		t.Errorf("another opens it: %v", err)
	}
	if fee, err := s.wechat.OpenRedPacket(mchID, billno, openID); err != nil || fee != 300 {
		t.Errorf("in it is %d, error %v", fee, err)
	}
	check(t, s.packet(billno, 300), map[string]string{"status": "RECEIVED"})
	if _, err := s.wechat.OpenRedPacket(mchID, billno, openID); !errors.Is(err, wepaytest.ErrNotOpen) {
		t.Errorf("it opens twice: %v", err)
	}
	s.clock.Advance(48 * time.Hour)
	s.wallet(mchID, wepaytest.Funds{})
	check(t, s.packet(billno, 300), map[string]string{"status": "RECEIVED", "refund_amount": ""})
	s.denied(packetQueryPath, "NOT_FOUND", map[string]string{"mch_billno": billno[:27] + "9", "bill_type": "MCHT"})
	for _, c := range []struct {
		mchID, number string
		want          error
	}{{"1", billno, wepay.ErrNoMerchant}, {mchID, "1", wepaytest.ErrNoPayout}} {
		if _, err := s.wechat.OpenRedPacket(c.mchID, c.number, openID); !errors.Is(err, c.want) {
			t.Errorf("opening %s of %s gives %v", c.number, c.mchID, err)
		}
	}
}

var (
	lists  = regexp.MustCompile(`(?s)\n<hblist>.*</hblist>`)
	opener = regexp.MustCompile(`<hbinfo>\n<openid><!\[CDATA\[.+\]\]></openid>\n<amount>(\d+)</amount>\n<rcv_time><!\[CDATA\[[0-9-]{10} [0-9:]{8}\]\]></rcv_time>\n</hbinfo>`)
)

// packet asks about a red packet, of which so much was opened.
func (s *shop) packet(number string, taken int64) wepay.Fields {
	s.t.Helper()
	_, _, body := s.raw(packetQueryPath, request(packetQueryPath, map[string]string{"mch_billno": number, "bill_type": "MCHT"}))
	list := lists.FindString(body)
	if list == "" || strings.Contains(list, "hbinfo") != (taken != 0) {
		s.t.Errorf("the list is %q", list)
	}
	for _, match := range opener.FindAllStringSubmatch(list, -1) {
		n, _ := strconv.ParseInt(match[1], 10, 64)
		taken -= n
	}
	if taken != 0 {
		s.t.Errorf("%d fen are not in the list %s", taken, list)
	}
	return decode(s.t, lists.ReplaceAllString(body, ""))
}

// What nobody took in a day comes back.
func TestGroupRedPacket(t *testing.T) {
	s := newShop(t)
	s.deposit(1000)
	s.granted(groupPath, validGroup)
	var taken int64
	for _, payee := range []string{"a", "b"} {
		fee, err := s.wechat.OpenRedPacket(mchID, billno, payee)
		if err != nil || fee < 1 {
			t.Errorf("in it is %d, error %v", fee, err)
		}
		taken += fee
	}
	if _, err := s.wechat.OpenRedPacket(mchID, billno, "a"); !errors.Is(err, wepaytest.ErrNotOpen) {
		t.Errorf("one payee opens it twice: %v", err)
	}
	check(t, s.packet(billno, taken), map[string]string{"status": "SENT", "hb_type": "GROUP", "total_num": "3"})
	s.clock.Advance(24*time.Hour - 1)
	s.wallet(mchID, wepaytest.Funds{})
	s.clock.Advance(1)
	s.wallet(mchID, wepaytest.Funds{Available: 1000 - taken})
	check(t, s.packet(billno, taken), map[string]string{"status": "REFUND", "refund_amount": strconv.FormatInt(1000-taken, 10)})
	s.granted(groupPath, validGroup)
	s.wallet(mchID, wepaytest.Funds{Available: 1000 - taken})

	s.deposit(taken)
	second := with(validGroup, "mch_billno", billno[:27]+"2")
	s.granted(groupPath, second)
	var sum int64
	for _, payee := range []string{"a", "b", "c"} {
		fee, err := s.wechat.OpenRedPacket(mchID, second["mch_billno"], payee)
		if err != nil {
			t.Fatal(err)
		}
		sum += fee
	}
	if sum != 1000 {
		t.Errorf("in it were %d", sum)
	}
	check(t, s.packet(second["mch_billno"], 1000), map[string]string{"status": "RECEIVED"})
}

func TestRedPacketWaits(t *testing.T) {
	s := newShop(t)
	s.deposit(600)
	if err := s.wechat.PayoutsWait(mchID, true); err != nil {
		t.Fatal(err)
	}
	other := with(validPacket, "mch_billno", billno[:27]+"2")
	s.denied(packetPath, "PROCESSING", validPacket)
	s.denied(packetPath, "PROCESSING", other)
	check(t, s.packet(billno, 0), map[string]string{"status": "SENDING"})
	if err := s.wechat.FinishRedPacket(mchID, billno, wepaytest.PayoutFailed, "risk"); err != nil {
		t.Fatal(err)
	}
	if err := s.wechat.FinishRedPacket(mchID, other["mch_billno"], "SENT", ""); err != nil {
		t.Fatal(err)
	}
	s.denied(packetPath, "SEND_FAILED", validPacket)
	s.granted(packetPath, other)
	check(t, s.packet(billno, 0), map[string]string{"status": "FAILED", "reason": "risk"})
	s.wallet(mchID, wepaytest.Funds{Available: 300})
	s.clock.Advance(24 * time.Hour)
	s.wallet(mchID, wepaytest.Funds{Available: 600})
}

func TestRedPacketLimits(t *testing.T) {
	s := newShop(t)
	s.deposit(1_000_000)
	for i, c := range []struct {
		amount, scene string
		taken         bool
	}{{"99", "", false}, {"100", "", true}, {"20000", "", true}, {"20001", "", false}, {"20001", "PRODUCT_1", true}, {"1", "PRODUCT_1", true}} {
		in := with(validPacket, "mch_billno", billno[:27]+strconv.Itoa(i), "total_amount", c.amount, "scene_id", c.scene)
		if c.taken {
			s.granted(packetPath, in)
		} else {
			s.denied(packetPath, "MONEY_LIMIT", in)
		}
	}
	s.denied(groupPath, "MONEY_LIMIT", with(validGroup, "total_amount", "299"))
	for _, number := range []string{billno[1:], billno[:27], "1900000119" + billno[10:], mchID + "20261301" + "0000000001", billno[:27] + "a"} {
		s.denied(packetPath, "PARAM_ERROR", with(validPacket, "mch_billno", number))
	}
}

package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// newTill is a shop that may pay out and has money.
func newTill(t *testing.T) (*environment, *merchant) {
	t.Helper()
	env, shop := newStall(t, "payouts")
	env.deposit(shop)
	return env, shop
}

// deposit puts 10000 fen into a merchant's account.
func (env *environment) deposit(m *merchant) {
	env.t.Helper()
	if err := env.wechat.Deposit(m.mchID, 10000); err != nil {
		env.t.Fatal(err)
	}
}

// has demands what is in a merchant's account.
func (env *environment) has(m *merchant, fen int64) {
	env.t.Helper()
	if funds, _ := env.wechat.Funds(m.mchID); funds.Available != fen {
		env.t.Errorf("the merchant has %+v, wants %d", funds, fen)
	}
}

func TestRedPacket(t *testing.T) {
	env, shop := newTill(t)
	number := shop.mchID + "202601010000000001"
	packet := map[string]any{
		"mch_billno": number, "send_name": "商店", "re_openid": openID, "total_amount": 100,
		"wishing": "恭喜 <&>", "act_name": "新年", "remark": "茶",
	}
	query := map[string]any{"mch_billno": number}
	env.declines("red_packet_query", query, "NOT_FOUND", "AGAIN")
	first, again := env.get("send_red_packet", packet), env.get("send_red_packet", packet)
	checkFields(t, again, map[string]string{"mch_billno": number, "total_amount": "100", "re_openid": openID, "send_listid": first["send_listid"]})
	env.has(shop, 9900)
	checkFields(t, asMap(env.last("/mmpaymkttransfers/sendredpack").Fields), map[string]string{
		"wxappid": shop.appID, "mch_id": shop.mchID, "appid": "", "sign_type": "", "wishing": "恭喜 <&>",
		"client_ip": "127.0.0.1", "total_num": "1",
	})

	f := env.done("red_packet_query", query)
	if string(f.Result["hblist"]) != "[]" || f.text(t, "status") != "SENT" {
		t.Errorf("a packet that nobody opened: %s", f.body)
	}
	if _, err := env.wechat.OpenRedPacket(shop.mchID, number, openID); err != nil {
		t.Fatal(err)
	}
	f = env.done("red_packet_query", query)
	list := hblist(t, f)
	if f.text(t, "status") != "RECEIVED" || len(list) != 1 {
		t.Fatalf("a packet that was opened: %s", f.body)
	}
	checkFields(t, list[0], map[string]string{"openid": openID, "amount": "100"})

	packet["wishing"] = "other"
	env.declines("send_red_packet", packet, "FATAL_ERROR", "FIX")
	packet["total_amount"] = 99
	env.refuses("send_red_packet", packet, 40008, "scene_id: ")
	packet["total_num"] = 2
	env.refuses("send_red_packet", packet, 40003, "total_num: ")
	env.has(shop, 9900)
}

func hblist(t *testing.T, f full) []map[string]string {
	t.Helper()
	var list []map[string]string
	if err := json.Unmarshal(f.Result["hblist"], &list); err != nil {
		t.Fatalf("hblist: %v: %s", err, f.body)
	}
	return list
}

func TestGroupRedPacket(t *testing.T) {
	env, shop := newTill(t)
	number := shop.mchID + "202601010000000002"
	env.get("send_group_red_packet", map[string]any{
		"mch_billno": number, "send_name": "商店", "re_openid": openID, "total_amount": 300, "total_num": 3,
		"wishing": "恭喜", "act_name": "新年", "remark": "茶",
	})
	var sum int64
	payees := []string{openID, "o-second", "o-third<&>"}
	for _, payee := range payees {
		fee, err := env.wechat.OpenRedPacket(shop.mchID, number, payee)
		if err != nil {
			t.Fatal(err)
		}
		sum += fee
	}
	f := env.done("red_packet_query", map[string]any{"mch_billno": number, "bill_type": "MCHT"})
	list := hblist(t, f)
	if len(list) != 3 || sum != 300 || f.text(t, "hb_type") != "GROUP" {
		t.Fatalf("%s", f.body)
	}
	for i, payee := range payees {
		checkFields(t, list[i], map[string]string{"openid": payee})
	}
	env.has(shop, 9700)
}

func payout(number string) map[string]any {
	return map[string]any{"partner_trade_no": number, "openid": openID, "check_name": "NO_CHECK", "amount": 100, "desc": "报销"}
}

func TestTransfer(t *testing.T) {
	env, shop := newTill(t)
	reply := env.get("transfer", payout("t1"))
	if reply["payment_no"] == "" {
		t.Errorf("%v", reply)
	}
	checkFields(t, asMap(env.last("/mmpaymkttransfers/promotion/transfers").Fields), map[string]string{
		"mch_appid": shop.appID, "mchid": shop.mchID, "appid": "", "mch_id": "", "check_name": "NO_CHECK",
	})
	checkFields(t, env.get("transfer_query", map[string]any{"partner_trade_no": "t1"}), map[string]string{
		"status": "SUCCESS", "payment_amount": "100", "openid": openID, "detail_id": reply["payment_no"],
	})
	named := payout("t2")
	named["check_name"] = "FORCE_CHECK"
	env.refuses("transfer", named, 40008, "re_user_name: ")
	env.wechat.NamePayee(openID, "张三")
	named["re_user_name"] = "李四"
	env.declines("transfer", named, "NAME_MISMATCH", "FIX")
	named["re_user_name"] = "张三"
	env.get("transfer", named)
	poor := payout("t3")
	poor["amount"] = 1000000
	env.declines("transfer", poor, "NOTENOUGH", "LATER")
	env.has(shop, 9800)
}

// A transfer whose outcome WeChat did not tell is never called failed: the
// caller hears to ask, the question tells, and the same number pays once.
func TestTransferOutcomeIsOpen(t *testing.T) {
	env, shop := newTill(t)
	for _, test := range []struct {
		name, number string
		fault        wepaytest.Fault
		code         string
	}{
		{"trouble at WeChat", "t1", wepaytest.Fault{Kind: wepaytest.Refused}, "SYSTEMERROR"},
		{"trouble at WeChat without a code", "t2", wepaytest.Fault{Kind: wepaytest.Failed}, ""},
		{"no answer", "t3", wepaytest.Fault{Kind: wepaytest.Reset}, ""},
		{"half an answer", "t4", wepaytest.Fault{Kind: wepaytest.TruncatedXML}, ""},
		{"an answer about another merchant", "t5", wepaytest.Fault{Kind: wepaytest.Foreign}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			env := env.in(t)
			const path = "/mmpaymkttransfers/promotion/transfers"
			before, _ := env.wechat.Funds(shop.mchID)
			test.fault.Standing = true
			env.wechat.Misbehave(path, test.fault)
			a := env.try("transfer", payout(test.number))
			env.wechat.Behave(path)
			if a.Errcode != 40000 || a.ErrCode != test.code || a.Verdict != "QUERY" || a.Ask != "transfer_query" {
				t.Errorf("HTTP %d %s", a.status, a.body)
			}
			checkFields(t, env.get("transfer_query", map[string]any{"partner_trade_no": test.number}), map[string]string{"status": "SUCCESS"})
			env.get("transfer", payout(test.number))
			env.has(shop, before.Available-100)
		})
	}
	t.Run("under way, then failed", func(t *testing.T) {
		env := env.in(t)
		if err := env.wechat.PayoutsWait(shop.mchID, true); err != nil {
			t.Fatal(err)
		}
		if a := env.declines("transfer", payout("t9"), "SYSTEMERROR", "QUERY"); a.Ask != "transfer_query" {
			t.Errorf("%s", a.body)
		}
		query := map[string]any{"partner_trade_no": "t9"}
		checkFields(t, env.get("transfer_query", query), map[string]string{"status": "PROCESSING"})
		if err := env.wechat.FinishTransfer(shop.mchID, "t9", wepaytest.PayoutFailed, "余额不足"); err != nil {
			t.Fatal(err)
		}
		checkFields(t, env.get("transfer_query", query), map[string]string{"status": "FAILED", "reason": "余额不足"})
		env.declines("transfer", payout("t9"), "SEND_FAILED", "QUERY")
		env.clock.Advance(31 * 24 * time.Hour)
		env.declines("transfer_query", query, "NOT_FOUND", "AGAIN")
	})
}

const (
	cardNumber = "6222021234567890123"
	cardHolder = "张三丰"
)

func bankPayout(number string) map[string]any {
	return map[string]any{"partner_trade_no": number, "bank_no": cardNumber, "true_name": cardHolder, "bank_code": "1002", "amount": 100, "desc": "茶"}
}

// Card and name are read by WeChat alone: they are encrypted with a key that is
// fetched once, and a new one after a reload.
func TestPayBank(t *testing.T) {
	env, shop := newEnvironment(t), newMerchant("shop", 1)
	shop.signType = "HMAC-SHA256" // which payouts do not have
	layout := env.stalls(stall{shop, []string{"payouts"}})
	env.serve(layout)
	env.deposit(shop)
	pay := func(number string) {
		t.Helper()
		checkFields(t, env.get("pay_bank", bankPayout(number)), map[string]string{"partner_trade_no": number, "amount": "100", "cmms_amt": "100"})
		got, _ := env.wechat.BankTransfer(shop.mchID, number)
		if got.BankNo != cardNumber || got.TrueName != cardHolder || got.BankCode != "1002" || got.Amount != 100 {
			t.Errorf("WeChat read %+v", got)
		}
	}
	pay("bank1001")
	pay("bank1002")
	if keys := len(env.wechat.Requests("/risk/getpublickey")); keys != 1 {
		t.Errorf("the key was fetched %d times", keys)
	}
	if err := env.wechat.RotateBankKey(); err != nil {
		t.Fatal(err)
	}
	env.patience = redials
	if err := env.load(layout); err != nil {
		t.Fatal(err)
	}
	pay("bank1003")
	pay("bank1001") // the same once more, encrypted otherwise
	env.has(shop, 10000-3*200)

	for _, request := range env.wechat.Requests("/mmpaysptrans/pay_bank") {
		if strings.Contains(string(request.Body), cardNumber) || strings.Contains(string(request.Body), cardHolder) {
			t.Errorf("WeChat got %s", request.Body)
		}
		checkFields(t, asMap(request.Fields), map[string]string{"bank_no": "", "true_name": "", "appid": "", "mch_id": shop.mchID, "sign_type": ""})
	}
	log, err := os.ReadFile(filepath.Join(env.dir, "caddy.log"))
	if err != nil || strings.Contains(string(log), cardNumber) || strings.Contains(string(log), cardHolder) {
		t.Errorf("the log tells the payee: %v", err)
	}
	checkBankQuery(t, env, shop)
}

// checkBankQuery follows a payout that arrives, and that the bank then sends
// back.
func checkBankQuery(t *testing.T, env *environment, shop *merchant) {
	t.Helper()
	query := map[string]any{"partner_trade_no": "bank1001"}
	checkFields(t, env.get("pay_bank_query", query), map[string]string{"status": "PROCESSING", "amount": "100"})
	for _, status := range []string{wepaytest.PayoutSuccess, wepaytest.PayoutReturned} {
		if err := env.wechat.FinishBankTransfer(shop.mchID, "bank1001", status, "卡号有误"); err != nil {
			t.Fatal(err)
		}
		checkFields(t, env.get("pay_bank_query", query), map[string]string{"status": status})
	}
	env.has(shop, 10000-2*200)
	env.declines("pay_bank", bankPayout("bank1001"), "SEND_FAILED", "QUERY")
	env.refuses("pay_bank_query", map[string]any{"partner_trade_no": "bank"}, 40003, "partner_trade_no: ")
}

// Without the bank's key nothing is sent that could pay.
func TestPayBankWithoutKey(t *testing.T) {
	env, shop := newTill(t)
	env.wechat.Misbehave("/risk/getpublickey", wepaytest.Fault{Kind: wepaytest.Reset, Standing: true})
	a := env.try("pay_bank", bankPayout("bank1001"))
	checkNoAnswer(t, a.answer, "AGAIN")
	env.wechat.Behave("/risk/getpublickey")
	if sent := env.wechat.Requests("/mmpaysptrans/pay_bank"); len(sent) > 0 {
		t.Errorf("WeChat got %s", sent[0].Body)
	}
	env.get("pay_bank", bankPayout("bank1001"))
	env.has(shop, 10000-200)
}

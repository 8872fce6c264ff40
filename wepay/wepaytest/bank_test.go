package wepaytest_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"hash"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

const (
	card  = "6225760012345678"
	owner = "王小二"
)

// bankKey fetches the bank's key.
func (s *shop) bankKey() *rsa.PublicKey {
	s.t.Helper()
	text := s.granted(bankKeyPath, nil).Get("pub_key")
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "RSA PUBLIC KEY" || len(rest) > 0 {
		s.t.Fatalf("pub_key is %q", text)
	}
	key, err := x509.ParsePKCS1PublicKey(block.Bytes)
	if err != nil {
		s.t.Fatal(err)
	}
	return key
}

func sealWith(t *testing.T, h hash.Hash, key *rsa.PublicKey, plain, label string) string {
	t.Helper()
	sealed, err := rsa.EncryptOAEP(h, rand.Reader, key, []byte(plain), []byte(label))
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(sealed)
}

// payCard is a transfer to a card, encrypted anew.
func (s *shop) payCard(key *rsa.PublicKey, changes ...string) map[string]string {
	s.t.Helper()
	in := map[string]string{
		"partner_trade_no": "B0000001", "bank_code": "1001", "amount": "1000", "desc": "rent",
		"enc_bank_no": sealWith(s.t, sha1.New(), key, card, ""), "enc_true_name": sealWith(s.t, sha1.New(), key, owner, ""),
	}
	return with(in, changes...)
}

func TestPayBank(t *testing.T) {
	s := newShop(t)
	key := s.bankKey()
	s.denied(bankPath, "NOTENOUGH", s.payCard(key))
	s.deposit(1099)
	s.denied(bankPath, "NOTENOUGH", s.payCard(key)) // there is the charge
	s.deposit(1)
	first := s.granted(bankPath, s.payCard(key))
	check(t, first, map[string]string{"partner_trade_no": "B0000001", "amount": "1000", "cmms_amt": "100", "appid": ""})
	if again := s.granted(bankPath, s.payCard(key)); again.Get("payment_no") != first.Get("payment_no") {
		t.Error("the same number is paid twice")
	}
	s.wallet(mchID, wepaytest.Funds{})
	for _, in := range []map[string]string{
		s.payCard(key, "amount", "1001"),
		s.payCard(key, "bank_code", "1002"),
		s.payCard(key, "enc_bank_no", sealWith(t, sha1.New(), key, card+"9", "")),
		s.payCard(key, "enc_true_name", sealWith(t, sha1.New(), key, "王小三", "")),
	} {
		s.denied(bankPath, "FATAL_ERROR", in)
	}
	want := wepaytest.BankTransfer{BankNo: card, TrueName: owner, BankCode: "1001", Amount: 1000, Charge: 100, Status: "PROCESSING"}
	if got, _ := s.wechat.BankTransfer(mchID, "B0000001"); got != want {
		t.Errorf("the books have %+v, want %+v", got, want)
	}
	in := map[string]string{"partner_trade_no": "B0000001"}
	check(t, s.granted(bankQueryPath, in), map[string]string{
		"payment_no": first.Get("payment_no"), "bank_no_md5": hexMD5(card), "true_name_md5": hexMD5(owner), "amount": "1000",
		"status": "PROCESSING", "cmms_amt": "100", "create_time": "2026-01-01 20:00:00", "pay_succ_time": "",
	})
	finish := func(status string) error {
		return s.wechat.FinishBankTransfer(mchID, "B0000001", status, "no such card")
	}
	if err := finish(wepaytest.PayoutSuccess); err != nil {
		t.Fatal(err)
	}
	check(t, s.granted(bankQueryPath, in), map[string]string{"status": "SUCCESS", "pay_succ_time": "2026-01-01 20:00:00", "reason": ""})
	if err := finish(wepaytest.PayoutFailed); !errors.Is(err, wepaytest.ErrFinished) {
		t.Errorf("what succeeded fails: %v", err)
	}
	s.wallet(mchID, wepaytest.Funds{})
	if err := finish(wepaytest.PayoutReturned); err != nil {
		t.Fatal(err)
	}
	if err := finish(wepaytest.PayoutReturned); !errors.Is(err, wepaytest.ErrFinished) {
		t.Errorf("the bank sends it back twice: %v", err)
	}
	check(t, s.granted(bankQueryPath, in), map[string]string{"status": "BANK_FAIL", "reason": "no such card", "pay_succ_time": ""})
	s.wallet(mchID, wepaytest.Funds{Available: 1100})
	s.denied(bankPath, "SEND_FAILED", s.payCard(key))
	s.denied(bankQueryPath, "NOT_FOUND", map[string]string{"partner_trade_no": "B0000002"})
}

func TestBankDataIsRefused(t *testing.T) {
	s := newShop(t)
	s.deposit(5000)
	key := s.bankKey()
	for name, in := range map[string]map[string]string{
		"not encrypted":  s.payCard(key, "enc_bank_no", card),
		"not base64":     s.payCard(key, "enc_bank_no", "*"),
		"SHA-256":        s.payCard(key, "enc_bank_no", sealWith(t, sha256.New(), key, card, "")),
		"a label":        s.payCard(key, "enc_true_name", sealWith(t, sha1.New(), key, owner, "x")),
		"no card":        s.payCard(key, "enc_bank_no", sealWith(t, sha1.New(), key, "6225 7600", "")),
		"no name":        s.payCard(key, "enc_true_name", sealWith(t, sha1.New(), key, "", "")),
		"a strange bank": s.payCard(key, "bank_code", "ICBC"),
		"a short number": s.payCard(key, "partner_trade_no", "B000001"),
		"an odd number":  s.payCard(key, "partner_trade_no", "B000000-1"),
	} {
		t.Run(name, func(t *testing.T) { s.denied(bankPath, "PARAM_ERROR", in) })
	}
	old := s.payCard(key)
	s.granted(bankPath, old)
	if err := s.wechat.RotateBankKey(); err != nil {
		t.Fatal(err)
	}
	s.denied(bankPath, "PARAM_ERROR", old)
	next := s.bankKey()
	if next.Equal(key) {
		t.Fatal("the key is the same")
	}
	s.granted(bankPath, s.payCard(next))
	s.wallet(mchID, wepaytest.Funds{Available: 3900})
}

// The bank's key is the one thing for which sign_type has to be named.
func TestBankKeySignType(t *testing.T) {
	s := newShop(t)
	in := request(bankKeyPath, nil)
	in.Delete("sign_type")
	in.Set("sign", apiv2.Sign(in, wepay.MD5, key))
	_, reply, _ := s.raw(bankKeyPath, in)
	checkDenied(t, bankKeyPath, reply, "PARAM_ERROR", "")
	in.Set("sign_type", "HMAC-SHA256")
	in.Set("sign", apiv2.Sign(in, wepay.HMACSHA256, key))
	_, reply, _ = s.raw(bankKeyPath, in)
	check(t, reply, map[string]string{"result_code": "SUCCESS"})
}

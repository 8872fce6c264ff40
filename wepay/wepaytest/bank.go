package wepaytest

import (
	"crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"sync"
	"unicode/utf8"

	"github.com/windsome/caddy-wepay/wepay"
)

// bankCharge is what WeChat takes for a transfer to a bank. How much it takes
// in truth depends on the amount and the contract.
const bankCharge = 100

// payee is the payee of a transfer to a bank.
type payee struct{ card, name string }

// BankTransfer is a transfer to a bank card as WeChat has read it.
type BankTransfer struct {
	BankNo   string // decrypted
	TrueName string // decrypted
	BankCode string
	Amount   int64 // fen
	Charge   int64 // fen
	Status   string
}

// BankTransfer returns a merchant's transfer to a bank card, and whether there
// is one.
func (s *Server) BankTransfer(mchID, partnerTradeNo string) (BankTransfer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, found := s.accounts[mchID]
	if !found {
		return BankTransfer{}, false
	}
	p, found := a.real.payouts[payoutKey{bankTransfer, partnerTradeNo}]
	if !found {
		return BankTransfer{}, false
	}
	return BankTransfer{p.payee.card, p.payee.name, p.request.Get("bank_code"), p.fee, p.charge, p.status}, true
}

// FinishBankTransfer ends a transfer to a bank card as PayoutSuccess,
// PayoutFailed or PayoutReturned, which also can follow on PayoutSuccess. Its
// errors are FinishTransfer's.
func (s *Server) FinishBankTransfer(mchID, partnerTradeNo, status, reason string) error {
	return s.finishPayout(mchID, payoutKey{bankTransfer, partnerTradeNo}, status, reason)
}

// RotateBankKey gives the server another key for payees' data. What is
// encrypted with the one before is refused from then on.
func (s *Server) RotateBankKey() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := bankKeys.get(s.bankKey + 1); err != nil {
		return err
	}
	s.bankKey++
	return nil
}

// bankKeys are the banks' keys of every server in this process, because making
// one takes long.
var bankKeys keyPool

type keyPool struct {
	mu   sync.Mutex
	keys []*rsa.PrivateKey
}

// get returns the n-th key, which is made with those before it.
func (r *keyPool) get(n int) (*rsa.PrivateKey, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.keys) <= n {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, fmt.Errorf("making a key of WeChat's: %w", err)
		}
		r.keys = append(r.keys, key)
	}
	return r.keys[n], nil
}

// issueBankKey returns the public key, in PKCS #1.
func (x *exchange) issueBankKey() (wepay.Fields, *refusal) {
	key, err := bankKeys.get(x.server.bankKey)
	if err != nil {
		return nil, refuse("SYSTEMERROR", "系统繁忙,请稍后再试.")
	}
	return wepay.NewFields(map[string]string{"pub_key": string(pem.EncodeToMemory(&pem.Block{
		Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&key.PublicKey),
	}))}), nil
}

var (
	payBankParams = params{
		{name: "partner_trade_no", required: true, max: 32, is: bankNumber},
		{name: "enc_bank_no", required: true},
		{name: "enc_true_name", required: true},
		{name: "bank_code", required: true, max: 64, is: word(
			"1001", "1002", "1003", "1004", "1005", "1006", "1009", "1010", "1020", "1021", "1022",
			"1024", "1025", "1026", "1027", "1032", "1056", "1066", "4836")},
		{name: "amount", required: true, is: fen},
		{name: "desc", max: 100},
	}
	queryBankParams = params{{name: "partner_trade_no", required: true, max: 32, is: bankNumber}}
)

func bankNumber(value string) bool { return len(value) >= 8 && nonce(value) }

// payBank takes a transfer to a bank card, which then is under way. Two
// requests are the same when they say the same decrypted: encryption makes
// another text of it each time.
func (x *exchange) payBank() (wepay.Fields, *refusal) {
	card, refused := x.decrypt("enc_bank_no")
	if refused != nil {
		return nil, refused
	}
	name, refused := x.decrypt("enc_true_name")
	if refused != nil {
		return nil, refused
	}
	if card == "" || !digits(card) || name == "" || !utf8.ValidString(name) {
		return nil, refuse("PARAM_ERROR", "收款方银行卡号或用户名有误")
	}
	request := content(x.in)
	request.Delete("enc_bank_no")
	request.Delete("enc_true_name")
	p, refused := x.payOut(&payout{
		payoutKey: payoutKey{bankTransfer, x.in.Get("partner_trade_no")},
		request:   request, payee: payee{card, name},
		fee: amount(x.in.Get("amount")), charge: bankCharge, status: PayoutProcessing,
	})
	if refused != nil {
		return nil, refused
	}
	return wepay.NewFields(map[string]string{
		"partner_trade_no": p.number,
		"amount":           text(p.fee),
		"payment_no":       p.id,
		"cmms_amt":         text(p.charge),
	}), nil
}

// decrypt reads a parameter that is encrypted for the key of today.
func (x *exchange) decrypt(name string) (string, *refusal) {
	sealed, err := base64.StdEncoding.DecodeString(x.in.Get(name))
	if err != nil {
		return "", refuse("PARAM_ERROR", "参数错误:"+name+"参数格式错误")
	}
	key, err := bankKeys.get(x.server.bankKey)
	if err != nil {
		return "", refuse("SYSTEMERROR", "系统繁忙,请稍后再试.")
	}
	// SHA-1 is what the protocol says; OAEP does not need it to be free of
	// collisions.
	plain, err := rsa.DecryptOAEP(sha1.New(), nil, key, sealed, nil)
	if err != nil {
		return "", refuse("PARAM_ERROR", "参数错误:"+name+"解密失败")
	}
	return string(plain), nil
}

func (x *exchange) queryBank() (wepay.Fields, *refusal) {
	p, refused := x.findPayout(bankTransfer, "partner_trade_no")
	if refused != nil {
		return nil, refused
	}
	out := wepay.NewFields(map[string]string{
		"partner_trade_no": p.number,
		"payment_no":       p.id,
		"bank_no_md5":      md5Text(p.payee.card),
		"true_name_md5":    md5Text(p.payee.name),
		"amount":           text(p.fee),
		"status":           p.status,
		"cmms_amt":         text(p.charge),
		"create_time":      clockText(p.at),
	})
	switch p.status {
	case PayoutSuccess:
		out.Set("pay_succ_time", clockText(p.finished))
	case PayoutFailed, PayoutReturned:
		out.Set("reason", p.reason)
	}
	return out, nil
}

func md5Text(value string) string {
	digest := md5.Sum([]byte(value))
	return hex.EncodeToString(digest[:])
}

package apiv2

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// bankPublicKey asks for the key that payees' data are encrypted with. No
// caller asks for it; PayBank does.
const bankPublicKey wepay.Operation = "bank public key"

// bankKeyAge is how long the bank's public key is used before it is asked for
// again. WeChat does not say how often it changes.
const bankKeyAge = 24 * time.Hour

// bankKeySize is the least size of the bank's public key, in bytes; what is
// encrypted fits into it.
const bankKeySize = 128

// bankCalls send money to a bank card (企业付款到银行卡).
var bankCalls = map[wepay.Operation]call{
	wepay.PayBank: {
		path: "/mmpaysptrans/pay_bank", certificate: true, payout: true,
		identity: accountIdentity, signType: wepay.MD5,
		rules: wepay.Rules{
			{Name: "partner_trade_no", Required: true, Min: 8, Max: 32, Is: wepay.Alphanumeric},
			{Name: "bank_no", Required: true, Max: 64, Is: wepay.Digits},
			{Name: "true_name", Required: true, Max: 64},
			{Name: "bank_code", Required: true, Max: 64, Is: wepay.Digits},
			{Name: "amount", Required: true, Is: wepay.Fen},
			{Name: "desc", Max: 100},
		},
		complete: encryptPayee,
		unsigned: true, echoes: []string{"partner_trade_no", "amount"}, answers: []string{"payment_no"},
		repeatable: true, unknown: wepay.Query, ask: wepay.QueryBank,
		verdicts: bankVerdicts,
	},
	wepay.QueryBank: {
		path: "/mmpaysptrans/query_bank", certificate: true, payout: true,
		identity: accountIdentity, signType: wepay.MD5,
		rules:    wepay.Rules{{Name: "partner_trade_no", Required: true, Min: 8, Max: 32, Is: wepay.Alphanumeric}},
		unsigned: true, echoes: []string{"partner_trade_no"}, answers: []string{"status"},
		repeatable: true, unknown: wepay.Again, verdicts: queryVerdicts,
	},
	bankPublicKey: {
		path: "/risk/getpublickey", risk: true, certificate: true,
		identity: accountIdentity, signType: wepay.MD5, saysMD5: true,
		rules:    wepay.Rules{},
		unsigned: true, answers: []string{"pub_key"},
		repeatable: true, unknown: wepay.Again,
	},
}

// bankVerdicts: whatever a bank payout is refused with, that alone never proves
// that nothing was paid under its number before.
var bankVerdicts = map[string]wepay.Verdict{
	"SYSTEMERROR":           wepay.Query,
	"INVALIDREQUEST":        wepay.Again, // WeChat's own word
	"ORDERPAID":             wepay.Query,
	"FATALERROR":            wepay.Fix,
	"RECVACCOUNTNOTALLOWED": wepay.Fix,
	"PAYCHANNELNOTALLOWED":  wepay.Fix,
	"AMOUNTLIMIT":           wepay.Later,
	"NOTENOUGH":             wepay.Later,
	"SENDNUMLIMIT":          wepay.Later,
}

// encryptPayee puts the payee's card and name into the form that only WeChat
// can read: RSA-OAEP with SHA-1, no label, base64.
func encryptPayee(ctx context.Context, c *Client, _ *wepay.Merchant, in wepay.Fields) (wepay.Fields, error) {
	key, err := c.bankKey(ctx)
	if err != nil {
		return nil, err
	}
	request := in.Clone()
	for name, encrypted := range map[string]string{"bank_no": "enc_bank_no", "true_name": "enc_true_name"} {
		sealed, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, key, []byte(in.Get(name)), nil)
		if err != nil {
			return nil, &wepay.FieldError{Field: name, Reason: "encrypting it for WeChat Pay", Err: err}
		}
		request.Set(encrypted, base64.StdEncoding.EncodeToString(sealed))
		request.Delete(name)
	}
	return request, nil
}

// bankKey returns the bank's public key, fetching it once for all who wait.
func (c *Client) bankKey(ctx context.Context) (*rsa.PublicKey, error) {
	return c.bank.get(ctx, c.now, 0, func(ctx context.Context) (*rsa.PublicKey, error) {
		reply, err := c.Do(ctx, bankPublicKey, nil)
		var failed *wepay.Error
		if errors.As(err, &failed) {
			failed.Operation = wepay.PayBank // what the caller asked for, of which nothing was sent
		}
		if err != nil {
			return nil, err
		}
		key, err := parseBankKey(reply.Get("pub_key"))
		if err != nil {
			return nil, &wepay.Error{Merchant: c.merchant.Name, Operation: wepay.PayBank, Verdict: wepay.Again, Err: fmt.Errorf("%w: %w", wepay.ErrNoAnswer, err)}
		}
		return key, nil
	})
}

// parseBankKey reads PKCS #1, the form that WeChat gives, and the newer one.
func parseBankKey(text string) (*rsa.PublicKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("the bank's public key is no PEM")
	}
	key, err := x509.ParsePKCS1PublicKey(block.Bytes)
	if err != nil {
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading the bank's public key: %w", err)
		}
		var ok bool
		if key, ok = parsed.(*rsa.PublicKey); !ok {
			return nil, errors.New("the bank's public key is not RSA")
		}
	}
	if key.Size() < bankKeySize {
		return nil, errors.New("the bank's public key is too short")
	}
	return key, nil
}

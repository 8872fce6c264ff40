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
	"github.com/windsome/caddy-wepay/wepay/internal/row"
)

// bankPublicKey fetches the key that payees' data are encrypted with, for
// PayBank.
const bankPublicKey wepay.Operation = "bank public key"

// bankKeyAge is how long the bank's public key is used before it is fetched
// again. WeChat does not document how often it changes.
const bankKeyAge = 24 * time.Hour

// bankKeySize is the least size of the bank's public key, in bytes; the encrypted
// fields fit into it.
const bankKeySize = 128

// bankCalls send money to a bank card (企业付款到银行卡).
var bankCalls = map[wepay.Operation]call{
	wepay.PayBank: {
		path: "/mmpaysptrans/pay_bank", certificate: true, identity: accountIdentity, signType: wepay.MD5, unsigned: true,
		encrypted: map[string]string{"bank_no": "enc_bank_no", "true_name": "enc_true_name"},
		Row: row.Row{
			Number: "partner_trade_no",
			Payout: true,
			Rules: wepay.Rules{
				{Name: "partner_trade_no", Required: true, Min: 8, Max: 32, Is: wepay.Alphanumeric},
				{Name: "bank_no", Required: true, Max: 64, Is: wepay.Digits},
				{Name: "true_name", Required: true, Max: 64},
				{Name: "bank_code", Required: true, Max: 64, Is: wepay.Digits},
				{Name: "amount", Required: true, Is: wepay.Fen},
				{Name: "desc", Max: 100},
			},
			Echoes: []string{"partner_trade_no", "amount"}, Answers: []string{"payment_no"},
			Repeatable: true, Unknown: wepay.Query, Ask: wepay.QueryBank, Verdicts: bankVerdicts,
		},
	},
	wepay.QueryBank: {
		path: "/mmpaysptrans/query_bank", certificate: true, identity: accountIdentity, signType: wepay.MD5, unsigned: true,
		Row: row.Row{
			Payout: true, Rules: wepay.Rules{{Name: "partner_trade_no", Required: true, Min: 8, Max: 32, Is: wepay.Alphanumeric}},
			Echoes: []string{"partner_trade_no"}, Answers: []string{"status"},
			Repeatable: true, Unknown: wepay.Again, Verdicts: queryVerdicts,
		},
	},
	bankPublicKey: {
		path: "/risk/getpublickey", inner: true, risk: true, certificate: true,
		identity: accountIdentity, signType: wepay.MD5, saysMD5: true, unsigned: true,
		Row: row.Row{
			Rules:      wepay.Rules{},
			Answers:    []string{"pub_key"},
			Repeatable: true, Unknown: wepay.Again,
		},
	},
}

// bankVerdicts: no refusal of a bank payout proves that nothing was paid under its
// number before.
var bankVerdicts = map[string]wepay.Verdict{
	"INVALIDREQUEST":        wepay.Again, // WeChat's own word
	"ORDERPAID":             wepay.Query,
	"FATALERROR":            wepay.Fix,
	"RECVACCOUNTNOTALLOWED": wepay.Fix,
	"PAYCHANNELNOTALLOWED":  wepay.Fix,
	"AMOUNTLIMIT":           wepay.Later,
	"NOTENOUGH":             wepay.Later,
	"SENDNUMLIMIT":          wepay.Later,
}

// encrypt encrypts some fields of a request for WeChat: RSA-OAEP with SHA-1, no
// label, base64. Names maps them to the names that they are sent under.
func (c *Client) encrypt(ctx context.Context, names map[string]string, request *wepay.Fields) error {
	key, err := c.bank.Get(ctx, bankKeyAge, 0)
	if err != nil {
		return err
	}
	for name, encrypted := range names {
		sealed, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, key, []byte(request.Get(name)), nil)
		if err != nil {
			return &wepay.FieldError{Field: name, Reason: "encrypting it for WeChat Pay", Err: err}
		}
		request.Set(encrypted, base64.StdEncoding.EncodeToString(sealed))
		request.Delete(name)
	}
	return nil
}

func (c *Client) fetchBankKey(ctx context.Context) (*rsa.PublicKey, error) {
	reply, err := c.once(ctx, bankPublicKey, nil)
	var failed *wepay.Error
	if errors.As(err, &failed) {
		failed.Operation = wepay.PayBank // the caller's operation, of which nothing was sent
	}
	if err != nil {
		return nil, err
	}
	key, err := parseBankKey(reply.Get("pub_key"))
	if err != nil {
		return nil, &wepay.Error{Merchant: c.merchant.Name, Operation: wepay.PayBank, Verdict: wepay.Again, Err: fmt.Errorf("%w: %w", wepay.ErrNoAnswer, err)}
	}
	return key, nil
}

// parseBankKey reads PKCS #1, which WeChat returns, and PKIX.
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

package apiv2_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

const (
	bankKeyPath = "/risk/getpublickey"
	payBankPath = "/mmpaysptrans/pay_bank"
)

// bank is WeChat Pay with its risk server, each at a place of its own.
func bank(t *testing.T, risk answer, given ...wepay.ClientOptions) (pay, keys *wechat, c *apiv2.Client) {
	t.Helper()
	pay, keys = serve(t, rows[wepay.PayBank].good(wepay.PayBank)), serve(t, risk)
	m := able(t, pay.URL)
	m.SignType = wepay.HMACSHA256 // which the calls of the bank do not take
	options := first(given)
	options.RiskEndpoint = keys.URL
	return pay, keys, client(t, m, options)
}

func payBank(t *testing.T, c *apiv2.Client) error {
	t.Helper()
	_, err := c.Do(t.Context(), wepay.PayBank, wepay.NewFields(rows[wepay.PayBank].in))
	return err
}

func TestBankKeyRequest(t *testing.T) {
	pay, keys, c := bank(t, withBankKey(nil))
	if err := payBank(t, c); err != nil {
		t.Fatal(err)
	}
	if len(pay.asked()) != 1 || len(pay.of(payBankPath)) != 1 || len(keys.asked()) != 1 || len(keys.of(bankKeyPath)) != 1 {
		t.Fatalf("asked %v and %v", pay.asked(), keys.asked())
	}
	got := keys.asked()[0].fields
	var names []string
	for _, field := range got {
		names = append(names, field.Name)
	}
	if want := "mch_id nonce_str sign sign_type"; strings.Join(names, " ") != want || got.Get("sign_type") != "MD5" || got.Get("mch_id") != "1900000109" {
		t.Errorf("the key was asked for with %v, want %s", got, want)
	}
	if err := apiv2.Verify(got, key); err != nil || len(got.Get("sign")) != 32 {
		t.Errorf("the key was asked for with %v", err)
	}
}

// What is sent opens with the bank's private key alone.
func TestBankEncryption(t *testing.T) {
	pay, _, c := bank(t, withBankKey(nil))
	for range 2 {
		if err := payBank(t, c); err != nil {
			t.Fatal(err)
		}
	}
	all := pay.asked()
	for enc, name := range map[string]string{"enc_bank_no": "bank_no", "enc_true_name": "true_name"} {
		want := rows[wepay.PayBank].in[name]
		sealed, err := base64.StdEncoding.DecodeString(all[0].fields.Get(enc))
		if err != nil {
			t.Fatal(err)
		}
		text, err := rsa.DecryptOAEP(sha1.New(), nil, bankPrivateKey(), sealed, nil)
		if err != nil || string(text) != want {
			t.Errorf("%s opens to %q, %v, want %q", enc, text, err, want)
		}
		if all[0].fields.Get(enc) == all[1].fields.Get(enc) {
			t.Errorf("%s is the same twice: it can be guessed", enc)
		}
	}
}

// Card and name are nowhere in clear: not on the wire, nor in any error.
func TestBankKeepsThePayee(t *testing.T) {
	row := rows[wepay.PayBank]
	leaks := func(t *testing.T, where, text string) {
		t.Helper()
		for _, secret := range []string{row.in["bank_no"], row.in["true_name"], base64.StdEncoding.EncodeToString([]byte(row.in["bank_no"]))} {
			if strings.Contains(text, secret) {
				t.Errorf("%s tells %s", where, secret)
			}
		}
	}
	for name, a := range map[string]answer{
		"done": row.good(wepay.PayBank), "refused": says(row.refusal("NOTENOUGH")), "no answer": status(502, ""),
		"another": says(row.text(row.answered(map[string]string{"partner_trade_no": "x"}))), "reset": reset,
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, withBankKey(a))
			if _, err := calls(t, able(t, server.URL), wepay.PayBank, nil); err != nil {
				leaks(t, "the error", err.Error())
			}
			for _, r := range server.asked() {
				leaks(t, "the wire", string(r.body)+r.URL.String())
			}
		})
	}
	for name, changes := range map[string]map[string]string{
		"an odd name":   {"true_name": "张三丰\x01"},
		"a long name":   {"true_name": "张三丰" + strings.Repeat("a", 64)},
		"an odd card":   {"bank_no": "6225881234567890x"},
		"a long card":   {"bank_no": "6225881234567890" + strings.Repeat("0", 64)},
		"without a sum": {"amount": ""},
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, withBankKey(row.good(wepay.PayBank)))
			_, err := calls(t, able(t, server.URL), wepay.PayBank, changes)
			var field *wepay.FieldError
			if !errors.As(err, &field) || len(server.asked()) != 0 {
				t.Fatalf("got %v, %d requests", err, len(server.asked()))
			}
			leaks(t, "the error", err.Error())
		})
	}
}

func TestBankKeyIsFetchedOnce(t *testing.T) {
	gate := make(chan struct{})
	_, keys, c := bank(t, func(w http.ResponseWriter, r asked) {
		<-gate
		withBankKey(nil)(w, r)
	})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := c.Do(context.Background(), wepay.PayBank, wepay.NewFields(rows[wepay.PayBank].in)); err != nil {
				t.Error(err)
			}
		})
	}
	close(gate)
	wg.Wait()
	if n := len(keys.asked()); n != 1 {
		t.Errorf("the key was fetched %d times", n)
	}
}

func TestBankKeyExpires(t *testing.T) {
	now := newClock()
	_, keys, c := bank(t, withBankKey(nil), wepay.ClientOptions{Now: now.now})
	for _, step := range []struct {
		turn time.Duration
		want int
	}{{0, 1}, {time.Hour, 1}, {23*time.Hour - time.Second, 1}, {time.Second, 2}, {24*time.Hour - time.Second, 2}, {time.Second, 3}} {
		now.turn(step.turn)
		if err := payBank(t, c); err != nil {
			t.Fatal(err)
		}
		if n := len(keys.asked()); n != step.want {
			t.Fatalf("after %s more the key was fetched %d times, want %d", step.turn, n, step.want)
		}
	}
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func pkix(t *testing.T, public any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return pemOf("PUBLIC KEY", der)
}

// An invalid key is not cached, and no payout is sent with it: the call may
// be made again.
func TestBankKeyForms(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	short := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 1015, 1), E: 65537}
	for name, form := range map[string]struct {
		text string
		ok   bool
	}{
		"PKCS #1":           {bankKeyPEM(), true},
		"PKCS #1 on CR LF":  {strings.ReplaceAll(bankKeyPEM(), "\n", "\r\n"), true},
		"PKIX":              {pkix(t, &bankPrivateKey().PublicKey), true},
		"PKIX as PKCS #1":   {strings.ReplaceAll(pkix(t, &bankPrivateKey().PublicKey), "PUBLIC KEY", "RSA PUBLIC KEY"), true},
		"no PEM":            {"x", false},
		"PEM of nothing":    {pemOf("RSA PUBLIC KEY", nil), false},
		"PEM of anything":   {pemOf("RSA PUBLIC KEY", []byte("anything")), false},
		"cut short":         {bankKeyPEM()[:200], false},
		"of another kind":   {pkix(t, &ec.PublicKey), false},
		"too short":         {pemOf("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(short)), false},
		"too short as PKIX": {pkix(t, short), false},
	} {
		t.Run(name, func(t *testing.T) {
			give := form.text
			pay, keys, c := bank(t, func(w http.ResponseWriter, r asked) {
				says(document(reply(map[string]string{"pub_key": give})))(w, r)
			})
			err := payBank(t, c)
			if form.ok {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, wepay.Again)
			if !errors.Is(err, wepay.ErrNoAnswer) || len(pay.asked()) != 0 {
				t.Errorf("got %v after %d payouts, want ErrNoAnswer", err, len(pay.asked()))
			}
			give = bankKeyPEM()
			if err := payBank(t, c); err != nil || len(keys.asked()) != 2 {
				t.Errorf("with a good key: %v, asked %d times", err, len(keys.asked()))
			}
		})
	}
}

// Who gives up does not take the key from the others who wait for it.
func TestBankKeyOutlivesTheFirstCaller(t *testing.T) {
	gate := make(chan struct{})
	_, keys, c := bank(t, func(w http.ResponseWriter, r asked) {
		<-gate
		withBankKey(nil)(w, r)
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Do(ctx, wepay.PayBank, wepay.NewFields(rows[wepay.PayBank].in)); !errors.Is(err, context.Canceled) || !errors.Is(err, wepay.ErrNoAnswer) {
		t.Errorf("got %v, want ErrNoAnswer for a context that was cancelled", err)
	}
	close(gate)
	if err := payBank(t, c); err != nil || len(keys.asked()) != 1 {
		t.Errorf("%v, asked %d times", err, len(keys.asked()))
	}
}

package apiv2_test

import (
	"crypto/aes"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// sealBlocks encrypts whole blocks as WeChat does, whatever is in them.
func sealBlocks(text []byte, key string) string {
	digest := md5.Sum([]byte(key))
	block, err := aes.NewCipher([]byte(hex.EncodeToString(digest[:])))
	if err != nil {
		panic(err)
	}
	sealed := make([]byte, len(text))
	for i := 0; i < len(text); i += aes.BlockSize {
		block.Encrypt(sealed[i:], text[i:])
	}
	return base64.StdEncoding.EncodeToString(sealed)
}

// seal pads and encrypts a text as WeChat does.
func seal(text, key string) string {
	padding := aes.BlockSize - len(text)%aes.BlockSize
	return sealBlocks([]byte(text+strings.Repeat(string(rune(padding)), padding)), key)
}

// refundText is what is within the vectors' refund notification.
func refundText(t testing.TB) string { return vectors(t)["V25"].Base }

// notified is a refund notification around what was sealed.
func notified(reqInfo, more string) string {
	return "<xml><return_code>SUCCESS</return_code><appid>wx00112233445566aa</appid><mch_id>1900000109</mch_id>" +
		"<nonce_str>c50f030632e42bde8194758ef8240029</nonce_str>" + more + "<req_info>" + reqInfo + "</req_info></xml>"
}

// V24 to V27: the key and the cipher, from a second implementation.
func TestSealVectors(t *testing.T) {
	for id, keyID := range map[string]string{"V25": "V24", "V27": "V26"} {
		v := vectors(t)[id]
		if got := seal(v.Base, v.Key); got != v.Result {
			t.Errorf("%s: got %s", id, got)
		}
		digest := md5.Sum([]byte(v.Key))
		if got := hex.EncodeToString(digest[:]); got != vectors(t)[keyID].Result {
			t.Errorf("%s: the AES key is %s", keyID, got)
		}
	}
}

// errForged is the one error of all forgeries: which step it failed at would
// help whoever forges.
func errForged(t *testing.T) string {
	t.Helper()
	_, err := read(testdata(t, "v25.xml"), otherKey)
	if !errors.Is(err, wepay.ErrSignature) {
		t.Fatalf("another key: got %v, want ErrSignature", err)
	}
	return err.Error()
}

func TestRefundForgeries(t *testing.T) {
	text := refundText(t)
	inner := func(old, new string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("there is no %s", old)
		}
		return seal(strings.Replace(text, old, new, 1), key)
	}
	genuine := seal(text, key)
	raw, err := base64.StdEncoding.DecodeString(genuine)
	if err != nil {
		t.Fatal(err)
	}
	padded := func(padding string) string {
		plain := text + strings.Repeat(" ", 2*aes.BlockSize-len(text)%aes.BlockSize-len(padding))
		return sealBlocks([]byte(plain+padding), key)
	}
	for name, reqInfo := range map[string]string{
		"no base64":                   "%%%%",
		"base64 without its end":      strings.TrimRight(genuine, "="),
		"base64 of URLs":              strings.NewReplacer("+", "-", "/", "_").Replace(genuine),
		"15 bytes":                    base64.StdEncoding.EncodeToString(raw[:15]),
		"one byte short":              base64.StdEncoding.EncodeToString(raw[:len(raw)-1]),
		"without the last block":      base64.StdEncoding.EncodeToString(raw[:len(raw)-16]),
		"a block more":                base64.StdEncoding.EncodeToString(append(raw[:len(raw):len(raw)], raw[:16]...)),
		"in clear":                    base64.StdEncoding.EncodeToString([]byte(text + strings.Repeat("\x01", 16-len(text)%16))),
		"another merchant's":          seal(text, otherKey),
		"padding of 0":                padded("\x00"),
		"padding of 17":               padded(strings.Repeat("\x11", 17)),
		"padding that is not alike":   padded("\x01\x02"),
		"padding of 255":              padded("\xff"),
		"no XML":                      seal("x", key),
		"an empty root":               seal("<root></root>", key),
		"V27's text":                  seal("<root></root>   ", key),
		"another root":                seal(strings.NewReplacer("<root>", "<xml>", "</root>", "</xml>").Replace(text), key),
		"a document type":             inner("<root>", "<!DOCTYPE root><root>"),
		"an element twice":            inner("</root>", "<refund_fee>1</refund_fee></root>"),
		"no refund_id":                inner("<refund_id><![CDATA[50000000000202001010000000001]]></refund_id>", ""),
		"an empty refund_id":          inner("[50000000000202001010000000001]", "[]"),
		"a refund_id of 33":           inner("[50000000000", "[5000000000000000"),
		"an odd refund_id":            inner("[50000000000", "[5 "),
		"something after the root":    seal(text+"x", key),
		"a text that is not UTF-8":    inner("招商", "\xd5\xd0"),
		"a text with a control digit": inner("招商", "\x01"),
	} {
		t.Run(name, func(t *testing.T) {
			n, err := read([]byte(notified(reqInfo, "")), key)
			if !errors.Is(err, wepay.ErrSignature) || n != nil {
				t.Fatalf("got %v, %v, want ErrSignature", n, err)
			}
			if err.Error() != errForged(t) {
				t.Errorf("the error is %q, another forgery's is %q", err, errForged(t))
			}
		})
	}
}

// Any character of req_info that is another makes it another message.
func TestRefundCharacterChanged(t *testing.T) {
	genuine := seal(refundText(t), key)
	for i := range genuine {
		for _, c := range []byte("AB=") {
			if genuine[i] == c {
				continue
			}
			changed := genuine[:i] + string(c) + genuine[i+1:]
			if n, err := read([]byte(notified(changed, "")), key); !errors.Is(err, wepay.ErrSignature) || n != nil {
				t.Fatalf("character %d as %c: got %v, %v, want ErrSignature", i, c, n, err)
			}
		}
	}
}

// Both kinds may come to one URL, and neither passes for the other.
func TestRefundAndPayment(t *testing.T) {
	paid := string(testdata(t, "v20.xml"))
	sealed := "<req_info>" + seal(refundText(t), otherKey) + "</req_info>"
	for name, body := range map[string]string{
		"a payment with a forged req_info":  strings.Replace(paid, "<appid>", sealed+"<appid>", 1),
		"a refund that is signed, unsealed": signed(payment(map[string]string{"refund_id": "5", "out_refund_no": "R1"}), wepay.MD5, key),
		"a refund without its req_info":     strings.NewReplacer("<req_info>", "<other>", "</req_info>", "</other>").Replace(string(testdata(t, "v25.xml"))),
		"a refund with return_code FAIL":    strings.Replace(string(testdata(t, "v25.xml")), "SUCCESS", "FAIL", 1),
		"a refund without its return_code":  strings.Replace(string(testdata(t, "v25.xml")), "<return_code>SUCCESS</return_code>", "", 1),
		"a refund with req_info twice":      notified(seal(refundText(t), key), "<req_info>x</req_info>"),
		"a refund under another key":        notified(seal(refundText(t), otherKey), ""),
	} {
		t.Run(name, func(t *testing.T) {
			if n, err := read([]byte(body), key); err == nil || n != nil {
				t.Errorf("got %v", n)
			}
		})
	}
}

// Run it for longer with
//
//	go test ./wepay/apiv2 -run '^$' -fuzz '^FuzzNotification$' -fuzztime 2m
func FuzzNotification(f *testing.F) {
	for _, file := range []string{"v20.xml", "v21.xml", "v22.xml", "v25.xml"} {
		f.Add(testdata(f, file))
	}
	f.Add([]byte(notified(seal("<root></root>   ", key), "")))
	wechat := newBooks(booked(nil))
	f.Fuzz(func(t *testing.T, body []byte) {
		unverified, err := apiv2.ReadNotification(body)
		if err != nil {
			if !errors.Is(err, wepay.ErrMalformed) || unverified != nil {
				t.Fatalf("got %v, %v", unverified, err)
			}
			return
		}
		recipient := unverified.Recipient()
		n, err := wechat.client(merchant("https://wechat.invalid")).Verify(t.Context(), unverified)
		if err != nil {
			if n != nil || !slices.ContainsFunc(
				[]error{wepay.ErrSignature, wepay.ErrUnsigned, wepay.ErrNotPayment, wepay.ErrUnconfirmed, wepay.ErrAmbiguous},
				func(reason error) bool { return errors.Is(err, reason) }) {
				t.Fatalf("got %v, %v", n, err)
			}
			return
		}
		if n.Kind == wepay.Payment && n.Fields.Get("mch_id") != recipient.MchID || n.EventID() == "" {
			t.Fatalf("got %v for %v", n, recipient)
		}
		// What is told of must be what was told: any other amount is forged.
		want := map[wepay.Kind]string{wepay.Payment: "5ba27cc3a70db45dd108b53f 2021000063210001", wepay.Refunded: "5ba27cc3a70db45dd108b53f"}[n.Kind]
		if order := n.Fields.Get("out_trade_no"); !slices.Contains(strings.Fields(want), order) {
			t.Fatalf("a forgery of %s passed", order)
		}
	})
}

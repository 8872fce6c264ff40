package apiv2_test

import (
	"crypto/aes"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
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

func TestRefundNotification(t *testing.T) {
	n, err := read(testdata(t, "v25.xml"), key)
	if err != nil {
		t.Fatal(err)
	}
	if n.Kind != wepay.Refunded || n.Merchant == nil || n.Merchant.Name != "shop" {
		t.Errorf("got kind %q of %v", n.Kind, n.Merchant)
	}
	want := wepay.NewFields(map[string]string{
		"appid": "wx00112233445566aa", "mch_id": "1900000109", "nonce_str": "c50f030632e42bde8194758ef8240029", "return_code": "SUCCESS",
		"out_refund_no": "5ba27cc3a112233554444331", "out_trade_no": "5ba27cc3a70db45dd108b53f",
		"refund_account": "REFUND_SOURCE_RECHARGE_FUNDS", "refund_fee": "1100", "refund_id": "50000000000202001010000000001",
		"refund_recv_accout": "招商银行信用卡0403", "refund_request_source": "API", "refund_status": "SUCCESS",
		"settlement_refund_fee": "1100", "settlement_total_fee": "1200", "success_time": "2020-01-01 12:30:00",
		"total_fee": "1200", "transaction_id": "4200000000202001010000000001",
	})
	if !slices.Equal(n.Fields, want) {
		t.Errorf("got %v, want %v", n.Fields, want)
	}
}

// Nothing vouches for what stands outside, so that only who it is for, which
// the key bears out, is passed on.
func TestRefundOuterFields(t *testing.T) {
	body := notified(seal(refundText(t), key),
		"<sub_appid>wx00112233445566bb</sub_appid><sub_mch_id>1900000110</sub_mch_id><return_msg>x</return_msg>"+
			"<refund_fee>1</refund_fee><refund_status>CHANGE</refund_status><attach>x</attach><sign>x</sign>")
	n, err := read([]byte(body), key)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"sub_appid": "wx00112233445566bb", "sub_mch_id": "1900000110", "refund_fee": "1100", "refund_status": "SUCCESS",
	} {
		if got := n.Fields.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"attach", "sign", "return_msg", "req_info"} {
		if _, found := n.Fields.Lookup(name); found {
			t.Errorf("%s is passed on", name)
		}
	}
}

func TestRefundOutcomes(t *testing.T) {
	for name, change := range map[string][2]string{
		"closed":                  {"<refund_status><![CDATA[SUCCESS]]>", "<refund_status><![CDATA[REFUNDCLOSE]]>"},
		"abnormal":                {"<refund_status><![CDATA[SUCCESS]]>", "<refund_status><![CDATA[CHANGE]]>"},
		"without success_time":    {"<success_time><![CDATA[2020-01-01 12:30:00]]></success_time>", "<success_time/>"},
		"of the whole order":      {"<refund_fee><![CDATA[1100]]>", "<refund_fee><![CDATA[1200]]>"},
		"made by hand":            {"[API]", "[VENDOR_PLATFORM]"},
		"with a field of 2031":    {"</root>", "<new_field_of_2031>x</new_field_of_2031></root>"},
		"in one line":             {"<root>\n", "<root>"},
		"whose text ends a block": {"</root>", strings.Repeat(" ", 16-823%16) + "</root>"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(refundText(t), change[0], change[1], 1)
			if text == refundText(t) {
				t.Fatal("nothing was changed")
			}
			if _, err := read([]byte(notified(seal(text, key), "")), key); err != nil {
				t.Error(err)
			}
		})
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
		"nothing":                     "",
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
		"an odd refund_id":            inner("[50000000000", "[5 "),
		"no out_refund_no":            inner("<out_refund_no><![CDATA[5ba27cc3a112233554444331]]></out_refund_no>", ""),
		"an odd out_refund_no":        inner("5ba27cc3a112233554444331", "a b"),
		"no out_trade_no":             inner("<out_trade_no><![CDATA[5ba27cc3a70db45dd108b53f]]></out_trade_no>", ""),
		"no transaction_id":           inner("<transaction_id><![CDATA[4200000000202001010000000001]]></transaction_id>", ""),
		"an odd transaction_id":       inner("[4200000000202001010000000001]", "[4200-]"),
		"no refund_status":            inner("<refund_status><![CDATA[SUCCESS]]></refund_status>", ""),
		"an unknown refund_status":    inner("<refund_status><![CDATA[SUCCESS]]>", "<refund_status><![CDATA[PROCESSING]]>"),
		"no refund_fee":               inner("<refund_fee><![CDATA[1100]]></refund_fee>", ""),
		"refund_fee of nothing":       inner("<refund_fee><![CDATA[1100]]>", "<refund_fee>0"),
		"refund_fee above total_fee":  inner("<refund_fee><![CDATA[1100]]>", "<refund_fee>1201"),
		"no total_fee":                inner("<total_fee><![CDATA[1200]]></total_fee>", ""),
		"mch_id within as well":       inner("</root>", "<mch_id>1900000109</mch_id></root>"),
		"return_code within as well":  inner("</root>", "<return_code>SUCCESS</return_code></root>"),
		"sub_mch_id within":           inner("</root>", "<sub_mch_id>1</sub_mch_id></root>"),
		"something after the root":    seal(text+"x", key),
		"a text that is not UTF-8":    inner("招商", "\xd5\xd0"),
		"a text with a control digit": inner("招商", "\x01"),
		"an element within a text":    inner("招商", "<a>"),
		"a sum that is no number":     inner("<settlement_total_fee><![CDATA[1200]]>", "<settlement_total_fee>1200A"),
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

// The cipher lets blocks be moved about without the key: what comes of it is
// nonsense, or at least tells of the same money.
func TestRefundBlocksMoved(t *testing.T) {
	genuine, err := read(testdata(t, "v25.xml"), key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(seal(refundText(t), key))
	if err != nil {
		t.Fatal(err)
	}
	blocks := slices.Collect(slices.Chunk(raw, aes.BlockSize))
	try := func(name string, moved [][]byte) {
		n, err := read([]byte(notified(base64.StdEncoding.EncodeToString(slices.Concat(moved...)), "")), key)
		if err != nil {
			return
		}
		for _, field := range []string{"refund_fee", "total_fee", "settlement_refund_fee", "settlement_total_fee", "refund_status", "out_trade_no"} {
			if got, want := n.Fields.Get(field), genuine.Fields.Get(field); got != want {
				t.Errorf("%s: %s is %q, was %q", name, field, got, want)
			}
		}
		for _, field := range n.Fields {
			if strings.ContainsAny(field.Value, "<>\n\t") {
				t.Errorf("%s: %s is %q", name, field.Name, field.Value)
			}
		}
	}
	for i := range blocks {
		try(fmt.Sprintf("without block %d", i), slices.Delete(slices.Clone(blocks), i, i+1))
		for j := range blocks {
			over, swapped := slices.Clone(blocks), slices.Clone(blocks)
			over[i] = blocks[j]
			swapped[i], swapped[j] = blocks[j], blocks[i]
			try(fmt.Sprintf("block %d in the place of %d", j, i), over)
			try(fmt.Sprintf("blocks %d and %d swapped", i, j), swapped)
			try(fmt.Sprintf("block %d before %d", j, i), slices.Insert(slices.Clone(blocks), i, blocks[j]))
		}
	}
}

// Both kinds may come to one URL, and neither passes for the other.
func TestRefundAndPayment(t *testing.T) {
	paid := string(testdata(t, "v20.xml"))
	sealed := "<req_info>" + seal(refundText(t), otherKey) + "</req_info>"
	for name, body := range map[string]string{
		"a payment with an empty req_info":  strings.Replace(paid, "<appid>", "<req_info/><appid>", 1),
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

// A refund is told once for each outcome.
func TestRefundEventID(t *testing.T) {
	id := func(old, new string) string {
		n, err := read([]byte(notified(seal(strings.Replace(refundText(t), old, new, 1), key), "")), key)
		if err != nil {
			t.Fatal(err)
		}
		return n.EventID()
	}
	first := id("", "")
	if again := id("<success_time>", "\n<success_time>"); again != first {
		t.Errorf("the same refund is %s and %s", first, again)
	}
	for name, other := range map[string]string{
		"another refund":  id("50000000000202001010000000001", "50000000000202001010000000002"),
		"another outcome": id("<refund_status><![CDATA[SUCCESS]]>", "<refund_status><![CDATA[CHANGE]]>"),
	} {
		if other == first {
			t.Errorf("%s has the same ID", name)
		}
	}
	if n, err := read(testdata(t, "v20.xml"), key); err != nil || n.EventID() == first {
		t.Errorf("a payment of the same order has the ID of its refund, or %v", err)
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
	f.Fuzz(func(t *testing.T, body []byte) {
		unverified, err := apiv2.ReadNotification(body)
		if err != nil {
			if !errors.Is(err, wepay.ErrMalformed) || unverified != nil {
				t.Fatalf("got %v, %v", unverified, err)
			}
			return
		}
		recipient := unverified.Recipient()
		n, err := unverified.Verify(merchant(), key)
		if err != nil {
			if n != nil || !errors.Is(err, wepay.ErrSignature) && !errors.Is(err, wepay.ErrUnsigned) && !errors.Is(err, wepay.ErrNotPayment) {
				t.Fatalf("got %v, %v", n, err)
			}
			return
		}
		if n.Fields.Get("mch_id") != recipient.MchID || n.EventID() == "" {
			t.Fatalf("got %v for %v", n, recipient)
		}
		// What is told of must be what was told: any other amount is forged.
		want := map[wepay.Kind]string{wepay.Payment: "5ba27cc3a70db45dd108b53f 2021000063210001", wepay.Refunded: "5ba27cc3a70db45dd108b53f"}[n.Kind]
		if order := n.Fields.Get("out_trade_no"); !slices.Contains(strings.Fields(want), order) {
			t.Fatalf("a forgery of %s passed", order)
		}
	})
}

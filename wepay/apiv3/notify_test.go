package apiv3

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

func TestVectorsUnderV2Names(t *testing.T) {
	keys := vectorInto[keyVectors](t, "K1")
	key := publicKey(t, keys.PlatformPublicKey)
	for _, c := range []struct {
		notification, mapped string
		kind                 wepay.Kind
		added                map[string]string // of the merchant's set-up
	}{
		{"N1", "M1", wepay.Payment, nil},
		{"N2", "M2", wepay.Refunded, map[string]string{"appid": "wxd678efh567hg6787"}},
		{"N3", "M3", wepay.Payment, nil},
	} {
		t.Run(c.notification, func(t *testing.T) {
			v := vectorInto[notificationVector](t, c.notification)
			u, err := ReadNotification(v.header(), []byte(v.Body))
			if err != nil {
				t.Fatal(err)
			}
			if u.Serial() != v.Headers["Wechatpay-Serial"] {
				t.Errorf("the serial is %s", u.Serial())
			}
			s, err := u.Verify(key, sent)
			if err != nil {
				t.Fatal(err)
			}
			o, err := s.Open(keys.APIv3Key)
			if err != nil {
				t.Fatal(err)
			}
			n := o.Notification(&wepay.Merchant{}, "wxd678efh567hg6787")
			want := vectorInto[map[string]string](t, c.mapped)
			maps.Copy(want, c.added)
			if n.Kind != c.kind || !slices.Equal(n.Fields, wepay.NewFields(want)) || n.Omitted != "" {
				t.Errorf("got %s %v, omitted %q\nwant %s %v", n.Kind, n.Fields, n.Omitted, c.kind, wepay.NewFields(want))
			}
			if string(n.Resource) != v.Plaintext {
				t.Errorf("the resource is %s", n.Resource)
			}
		})
	}
}

// The headers are those of N1, each with one fault.
func TestNotificationHeaders(t *testing.T) {
	s, v := newSender(t), vectorInto[notificationVector](t, "N1")
	probe := vectorInto[notificationVector](t, "N4").Headers["Wechatpay-Signature"]
	set := func(name, value string) func(http.Header) {
		return func(h http.Header) { h.Set(name, value) }
	}
	signature := v.Headers["Wechatpay-Signature"]
	tests := map[string]struct {
		change func(http.Header)
		want   error
	}{
		"as it came":                  {func(http.Header) {}, nil},
		"no Signature-Type":           {func(h http.Header) { h.Del("Wechatpay-Signature-Type") }, nil},
		"identity":                    {set("Content-Encoding", "identity"), nil},
		"gzip":                        {set("Content-Encoding", "gzip"), wepay.ErrMalformed},
		"another Signature-Type":      {set("Wechatpay-Signature-Type", "WECHATPAY2-SM2-WITH-SM3"), wepay.ErrMalformed},
		"a second Signature-Type":     {func(h http.Header) { h.Add("Wechatpay-Signature-Type", "x") }, wepay.ErrMalformed},
		"a probe":                     {set("Wechatpay-Signature", probe), wepay.ErrProbe},
		"signature in base64url":      {set("Wechatpay-Signature", strings.NewReplacer("+", "-", "/", "_").Replace(signature)), wepay.ErrSignature},
		"signature without padding":   {set("Wechatpay-Signature", strings.TrimRight(signature, "=")), wepay.ErrSignature},
		"signature with space":        {set("Wechatpay-Signature", signature+" "), wepay.ErrSignature},
		"signature of another length": {set("Wechatpay-Signature", signature[:len(signature)-4]), wepay.ErrSignature},
		"signature too long":          {set("Wechatpay-Signature", strings.Repeat("A", 2048)), wepay.ErrMalformed},
		"another nonce":               {set("Wechatpay-Nonce", "n6bc43e556b1df283839f053eb02e2bc"), wepay.ErrSignature},
		"nonce that takes a line":     {set("Wechatpay-Nonce", v.Headers["Wechatpay-Nonce"]+"\n"), wepay.ErrSignature},
		"another time":                {set("Wechatpay-Timestamp", "1700000001"), wepay.ErrSignature},
		"old":                         {set("Wechatpay-Timestamp", "1699999699"), wepay.ErrStale},
		"ahead":                       {set("Wechatpay-Timestamp", "1700000301"), wepay.ErrStale},
		"milliseconds":                {set("Wechatpay-Timestamp", "1700000000000"), wepay.ErrMalformed},
		"a time with sign":            {set("Wechatpay-Timestamp", "+1700000000"), wepay.ErrMalformed},
		"a time below nothing":        {set("Wechatpay-Timestamp", "-1700000000"), wepay.ErrMalformed},
		"a time with zero":            {set("Wechatpay-Timestamp", "01700000000"), wepay.ErrMalformed},
		"a time with space":           {set("Wechatpay-Timestamp", "1700000000 "), wepay.ErrMalformed},
		"a time with underscore":      {set("Wechatpay-Timestamp", "1_700000000"), wepay.ErrMalformed},
		"a time too large":            {set("Wechatpay-Timestamp", "99999999999999999999"), wepay.ErrMalformed},
	}
	for _, name := range []string{"Timestamp", "Nonce", "Serial", "Signature"} {
		name = "Wechatpay-" + name
		type test = struct {
			change func(http.Header)
			want   error
		}
		tests["no "+name] = test{func(h http.Header) { h.Del(name) }, wepay.ErrUnsigned}
		tests["empty "+name] = test{set(name, ""), wepay.ErrUnsigned}
		tests["doubled "+name] = test{func(h http.Header) { h.Add(name, h.Get(name)) }, wepay.ErrMalformed}
		tests["doubled, one empty "+name] = test{func(h http.Header) { h.Add(name, "") }, wepay.ErrMalformed}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := v.header()
			test.change(h)
			o, err := s.take(h, []byte(v.Body))
			if !errors.Is(err, test.want) || (err == nil) != (o != nil) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if test.want != nil && !errors.Is(test.want, wepay.ErrProbe) && errors.Is(err, wepay.ErrProbe) {
				t.Error("it is taken for a probe")
			}
		})
	}
}

// Each byte is signed.
func TestNotificationBytes(t *testing.T) {
	s, v := newSender(t), vectorInto[notificationVector](t, "N1")
	indented := new(bytes.Buffer)
	if err := json.Indent(indented, []byte(v.Body), "", " "); err != nil {
		t.Fatal(err)
	}
	flipped := []byte(v.Body)
	flipped[len(flipped)/2] ^= 1
	for name, body := range map[string][]byte{
		"a line feed behind": []byte(v.Body + "\n"), "indented": indented.Bytes(), "one bit": flipped, "empty": nil, "cut": []byte(v.Body[:100]),
	} {
		if o, err := s.take(v.header(), body); !errors.Is(err, wepay.ErrSignature) || o != nil {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestNotificationAge(t *testing.T) {
	s := newSender(t)
	body := []byte(vectorInto[notificationVector](t, "N1").Body)
	for seconds, want := range map[int]error{
		-301: wepay.ErrStale, -300: wepay.ErrStale, -299: nil, 0: nil, 299: nil, 300: wepay.ErrStale, 301: wepay.ErrStale,
	} {
		_, err := s.take(s.header(body, sent.Add(time.Duration(seconds)*time.Second)), body)
		if !errors.Is(err, want) {
			t.Errorf("signed rightly at %d s: got %v, want %v", seconds, err, want)
		}
		if want != nil && !strings.Contains(err.Error(), "its time is "+strconv.Itoa(seconds)+" seconds") {
			t.Errorf("it does not say by how much: %v", err)
		}
	}
}

// A signature of another's is none.
func TestNotificationOfAnother(t *testing.T) {
	s, v := newSender(t), vectorInto[notificationVector](t, "N1")
	u, err := ReadNotification(v.header(), []byte(v.Body))
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]*rsa.PublicKey{"another": &other.PublicKey, "the merchant's own": publicKey(t, s.keys.MerchantPublicKey)} {
		if _, err := u.Verify(key, sent); !errors.Is(err, wepay.ErrSignature) {
			t.Errorf("%s key: got %v", name, err)
		}
	}
}

// What is signed rightly can be wrong all the same.
func TestNotificationContents(t *testing.T) {
	s, plain := newSender(t), vectorInto[notificationVector](t, "N1").Plaintext
	short := base64.StdEncoding.EncodeToString(make([]byte, 15))
	for name, test := range map[string]struct {
		path  string
		value any
		want  error
	}{
		"as it is":                 {"summary", "y", nil},
		"no original_type":         {"resource.original_type", nil, nil},
		"nonce of 11":              {"resource.nonce", "fdasflkja48", wepay.ErrUnreadable},
		"nonce of 13":              {"resource.nonce", "fdasflkja4899", wepay.ErrUnreadable},
		"no nonce":                 {"resource.nonce", nil, wepay.ErrUnreadable},
		"another nonce":            {"resource.nonce", "fdasflkja480", wepay.ErrAPIv3Key},
		"algorithm of ShangMi":     {"resource.algorithm", "AEAD_SM4_GCM", wepay.ErrUnreadable},
		"no algorithm":             {"resource.algorithm", nil, wepay.ErrUnreadable},
		"short":                    {"resource.ciphertext", short, wepay.ErrUnreadable},
		"empty":                    {"resource.ciphertext", "", wepay.ErrUnreadable},
		"a number":                 {"resource.ciphertext", 1234, wepay.ErrUnreadable},
		"no base64":                {"resource.ciphertext", "!", wepay.ErrUnreadable},
		"another associated_data":  {"resource.associated_data", "refund", wepay.ErrAPIv3Key},
		"no associated_data":       {"resource.associated_data", "", wepay.ErrAPIv3Key},
		"no resource":              {"resource", nil, wepay.ErrUnreadable},
		"a resource that is none":  {"resource", []string{"a"}, wepay.ErrUnreadable},
		"another resource_type":    {"resource_type", "plain", nil},
		"no resource_type":         {"resource_type", nil, nil},
		"event_type not known":     {"event_type", "PARKING.ENTER", nil},
		"event_type of a refund":   {"event_type", "REFUND.SUCCESS", nil},
		"no event_type":            {"event_type", nil, nil},
		"event_type that is none":  {"event_type", map[string]any{}, nil},
		"original_type of another": {"resource.original_type", "refund", nil},
	} {
		t.Run(name, func(t *testing.T) {
			body := s.body("TRANSACTION.SUCCESS", "transaction", plain, map[string]any{test.path: test.value})
			if o, err := s.take(s.header(body, sent), body); !errors.Is(err, test.want) || (err == nil) != (o != nil) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func TestNotificationBodies(t *testing.T) {
	s := newSender(t)
	right := string(s.body("TRANSACTION.SUCCESS", "transaction", vectorInto[notificationVector](t, "N1").Plaintext, nil))
	for name, body := range map[string]string{
		"empty": "", "white": " \n", "null": "null", "an array": "[" + right + "]", "a text": `"a"`,
		"something behind": right + "{}", "a zero byte behind": right + "\x00", "cut": right[:len(right)-1],
		"event_type twice": strings.Replace(right, "{", `{"event_type":"REFUND.SUCCESS",`, 1),
		"resource twice":   strings.Replace(right, "{", `{"resource":{},`, 1),
		"twice, escaped":   strings.Replace(right, "{", `{"event\u005ftype":"REFUND.SUCCESS",`, 1),
		"nonce twice":      strings.Replace(right, `"nonce"`, `"nonce":"fdasflkja489","nonce"`, 1),
		"no UTF-8":         strings.Replace(right, `"summary":"x"`, "\"summary\":\"\xff\"", 1),
		"deep":             strings.Replace(right, `"x"`, strings.Repeat("[", 30000)+strings.Repeat("]", 30000), 1),
		"xml":              "<xml><return_code>SUCCESS</return_code></xml>",
	} {
		if o, err := s.take(s.header([]byte(body), sent), []byte(body)); !errors.Is(err, wepay.ErrUnreadable) || o != nil {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := s.take(s.header([]byte(" "+right+"\n"), sent), []byte(" "+right+"\n")); err != nil {
		t.Errorf("white space around it: %v", err)
	}
}

func TestNotificationUnderAnotherKey(t *testing.T) {
	s, v := newSender(t), vectorInto[notificationVector](t, "N1")
	u, err := ReadNotification(v.header(), []byte(v.Body))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := u.Verify(&s.key.PublicKey, sent)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{strings.ToLower(s.keys.APIv3Key), "", "short", s.keys.APIv3Key + "x"} {
		if _, err := sealed.Open(key); !errors.Is(err, wepay.ErrAPIv3Key) {
			t.Errorf("%q: got %v", key, err)
		}
		account := NewKeyRing(&wepay.Merchant{APIv3Key: key}, nil, wepay.ClientOptions{})
		for range 2 {
			if _, err := account.Open(sealed); !errors.Is(err, wepay.ErrAPIv3Key) {
				t.Errorf("an account of %q: got %v", key, err)
			}
		}
	}
	if _, err := sealed.Open(s.keys.APIv3Key); err != nil {
		t.Errorf("the right key after them: %v", err)
	}
}

package apiv3_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
)

var authorizationPairs = regexp.MustCompile(`^WECHATPAY2-SHA256-RSA2048 mchid="([0-9]+)",nonce_str="([0-9A-Z]{16,32})",signature="([^"]{344})",timestamp="([0-9]{10})",serial_no="([0-9A-F]{40})"$`)

// verifies says whether a signature is on a message.
func verifies(key *rsa.PublicKey, message, signature string) bool {
	raw, err := base64.StdEncoding.DecodeString(signature)
	digest := sha256.Sum256([]byte(message))
	return err == nil && rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], raw) == nil
}

// What is signed is what is sent, in the form that the vectors have.
func TestVectorsOfRequests(t *testing.T) {
	k := vectorKeys(t)
	for _, id := range []string{"R1", "R2", "R3"} {
		v := vectors(t)[id]
		if message := fmt.Sprintf("%s\n%s\n%s\n%s\n%s\n", v.Method, v.URL, v.Timestamp, v.Nonce, v.Body); message != v.Message || !verifies(publicKey(t, k.MerchantPublic), message, v.Signature) {
			t.Errorf("%s: the message is %q", id, message)
		}
		if id == "R3" {
			continue // an upload, whose message TestPassUpload has
		}
		sent := false
		w := newWechat(t, func(_ http.ResponseWriter, r *http.Request) answer {
			body, _ := io.ReadAll(r.Body)
			pairs := authorizationPairs.FindStringSubmatch(r.Header.Get("Authorization"))
			if pairs == nil {
				t.Fatalf("%s: %s", id, r.Header.Get("Authorization"))
			}
			message := fmt.Sprintf("%s\n%s\n%s\n%s\n%s\n", r.Method, r.RequestURI, pairs[4], pairs[2], body)
			if r.Method != v.Method || r.RequestURI != v.URL || string(body) != v.Body || pairs[4] != v.Timestamp || pairs[1] != k.MchID ||
				!verifies(&privateKey(t, testdata(t, "../certificates/key.pem")).PublicKey, message, pairs[3]) {
				t.Errorf("%s: sent %q, %s", id, message, pairs[0])
			}
			sent = true
			return answer{status: -1}
		})
		m := w.merchant(t)
		m.MchID, m.Passthrough = k.MchID, true
		in := apiv3.PassRequest{Method: v.Method, Path: v.URL}
		if v.Body != "" {
			in.Body = []byte(v.Body)
		}
		_, _ = w.client(t, m, wepay.ClientOptions{Now: func() time.Time { return time.Unix(1700000000, 0) }}).Pass(t.Context(), in)
		if !sent {
			t.Errorf("%s: nothing was sent", id)
		}
	}
}

// A nonce is used once.
func TestNonces(t *testing.T) {
	seen := make(map[string]bool)
	w := newWechat(t, func(_ http.ResponseWriter, r *http.Request) answer {
		seen[authorizationPairs.FindStringSubmatch(r.Header.Get("Authorization"))[2]] = true
		return answer{body: aLink}
	})
	c := w.client(t, w.merchant(t))
	for range 20 {
		if _, err := c.Do(t.Context(), wepay.PlaceOrder, order("ORDER-0001", "1")); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) != 20 {
		t.Errorf("%d nonces in 20 requests", len(seen))
	}
}

// What a request has to say besides.
func TestHeaders(t *testing.T) {
	w := newWechat(t, func(_ http.ResponseWriter, r *http.Request) answer {
		want := map[string]string{"Accept": "application/json", "Content-Type": "application/json", "Wechatpay-Serial": vectorKeys(t).PublicKeyID}
		if r.Method == http.MethodGet {
			want["Content-Type"] = ""
		}
		for name, value := range want {
			if r.Header.Get(name) != value {
				t.Errorf("%s %s is %q", r.Method, name, r.Header.Get(name))
			}
		}
		if r.Header.Get("User-Agent") == "" || r.Header.Get("Idempotency-Key") != "" {
			t.Errorf("got %v", r.Header)
		}
		return answer{body: `{"code_url":"x","out_trade_no":"ORDER-0001","trade_state":"NOTPAY"}`}
	})
	c := w.client(t, w.merchant(t))
	for op, in := range map[wepay.Operation]wepay.Fields{wepay.PlaceOrder: order("ORDER-0001", "1"), wepay.QueryOrder: aQuery} {
		if _, err := c.Do(t.Context(), op, in); err != nil {
			t.Error(err)
		}
	}
}

// The parameters of a client are signed in the form of C1 and C2.
func TestVectorsOfClients(t *testing.T) {
	merchantKey := publicKey(t, vectorKeys(t).MerchantPublic)
	own := &privateKey(t, testdata(t, "../certificates/key.pem")).PublicKey
	const prepayID = "wx201410272009395522657a690389285100"
	messages := map[string]func(appID, at, nonce string) string{
		"C1": func(appID, at, nonce string) string {
			return appID + "\n" + at + "\n" + nonce + "\nprepay_id=" + prepayID + "\n"
		},
		"C2": func(appID, at, nonce string) string { return appID + "\n" + at + "\n" + nonce + "\n" + prepayID + "\n" },
	}
	for id, published := range clientVectors {
		if message := messages[id](published.appID, "1700000000", "5K8264ILTKCH16CQ2502SI8ZNMTM67VS"); !verifies(merchantKey, message, published.signature) {
			t.Errorf("%s is not on %q", id, message)
		}
	}
	w := newWechat(t, func(http.ResponseWriter, *http.Request) answer {
		return answer{body: `{"prepay_id":"` + prepayID + `"}`}
	})
	for _, test := range []struct {
		env                                       wepay.Env
		sub, id, appID, at, nonce, sign, packageV string
	}{
		{wepay.H5, "", "C1", "appId", "timeStamp", "nonceStr", "paySign", "prepay_id=" + prepayID},
		{wepay.WXAPP, "wxaabbccddeeff0011", "C1", "appId", "timestamp", "nonceStr", "paySign", "prepay_id=" + prepayID},
		{wepay.APP, "", "C2", "appid", "timestamp", "noncestr", "sign", "Sign=WXPay"},
		{wepay.APP, "wxaabbccddeeff0011", "C2", "appid", "timestamp", "noncestr", "sign", "Sign=WXPay"},
	} {
		m := w.merchant(t)
		m.Env = test.env
		ours := m.AppID
		if test.sub != "" {
			m.Type, m.SubMchID, m.SubAppID, ours = wepay.Partner, subMchID, test.sub, test.sub
		}
		got, err := w.client(t, m).Do(t.Context(), wepay.PlaceOrder, order("ORDER-0001", "1"))
		if err != nil {
			t.Fatal(err)
		}
		message := messages[test.id](ours, strconv.FormatInt(start.Unix(), 10), got.Get(test.nonce))
		if got.Get(test.appID) != ours || got.Get(test.at) != strconv.FormatInt(start.Unix(), 10) || len(got.Get(test.nonce)) > 32 ||
			got.Get("package") != test.packageV || !verifies(own, message, got.Get(test.sign)) {
			t.Errorf("%s: got %v", test.env, got)
		}
	}
}

// clientVectors are C1 and C2.
var clientVectors = map[string]struct{ appID, signature string }{
	"C1": {"wxd678efh567hg6787", "vO7MN1Ns9GKWN114GZ0GtzY9OOtz3y3Rq6wIKzG67KPmQG9oYl2tEiwykbvAqYnBXUbLX+eI8kTyJrCdJmsW7X78m4JP5Qi6BYyfTrQSqQq0b81XPq/8Mia0Iwnsq1g3uCZq23HJJyZT41a0dAjQTVYcCjqD78LMaF56omx5rGoF1iCAw0Gfm2f9sfSwt/bkMnBzX48AyvD8raQvSUG2O/o+OXWib2T8tlcgwMDVom0expHKRyuncPGPZpm5QqQ/qxugx9zT8gapBtSDwDsuAO7M+tgUXwAwnILyR+D/MX7xN2kc1kZ2lPJzdMYTzoH9TgbGcNz2W25Vzkp5TSKK9g=="},
	"C2": {"wx8888888888888888", "OS1zAjCOSjWv2nDXkmutWLRv5MLr1y9VJ785L9d8P9sDFyBq5YDZytT/HcVw4yuAis5qtJQKuYqnoNOQHwBOwbb9roUdsjaaNMh/Cx9EEIzH07d45HNlCUCd1Aoic3umdF+/IQKXtSWEpwlWXC3YnAtaduDN20uInXz0UKj83iXYU5VYJx40OG0xHpyPXgBXU1k2q7k/HNMbc0cYWyBmBRSU/HhU3/59EHE++eho/7WwC7Cl607Xu/7xamT4rUuJEHmqU//HbeUsCDRzRcig/qjd5prBUVdRKJxzJ4JhU2JfDnYDq6wXFLwMBUBS85o0lrhmRSbUgjv7uHCgP4Q2aQ=="},
}

// A1 and A2 are replies as WeChat signs them.
func TestVectorsOfReplies(t *testing.T) {
	for id, test := range map[string]struct {
		op     wepay.Operation
		in     wepay.Fields
		status int
	}{
		"A1": {wepay.PlaceOrder, order("ORDER-0001", "1"), 200},
		"A2": {wepay.CloseOrder, aQuery, 204},
	} {
		v := vectors(t)[id]
		headers := make(map[string][]string)
		for name, value := range v.Headers {
			headers[name] = []string{value}
		}
		w := newWechat(t, func(http.ResponseWriter, *http.Request) answer {
			return answer{status: test.status, body: v.Body, header: headers}
		})
		c := w.client(t, w.merchant(t), wepay.ClientOptions{Now: func() time.Time { return time.Unix(1700000000, 0) }})
		if _, err := c.Do(t.Context(), test.op, test.in); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// O1 is what a field for WeChat looks like, and ours opens with the same key.
func TestVectorsOfFields(t *testing.T) {
	v := vectors(t)["O1"]
	key := wechatsKey(t)
	opens := func(sealed string) string {
		raw, err := base64.StdEncoding.DecodeString(sealed)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := rsa.DecryptOAEP(sha1.New(), nil, key, raw, nil)
		if err != nil {
			t.Fatal(err)
		}
		return string(plain)
	}
	if got := opens(v.Ciphertext); got != v.Plaintext {
		t.Errorf("O1 opens to %q", got)
	}
	var sent string
	w := newWechat(t, func(_ http.ResponseWriter, r *http.Request) answer {
		body, _ := io.ReadAll(r.Body)
		sent = regexp.MustCompile(`"user_name":"([^"]+)"`).FindStringSubmatch(string(body))[1]
		return answer{body: `{"out_bill_no":"TR1","transfer_bill_no":"1","state":"ACCEPTED"}`}
	})
	m := w.merchant(t)
	m.Payouts = true
	in := with(transfer("TR1", "200000"), "re_user_name", v.Plaintext)
	if _, err := w.client(t, m).Do(t.Context(), wepay.Transfer, in); err != nil {
		t.Fatal(err)
	}
	if got := opens(sent); got != v.Plaintext {
		t.Errorf("ours opens to %q", got)
	}
}

package apiv3_test

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
)

// heard is what WeChat got of a request.
type heard struct{ body, serial string }

// hearing is a WeChat that keeps what it is asked, and its private key.
func hearing(t testing.TB) (w *wechat, last func() heard, key *rsa.PrivateKey) {
	t.Helper()
	var got heard
	w = newWechat(t, func(_ http.ResponseWriter, r *http.Request) answer {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got = heard{string(body), r.Header.Get("Wechatpay-Serial")}
		pairs := authorizationPairs.FindStringSubmatch(r.Header.Get("Authorization"))
		message := r.Method + "\n" + r.RequestURI + "\n" + pairs[4] + "\n" + pairs[2] + "\n" + got.body + "\n"
		if !verifies(&privateKey(t, testdata(t, "../certificates/key.pem")).PublicKey, message, pairs[3]) || r.ContentLength != int64(len(body)) {
			t.Errorf("what is signed is not what is sent: %s", got.body)
		}
		return answer{body: "{}"}
	})
	return w, func() heard { return got }, privateKey(t, []byte(w.keys.PlatformPrivate))
}

func readAll(t testing.TB, body io.ReadCloser) string {
	t.Helper()
	text, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// passing is a merchant that passes calls on.
func (s *wechat) passing(t testing.TB) *wepay.Merchant {
	m := s.merchant(t)
	m.Passthrough = true
	return m
}

var sealedText = regexp.MustCompile(`"[A-Za-z0-9+/]{342}=="`)

// Of a body each {"$encrypt":"text"} is encrypted where it stands, and no other byte
// is changed.
func TestPassEncrypts(t *testing.T) {
	w, last, key := hearing(t)
	m := w.passing(t)
	c := w.client(t, m)
	long := strings.Repeat("字", 71) + "a" // 214 bytes
	for body, test := range map[string]struct {
		sent   string // with ~ for what is encrypted
		plains []string
	}{
		`{"user_name":{"$encrypt":"张三"}}`:                                      {`{"user_name":~}`, []string{"张三"}},
		"{ \"a\" : { \t\"$encrypt\" : \"x\"\r\n } ,\"n\":1.0e+2 , \"b\":0 }\n": {"{ \"a\" : ~ ,\"n\":1.0e+2 , \"b\":0 }\n", []string{"x"}},
		`{"list":[{"$encrypt":"a"},{"n":{"$encrypt":"b"}},[{"$encrypt":"c"}],"$encrypt"],"z":12345678901234567890}`: {
			`{"list":[~,{"n":~},[~],"$encrypt"],"z":12345678901234567890}`, []string{"a", "b", "c"},
		},
		`{"\u0061":{"\u0024encrypt":"\u5f20\"\\\/\n😀"},"b":"\u5f20\/"}`: {`{"\u0061":~,"b":"\u5f20\/"}`, []string{"张\"\\/\n😀"}},
		`{"a":{"$encrypt":"` + long + `"},"a":1}`:                       {},
		`{"a":{"$encrypt":"` + long + `"}}`:                             {`{"a":~}`, []string{long}},
		`{"mchid":"` + mchID + `","sub_orders":[{"mchid":"1","n":{"$encrypt":"x"}}]}`: {
			`{"mchid":"` + mchID + `","sub_orders":[{"mchid":"1","n":~}]}`, []string{"x"},
		},
		`{"a":"{\"$encrypt\":\"x\"}", "Encrypt":{"$encrypted":"x"}, "b":{"encrypt":"x"}}`: {`{"a":"{\"$encrypt\":\"x\"}", "Encrypt":{"$encrypted":"x"}, "b":{"encrypt":"x"}}`, nil},
		strings.Repeat(`{"a":`, 9000) + `{"$encrypt":"deep"}` + strings.Repeat("}", 9000): {strings.Repeat(`{"a":`, 9000) + `~` + strings.Repeat("}", 9000), []string{"deep"}},
	} {
		t.Run(body[:min(len(body), 60)], func(t *testing.T) {
			if test.sent == "" {
				_, err := c.Pass(t.Context(), post("/v3/a", body))
				wantField(t, err, "request")
				return
			}
			passed(t, c, post("/v3/a", body))
			got := last()
			texts := sealedText.FindAllString(got.body, -1)
			if sent := sealedText.ReplaceAllString(got.body, "~"); sent != test.sent || len(texts) != len(test.plains) || got.serial != m.PublicKeyID {
				t.Fatalf("sent %s under %s, want %s", sent, got.serial, test.sent)
			}
			for i, text := range texts {
				if plain, err := apiv3.Decrypt(key, text[1:len(text)-1]); err != nil || plain != test.plains[i] {
					t.Errorf("encrypted %q (%v), want %q", plain, err, test.plains[i])
				}
			}
		})
	}
}

// What cannot be encrypted is not sent, and its place is named without a word of
// what stands there.
func TestPassEncryptsNoOther(t *testing.T) {
	w, _, _ := hearing(t)
	c := w.client(t, w.passing(t))
	const secret = "机密"
	longName := strings.Repeat("n", 300)
	for body, field := range map[string]string{
		`{"$encrypt":"机密"}`:                                "request",
		`{"$encrypt":"机密","a":1}`:                          "request",
		`{"payer":{"name":{"$encrypt":"机密","a":1}}}`:       "/payer/name",
		`{"payer":{"name":{"a":1,"$encrypt":"机密"}}}`:       "/payer/name",
		`{"payer":{"name":{"a":{"b":2},"$encrypt":"机密"}}}`: "/payer/name",
		`{"a":[0,{"$encrypt":12345}]}`:                     "/a/1",
		`{"a":{"$encrypt":null}}`:                          "/a",
		`{"a":{"$encrypt":true}}`:                          "/a",
		`{"a":{"$encrypt":["机密"]}}`:                        "/a",
		`{"a":{"$encrypt":{"$encrypt":"机密"}}}`:             "/a",
		`{"a":{"$encrypt":""}}`:                            "/a",
		`{"a":{"$Encrypt":"机密"}}`:                          "/a",
		`{"a":[{"b":1,"$ENCRYPT":"机密"}]}`:                  "/a/0",
		`{"$Encrypt":"机密"}`:                                "request",
		`{"a/b~":{"$encrypt":""}}`:                         "/a~1b~0",
		`{"` + longName + `":{"$encrypt":""}}`:             "request",
		`{"a":{"$encrypt":"机密","$encrypt":"机密"}}`:          "/a",
		`{"a":{"$encrypt":"机密"`:                            "request",
		`{"a":{"$encrypt":"机密"}`:                           "request",
		`{"a":{"$encrypt":"机密\ud800"}}`:                    "request",
		"{\"a\":{\"$encrypt\":\"\xbb\xfa\xc3\xdc\"}}":      "request",
		`{"a":{"$encrypt":"x"},"b":[{"c":{"$encrypt":"` + strings.Repeat(secret, 36) + `"}}]}`: "/b/0/c",
		`{"` + longName + `":{"$encrypt":"` + strings.Repeat(secret, 36) + `"}}`:               "request",
		`{"mchid":{"$encrypt":"` + mchID + `"}}`:                                               "mchid",
		`{"a":{"sub_mchid":{"$encrypt":"1"}}}`:                                                 "sub_mchid",
		`{"a":[` + strings.Repeat(`{"$encrypt":"x"},`, 2000) + `{"$encrypt":"x"}]}`:            "request",
	} {
		t.Run(body[:min(len(body), 60)], func(t *testing.T) {
			_, err := c.Pass(t.Context(), post("/v3/a", body))
			if wantField(t, err, field); err != nil && (strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "12345") || len(err.Error()) > 500) {
				t.Errorf("the error has what was to be encrypted, or is long: %v", err)
			}
		})
	}
	upload := "--x\r\nContent-Disposition: form-data; name=\"meta\"\r\n\r\n{\"a\":{\"$encrypt\":\"x\"}}\r\n--x--\r\n"
	_, err := c.Pass(t.Context(), apiv3.PassRequest{Method: http.MethodPost, Path: "/v3/a", ContentType: "multipart/form-data; boundary=x", Body: []byte(upload)})
	wantField(t, err, "/a")
	if w.asked() > 0 {
		t.Errorf("%d requests were sent", w.asked())
	}
	var all []string
	for i := range 2000 {
		all = append(all, fmt.Sprintf(`{"$encrypt":"%d"}`, i))
	}
	passed(t, c, post("/v3/a", `{"a":[`+strings.Join(all, ",")+`]}`))
}

// A caller that encrypts some values itself has the others encrypted with the same
// key, or learns that it cannot be.
func TestPassEncryptsWithTheNamedKey(t *testing.T) {
	w, last, _ := hearing(t)
	m := w.passing(t)
	own, _ := m.SigningKey()
	in := post("/v3/a", `{"a":{"$encrypt":"x"}}`)
	for serial, ok := range map[string]bool{"": true, m.PublicKeyID: true, m.PublicKeyID + "1": false, own: false} {
		before := w.asked()
		in.Serial = serial
		_, err := w.client(t, m).Pass(t.Context(), in)
		switch {
		case ok && (err != nil || last().serial != m.PublicKeyID):
			t.Errorf("%s: sent %v, %v", serial, last(), err)
		case !ok && w.asked() > before:
			t.Errorf("%s: it was sent", serial)
		case !ok:
			wantField(t, err, "Wechatpay-Serial")
		}
	}
}

// WeChat reads what is encrypted, by whichever key it is known, and after a new one
// came; a certificate that was taken from the list encrypts nothing any more.
func TestPassEncryptsForWeChat(t *testing.T) {
	everyWay(t, func(t *testing.T, s *shop) {
		if s.merchant.Type == wepay.Partner {
			return // its transfers have another path
		}
		if err := s.wechat.Deposit(mchID, 10_000); err != nil {
			t.Fatal(err)
		}
		s.wechat.NamePayee(openID, "张三")
		transfer := func(number string) {
			t.Helper()
			body := fmt.Sprintf(`{"appid":%q,"out_bill_no":%q,"transfer_scene_id":"1000","openid":%q,"user_name":{"$encrypt":"张三"},"transfer_amount":30,
				"transfer_remark":"奖励","transfer_scene_report_infos":[{"info_type":"活动名称","info_content":"新会员有礼"}]}`, appID, number, openID)
			status, text, _ := passed(t, s.client, post("/v3/fund-app/mch-transfer/transfer-bills", body))
			if status != 200 || !strings.Contains(text, "WAIT_USER_CONFIRM") {
				t.Fatalf("got %d %s", status, text)
			}
			if _, err := s.wechat.ConfirmTransfer(mchID, number); err != nil {
				t.Fatal(err)
			}
			if _, text, _ := passed(t, s.client, get("/v3/fund-app/mch-transfer/transfer-bills/out-bill-no/"+number)); !strings.Contains(text, `"state":"SUCCESS"`) {
				t.Errorf("WeChat read another name: %s", text)
			}
		}
		transfer("T1")
		if s.merchant.PublicKey != nil {
			return
		}
		retired := s.keyRing.Serial()
		s.clock.Advance(time.Hour)
		if _, err := s.wechat.RotateCertificate(mchID); err != nil {
			t.Fatal(err)
		}
		if err := s.keyRing.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s.keyRing.Serial() == retired {
			t.Fatal("the certificate is the old one")
		}
		transfer("T2")
		in := post("/v3/a", `{"a":{"$encrypt":"x"}}`)
		if in.Serial = retired; s.wechat.RetireCertificates(mchID) != nil || s.keyRing.Refresh(t.Context()) != nil {
			t.Fatal("the old certificate is still listed")
		}
		_, err := s.client.Pass(t.Context(), in)
		wantField(t, err, "Wechatpay-Serial")
	})
}

// Without a key of WeChat's nothing is sent, and the same call may be sent again.
func TestPassEncryptsWithoutKey(t *testing.T) {
	w := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return answer{status: 502, body: "x", bare: true} })
	m := w.passing(t)
	m.PublicKey, m.PublicKeyID = nil, ""
	_, err := w.client(t, m).Pass(t.Context(), post("/v3/a", `{"a":{"$encrypt":"x"}}`))
	if failed := wantError(t, err, wepay.Again); !errors.Is(err, wepay.ErrNoAnswer) || failed.Operation != apiv3.Pass {
		t.Errorf("got %v", err)
	}
	for _, r := range w.all {
		if r.URL.Path != "/v3/certificates" {
			t.Errorf("%s was sent", r.URL.Path)
		}
	}
}

// An endpoint that cannot be reached changes nothing of what the next one gets.
func TestPassEncryptsOnceForAllAttempts(t *testing.T) {
	w, last, _ := hearing(t)
	m := w.passing(t)
	m.Endpoints = []string{"http://127.0.0.1:1", w.URL} // nobody listens at the first
	passed(t, w.client(t, m), post("/v3/a", `{"a":{"$encrypt":"x"}}`))
	if got := last(); !sealedText.MatchString(got.body) || got.serial != m.PublicKeyID {
		t.Errorf("the second endpoint got %+v", got)
	}
}

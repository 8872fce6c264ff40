package apiv3_test

import (
	"cmp"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

// A bill is fetched from where WeChat is, whatever the address says. An offer that
// is none, which WeChat signed, will be none the next time.
func TestBillAddress(t *testing.T) {
	at := func(url string) string {
		return `{"hash_type":"SHA1","hash_value":"` + strings.Repeat("0", 40) + `","download_url":"` + url + `"}`
	}
	file := at("https://api.mch.weixin.qq.com/v3/billdownload/file?token=1")
	for _, body := range []string{
		``, `[]`, `{}`, `{"hash_type":"SHA1"}`,
		at("https://api.mch.weixin.qq.com/v3/billdownload/file"),
		at("https://api.mch.weixin.qq.com/v3/billdownload/../billdownload/file?token=1"),
		at("https://api.mch.weixin.qq.com/v3/billdownload%2Ffile?token=1"),
		at("https://api.mch.weixin.qq.com/v3/billdownload/file?token=1 HTTP"),
		at("https://api.mch.weixin.qq.com/pay/downloadbill?token=1"),
		at("https://elsewhere.example.com/v3/bills/file?token=1"),
		at("https://api.mch.weixin.qq.com.example.com/v3/bills/file?token=1"),
		at("https://api.mch.weixin.qq.com@example.com/v3/bills/file?token=1"),
		at("/v3/bills/file?token=1"),
		at("://"),
		strings.Replace(file, "SHA1", "MD5", 1),
		strings.Replace(file, strings.Repeat("0", 40), "", 1),
		strings.Replace(file, strings.Repeat("0", 40), strings.Repeat("0", 39)+"x", 1),
	} {
		w := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return answer{body: body} })
		_, err := readBill(t, w.client(t, w.merchant(t)))
		if failed := wantError(t, err, wepay.Never); !errors.Is(failed, wepay.ErrNoAnswer) || !strings.Contains(err.Error(), "will give the same") {
			t.Errorf("%s: got %v", body, err)
		}
		if w.asked() != 1 {
			t.Errorf("%s: %d requests were sent", body, w.asked())
		}
	}
}

// A path that no document knows is followed when WeChat signed it and it is one of
// WeChat's hosts, or of the endpoint that stands for them; what comes has to have
// the digest, and it is asked for where everything is.
func TestBillAtAnotherPath(t *testing.T) {
	for _, host := range []string{
		"https://api.mch.weixin.qq.com", "https://api2.mch.weixin.qq.com", "https://api.wechatpay.cn:443", "https://apihk.mch.weixin.qq.com", "",
	} {
		for text, want := range map[string]error{aDay: nil, aDay + " ": wepay.ErrMalformed} {
			var w *wechat
			w = newWechat(t, func(_ http.ResponseWriter, r *http.Request) answer {
				if r.URL.Path == "/v3/bill/tradebill" {
					return offer(aDay, cmp.Or(host, w.URL)+"/v3/bills/2031/file?token=a%2Bb&x=1")
				}
				if r.RequestURI != "/v3/bills/2031/file?token=a%2Bb&x=1" || r.Header.Get("Authorization") == "" {
					t.Errorf("asked for %s", r.RequestURI)
				}
				return answer{body: text, bare: true}
			})
			got, err := readBill(t, w.client(t, w.merchant(t)))
			if got != text || !errors.Is(err, want) {
				t.Errorf("%q: got %q, %v, want %v", host, got, err, want)
			}
		}
	}
}

// Before ten the next morning, Beijing time, no bill may be one to come.
func TestBillNotThereYet(t *testing.T) {
	for day, want := range map[string]wepay.Verdict{"20251231": wepay.Done, "20260101": wepay.Later} {
		w := newWechat(t, func(http.ResponseWriter, *http.Request) answer {
			return answer{body: `{"code":"NO_STATEMENT_EXIST","message":"账单不存在"}`, status: 400}
		})
		_, err := w.client(t, w.merchant(t)).Download(t.Context(), wepay.DownloadBill, fields("bill_date", day))
		if failed := wantError(t, err, want); failed.Code != "NO_STATEMENT_EXIST" || failed.Unsigned {
			t.Errorf("%s: got %+v", day, failed)
		}
	}
}

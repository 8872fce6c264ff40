package apiv2_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/billtest"
)

var aBill = billtest.Request()

const aDay = billtest.Day

// A bill is passed on as it stands, be it text or gzip.
func TestBill(t *testing.T) {
	packed := billtest.Zipped(t, aDay)
	tests := []struct {
		name, text string
		gzip       bool
	}{
		{"text", aDay, false},
		{"text without BOM", strings.TrimPrefix(aDay, "\ufeff"), false},
		{"gzip", packed, true},
		{"one byte", "a", false},
		{"large", strings.Repeat(aDay, 100_000), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server := serve(t, says(test.text))
			in := aBill.Clone()
			if test.gzip {
				in.Set("tar_type", "GZIP")
			}
			bill, err := client(t, able(t, server.URL)).Download(t.Context(), wepay.DownloadBill, in)
			if err != nil {
				t.Fatal(err)
			}
			defer bill.Close()
			got, err := io.ReadAll(bill)
			if err != nil || string(got) != test.text || bill.Gzip != test.gzip {
				t.Errorf("got %d bytes, gzip %v, %v, want %d bytes", len(got), bill.Gzip, err, len(test.text))
			}
		})
	}
}

func TestBillAsJSON(t *testing.T) {
	server := serve(t, says(aDay))
	bill, err := client(t, able(t, server.URL)).Download(t.Context(), wepay.DownloadBill, aBill)
	if err != nil {
		t.Fatal(err)
	}
	defer bill.Close()
	var out strings.Builder
	if err := bill.WriteJSON(&out); err != nil || out.String() != "{\"a\":\"1\",\"b\":\"x\"}\n{\"summary\":{\"总交易单数\":\"1\"}}\n" {
		t.Errorf("got %s, %v", out.String(), err)
	}
}

// A refusal comes in clear though gzip was asked for, with its code in the
// message or under another name.
func TestBillRefused(t *testing.T) {
	talk := func(message, code string) string {
		return "<xml><return_code><![CDATA[FAIL]]></return_code><return_msg><![CDATA[" + message + "]]></return_msg><error_code><![CDATA[" + code + "]]></error_code></xml>"
	}
	for text, want := range map[string]wepay.Verdict{
		talk("No Bill Exist", "20002"):       wepay.Done,
		talk("NO Bill Exist", "20002"):       wepay.Done,
		talk("No Bill Exist", ""):            wepay.Done,
		talk("Bill Creating", "20003"):       wepay.Later,
		talk("SYSTEMERROR", "20100"):         wepay.Again,
		talk("invalid bill_type", "20001"):   wepay.Fix,
		talk("data format error", "20001"):   wepay.Fix,
		talk("missing parameter", "20001"):   wepay.Fix,
		talk("SIGN ERROR", "20001"):          wepay.Fix,
		talk("CompressGZip Error", "20004"):  wepay.Later,
		talk("UnCompressGZip Error", "2000"): wepay.Later,
		// The number says it where the text is in no table.
		talk("invalid bill_date", "20001"):                                                     wepay.Fix,
		talk("invalid tar_type, Only GZIP supported", "20001"):                                 wepay.Fix,
		talk("invalid appid", "20001"):                                                         wepay.Fix,
		talk("a message of 2031", "20001"):                                                     wepay.Fix,
		talk("a message of 2031", "20002"):                                                     wepay.Done,
		talk("a message of 2031", "20003"):                                                     wepay.Later,
		talk("当前商户号账单API权限已经关闭", "20007"):                                                      wepay.Fix,
		talk("a message of 2031", "20100"):                                                     wepay.Again,
		talk("a message of 2031", "100"):                                                       wepay.Again,
		talk("Bill Creating", "20002"):                                                         wepay.Later,
		talk("system error", "20003"):                                                          wepay.Again,
		"<xml><return_code>FAIL</return_code><return_msg>invalid bill_date</return_msg></xml>": wepay.Fix,
		// And what is in none is not asked for without end.
		talk("a message of 2031", "20099"): wepay.Fix,
		talk("No Bill Exist", "20099"):     wepay.Fix,
		talk("SYSTEMERROR", "20099"):       wepay.Fix,
	} {
		for _, op := range []wepay.Operation{wepay.DownloadBill, wepay.DownloadFundFlow} {
			t.Run(string(op)+" "+text, func(t *testing.T) {
				server := serve(t, says(text))
				got, err := calls(t, able(t, server.URL), op, map[string]string{"tar_type": "GZIP"})
				failed := wantError(t, err, want)
				if got != nil || failed.Message == "" || errors.Is(err, wepay.ErrNoAnswer) {
					t.Errorf("got %v, %+v, want a refusal", got, failed)
				}
			})
		}
	}
}

// Before ten the next morning, Beijing time, no bill may be one to come.
func TestBillNotThereYet(t *testing.T) {
	server := serve(t, says("<xml><return_code>FAIL</return_code><return_msg>No Bill Exist</return_msg><error_code>20002</error_code></xml>"))
	for at, want := range map[string]wepay.Verdict{
		"2026-01-01T12:00:00+08:00": wepay.Later, "2026-01-02T09:59:59+08:00": wepay.Later, "2026-01-02T10:00:00+08:00": wepay.Done,
	} {
		now, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		c := client(t, able(t, server.URL), wepay.ClientOptions{Now: func() time.Time { return now }})
		_, err = c.Download(t.Context(), wepay.DownloadBill, aBill)
		if failed := wantError(t, err, want); failed.Code != "20002" || failed.Message != "No Bill Exist" {
			t.Errorf("at %s: got %+v", at, failed)
		}
	}
}

// What is neither bill nor refusal comes from something between, and another
// endpoint is asked.
func TestBillNoAnswer(t *testing.T) {
	for name, bad := range map[string]answer{
		"nothing":              says(""),
		"a page":               says("<html><title>502 Bad Gateway</title></html>"),
		"a page with a status": status(502, "<html><title>502 Bad Gateway</title></html>"),
		"a bill with a status": status(500, aDay),
		"reset":                reset,
		"closed at once": func(w http.ResponseWriter, _ asked) {
			w.Header().Set("Content-Length", "1000")
		},
	} {
		t.Run(name, func(t *testing.T) {
			first, second := serve(t, bad), serve(t, says(aDay))
			_, err := calls(t, able(t, first.URL), wepay.DownloadBill, nil)
			wantError(t, err, wepay.Again)
			if !errors.Is(err, wepay.ErrNoAnswer) {
				t.Errorf("got %v, want ErrNoAnswer", err)
			}
			got, err := calls(t, able(t, first.URL, second.URL), wepay.DownloadBill, nil)
			if err != nil || got.Get("bill") != aDay {
				t.Errorf("from the second: got %v, %v", got, err)
			}
		})
	}
}

// A bill that breaks off on the way is not taken for whole.
func TestBillBreaksOff(t *testing.T) {
	half := func(w http.ResponseWriter, _ asked) {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, "a,b\r\n`1,`x\r\n")
	}
	for _, asJSON := range []bool{false, true} {
		bill, err := client(t, able(t, serve(t, half).URL)).Download(t.Context(), wepay.DownloadBill, aBill)
		if err != nil {
			t.Fatal(err)
		}
		if asJSON {
			err = bill.WriteJSON(io.Discard)
		} else {
			_, err = io.Copy(io.Discard, bill)
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("as JSON %v: got %v, want ErrUnexpectedEOF", asJSON, err)
		}
		if err := bill.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestBillEnds(t *testing.T) {
	billtest.Ends(t, func(t *testing.T, bill http.HandlerFunc) wepay.Gateway {
		server := serve(t, func(w http.ResponseWriter, r asked) { bill(w, r.Request) })
		return client(t, able(t, server.URL), wepay.ClientOptions{Timeout: 1})
	})
}

func TestBillNothingIsSent(t *testing.T) {
	server := serve(t, says(aDay))
	billtest.Refuses(t, client(t, able(t, server.URL)), map[string]billtest.Wrong{
		"a kind of another": {Operation: wepay.DownloadFundFlow, In: billtest.Request("account_type", "Fees", "bill_type", "ALL"), Field: "bill_type"},
	})
	if n := len(server.asked()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestBillOfSubMerchants(t *testing.T) {
	server := serve(t, says("<xml><return_code>FAIL</return_code><return_msg>No Bill Exist</return_msg></xml>"))
	billtest.SubMerchants(t, func(t *testing.T, subs []string, in wepay.Fields) (string, error) {
		m := able(t, server.URL)
		m.Type, m.SubMchIDs = wepay.Partner, subs
		before := len(server.asked())
		_, err := client(t, m).Download(t.Context(), wepay.DownloadBill, in)
		if asked := server.asked(); len(asked) > before {
			return asked[before].fields.Get("sub_mch_id"), err
		}
		return "", err
	})
}

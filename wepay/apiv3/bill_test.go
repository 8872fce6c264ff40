package apiv3_test

import (
	"compress/gzip"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
	"github.com/windsome/caddy-wepay/wepay/internal/billtest"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

var aBill = billtest.Request()

// download reads a whole bill.
func (s *shop) download(op wepay.Operation, in wepay.Fields) (text string, packed bool, err error) {
	s.t.Helper()
	bill, err := s.client.Download(s.t.Context(), op, in)
	if err != nil {
		return "", false, err
	}
	all, err := io.ReadAll(iotest.OneByteReader(bill)) // the smallest pieces
	return string(all), bill.Gzip, errors.Join(err, bill.Close())
}

func unzipped(t *testing.T, packed string) string {
	t.Helper()
	r, err := gzip.NewReader(strings.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestBills(t *testing.T) {
	everyWay(t, func(t *testing.T, s *shop) {
		id := s.pay(order("ORDER-0001", "1200"))
		s.clock.Advance(24 * time.Hour)
		text, packed, err := s.download(wepay.DownloadBill, aBill)
		if err != nil || packed || !strings.HasPrefix(text, "\ufeff") || !strings.Contains(text, id) {
			t.Errorf("got %q, packed %v, %v", text, packed, err)
		}
		again, packed, err := s.download(wepay.DownloadBill, with(aBill, "tar_type", "GZIP", "bill_type", "ALL"))
		if err != nil || !packed || unzipped(t, again) != text {
			t.Errorf("packed: got %d bytes, packed %v, %v", len(again), packed, err)
		}
		bill, err := s.client.Download(t.Context(), wepay.DownloadBill, aBill)
		if err != nil {
			t.Fatal(err)
		}
		var lines strings.Builder
		if err := bill.WriteJSON(&lines); err != nil || !strings.Contains(lines.String(), `"订单金额(分)":1200`) || bill.Close() != nil {
			t.Errorf("as JSON: %s, %v", lines.String(), err)
		}
		flow, _, err := s.download(wepay.DownloadFundFlow, with(aBill, "account_type", "Basic"))
		if err != nil || !strings.Contains(flow, "收支金额(元)") {
			t.Errorf("got %q, %v", flow, err)
		}
		wantVerdict := func(day string, code string, verdict wepay.Verdict) {
			_, _, err := s.download(wepay.DownloadBill, fields("bill_date", day))
			if failed := wantError(t, err, verdict); failed.Code != code {
				t.Errorf("%s: got %v", day, err)
			}
		}
		wantVerdict("20251231", "NO_STATEMENT_EXIST", wepay.Done)
		if err := s.wechat.DelayBills(mchID, true); err != nil {
			t.Fatal(err)
		}
		wantVerdict("20260101", "STATEMENT_CREATING", wepay.Later)
		for _, r := range s.wechat.Requests("/v3/bill/tradebill") {
			if r.Fields.Get("bill_date") != "2026-01-01" && r.Fields.Get("bill_date") != "2025-12-31" || r.Fields.Get("sub_mchid") != s.merchant.SubMchID {
				t.Errorf("asked for %v", r.Fields)
			}
		}
	})
}

// A bill of many parts is checked in small memory.
func TestLargeBill(t *testing.T) {
	s := openShop(t, ways[2])
	s.clock.Advance(24 * time.Hour)
	if err := s.wechat.FillBill(mchID, "20260101", 20_000); err != nil {
		t.Fatal(err)
	}
	s.pay(order("ORDER-0001", "1200"))
	for _, packing := range []string{"", "GZIP"} {
		bill, err := s.client.Download(t.Context(), wepay.DownloadBill, with(aBill, "tar_type", packing))
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, bill)
		if err != nil || n < 100_000 || bill.Close() != nil {
			t.Errorf("%q: %d bytes, %v", packing, n, err)
		}
	}
}

// What is not the bill that WeChat's digest is of does not end well, by
// whatever it is read.
func TestBillIsNotWhole(t *testing.T) {
	for _, fault := range []wepaytest.Fault{{Kind: wepaytest.WrongHash, Standing: true}} {
		for _, in := range []wepay.Fields{aBill, with(aBill, "tar_type", "GZIP")} {
			s := openShop(t, ways[2])
			s.pay(order("ORDER-0001", "1200"))
			s.clock.Advance(24 * time.Hour)
			s.wechat.Misbehave("", fault)
			text, _, err := s.download(wepay.DownloadBill, in)
			if !errors.Is(err, wepay.ErrMalformed) || len(text) == 0 || strings.Contains(err.Error(), "token") {
				t.Errorf("got %q, %v", text, err)
			}
			if in.Get("tar_type") != "" {
				continue
			}
			bill, err := s.client.Download(t.Context(), wepay.DownloadBill, in)
			if err != nil {
				t.Fatal(err)
			}
			if err := bill.WriteJSON(io.Discard); !errors.Is(err, wepay.ErrMalformed) || !strings.Contains(err.Error(), "SHA-1") {
				t.Errorf("as JSON: %v", err)
			}
			_ = bill.Close()
		}
	}
}

const aDay = billtest.Day

// offer tells where a bill of a text is.
func offer(text, url string) answer {
	sum := sha1.Sum([]byte(text))
	return answer{body: fmt.Sprintf(`{"hash_type":"SHA1","hash_value":%q,"download_url":%q}`, hex.EncodeToString(sum[:]), url)}
}

// billOf serves a bill of the text, as file at its address.
func billOf(t testing.TB, text string, file func(http.ResponseWriter, *http.Request) answer) *wechat {
	return newWechat(t, func(w http.ResponseWriter, r *http.Request) answer {
		if r.URL.Path != "/v3/billdownload/file" {
			return offer(text, "https://elsewhere.example.com:1/v3/billdownload/file?token=a%2Bb%3D&x=1")
		}
		if r.URL.RawQuery != "token=a%2Bb%3D&x=1" || r.Header.Get("Authorization") == "" {
			t.Errorf("asked for %s", r.URL)
		}
		return file(w, r)
	})
}

func readBill(t testing.TB, c *apiv3.Client) (string, error) {
	bill, err := c.Download(t.Context(), wepay.DownloadBill, aBill)
	if err != nil {
		return "", err
	}
	defer bill.Close()
	text, err := io.ReadAll(bill)
	return string(text), err
}

func TestBillFiles(t *testing.T) {
	packed := billtest.Zipped(t, aDay)
	long := billtest.Zipped(t, strings.Repeat(aDay, 10_000))
	cut := func(text string, promised int) func(http.ResponseWriter, *http.Request) answer {
		return func(w http.ResponseWriter, _ *http.Request) answer {
			w.Header().Set("Content-Length", strconv.Itoa(promised))
			_, _ = io.WriteString(w, text)
			return answer{status: -1}
		}
	}
	says := func(text string) func(http.ResponseWriter, *http.Request) answer {
		return func(http.ResponseWriter, *http.Request) answer { return answer{body: text, bare: true} }
	}
	for name, test := range map[string]struct {
		of   string
		file func(http.ResponseWriter, *http.Request) answer
		want error // of reading
	}{
		"text":                  {aDay, says(aDay), nil},
		"gzip":                  {aDay, says(packed), nil},
		"long gzip":             {strings.Repeat(aDay, 10_000), says(long), nil},
		"gzip in two":           {aDay + aDay, says(packed + packed), nil},
		"another text":          {aDay, says(aDay + " "), wepay.ErrMalformed},
		"a part of the text":    {aDay, says(aDay[:len(aDay)-1]), wepay.ErrMalformed},
		"another gzip":          {aDay, says(billtest.Zipped(t, aDay+" ")), wepay.ErrMalformed},
		"text cut off":          {aDay, cut(aDay[:10], 1000), io.ErrUnexpectedEOF},
		"gzip cut off":          {aDay, cut(packed[:len(packed)-9], len(packed)), io.ErrUnexpectedEOF},
		"gzip without its end":  {aDay, says(packed[:len(packed)-9]), io.ErrUnexpectedEOF},
		"gzip with wrong check": {aDay, says(packed[:len(packed)-8] + "\x00\x00\x00\x00" + packed[len(packed)-4:]), gzip.ErrChecksum},
		"more behind gzip":      {aDay, says(packed + "x"), io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			w := billOf(t, test.of, test.file)
			text, err := readBill(t, w.client(t, w.merchant(t)))
			if !errors.Is(err, test.want) || text == "" {
				t.Errorf("got %d bytes, %v, want %v", len(text), err, test.want)
			}
		})
	}
}

// What is neither bill nor refusal comes from something between: another
// endpoint is asked, and nothing is lost.
func TestBillNoFile(t *testing.T) {
	for name, bad := range map[string]answer{
		"nothing":          {bare: true},
		"a page":           {bare: true, body: "<html><title>502 Bad Gateway</title></html>"},
		"a page, 502":      {bare: true, body: "<html><title>502 Bad Gateway</title></html>", status: 502},
		"too busy":         {body: `{"code":"SERVICE_UNAVAILABLE","message":"系统繁忙"}`, status: 503},
		"nonsense of gzip": {bare: true, body: "\x1f\x8bnonsense"},
	} {
		t.Run(name, func(t *testing.T) {
			first := billOf(t, aDay, func(http.ResponseWriter, *http.Request) answer { return bad })
			second := billOf(t, aDay, func(http.ResponseWriter, *http.Request) answer { return answer{body: aDay, bare: true} })
			_, err := readBill(t, first.client(t, first.merchant(t)))
			wantError(t, err, wepay.Again)
			if text, err := readBill(t, first.client(t, first.merchant(t, second.URL))); err != nil || text != aDay {
				t.Errorf("from the second: %q, %v", text, err)
			}
		})
	}
	for name, refusal := range map[string]answer{
		"expired":          {body: `{"code":"INVALID_REQUEST","message":"下载链接已过期"}`, status: 400},
		"unsigned refusal": {body: `{"code":"NO_STATEMENT_EXIST","message":"x"}`, status: 400, bare: true},
		"signed success":   {status: 204},
	} {
		w := billOf(t, aDay, func(http.ResponseWriter, *http.Request) answer { return refusal })
		_, err := readBill(t, w.client(t, w.merchant(t)))
		if failed := wantError(t, err, wepay.Again); !errors.Is(failed, wepay.ErrNoAnswer) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Whoever has seen enough of a bill closes it, and that ends its request; and
// the time that a call may take does not bound a bill, whose caller can.
func TestBillEnds(t *testing.T) {
	billtest.Ends(t, func(t *testing.T, bill http.HandlerFunc) wepay.Gateway {
		w := billOf(t, aDay, func(w http.ResponseWriter, r *http.Request) answer {
			bill(w, r)
			return answer{status: -1}
		})
		return w.client(t, w.merchant(t), wepay.ClientOptions{Timeout: 2 * time.Second})
	})
}

func TestBillNothingIsSent(t *testing.T) {
	s := openShop(t, ways[3])
	billtest.Refuses(t, s.client, map[string]billtest.Wrong{
		"a device":             {Operation: wepay.DownloadBill, In: with(aBill, "device_info", "1"), Field: "device_info"},
		"another sub-merchant": {Operation: wepay.DownloadBill, In: with(aBill, "sub_mch_id", "1900000211"), Field: "sub_mch_id"},
		"of a sub-merchant":    {Operation: wepay.DownloadFundFlow, In: with(aBill, "account_type", "Fees", "sub_mch_id", subMchID), Field: "sub_mch_id"},
	})
	if _, err := s.client.Do(t.Context(), wepay.Micropay, aBill); !errors.Is(err, wepay.ErrNoOperation) {
		t.Errorf("an operation of API v2 alone: got %v", err)
	}
	if n := len(s.wechat.Requests("")); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestBillOfSubMerchants(t *testing.T) {
	billtest.SubMerchants(t, func(t *testing.T, subs []string, in wepay.Fields) (sub string, err error) {
		w := newWechat(t, func(_ http.ResponseWriter, r *http.Request) answer {
			sub = r.URL.Query().Get("sub_mchid")
			if r.URL.Path != "/v3/bill/tradebill" || r.URL.Query().Get("bill_date") != "2026-01-01" || r.URL.Query().Has("sub_mchid") != (sub != "") {
				t.Errorf("asked for %s", r.URL)
			}
			return answer{body: `{"code":"NO_STATEMENT_EXIST"}`, status: 400}
		})
		w.clock.Advance(24 * time.Hour)
		m := w.merchant(t)
		m.Type, m.SubMchIDs = wepay.Partner, subs
		_, err = w.client(t, m).Download(t.Context(), wepay.DownloadBill, in)
		return sub, err
	})
}

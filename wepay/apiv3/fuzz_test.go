package apiv3_test

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
)

// Whatever an access point says, signed or not, is a result or an error that says
// what to do.
func FuzzReply(f *testing.F) {
	for _, body := range []string{
		"", "{}", "null", "[]", aLink, state(mchID, "ORDER-0001"), `{"code":"PARAM_ERROR","message":"x","detail":{"field":"/a","issue":"b"}}`,
		`{"refund_id":"1","out_refund_no":"R1","status":"SUCCESS","amount":{"total":2,"settlement_total":1},"promotion_detail":[{"promotion_id":"1","refund_amount":1}]}`,
		`{"sub_orders":[{"trade_state":"SUCCESS","amount":{"total_amount":1,"payer_amount":1},"promotion_detail":[{"amount":0}]}],"combine_out_trade_no":"C1"}`,
		`{"transfer_batch":{"out_batch_no":"B1"},"transfer_detail_list":[{}]}`, `{"state":"FINISHED","receivers":[{"finish_time":"2026-01-01T00:00:00Z"}]}`,
		`{"hash_type":"SHA1","hash_value":"da39a3ee5e6b4b0d3255bfef95601890afd80709","download_url":"https://x/v3/billdownload/file?token=1"}`,
	} {
		f.Add(200, body, true)
		f.Add(400, body, false)
	}
	var says answer
	w := newWechat(f, func(http.ResponseWriter, *http.Request) answer { return says })
	m := w.merchant(f)
	m.Payouts, m.Passthrough = true, true
	c := w.client(f, m)
	questions := map[wepay.Operation]wepay.Fields{
		wepay.PlaceOrder: order("ORDER-0001", "1"), wepay.QueryOrder: aQuery, wepay.QueryRefund: fields("out_refund_no", "R1"),
		wepay.Refund: refund("R1", "ORDER-0001", "2", "1"), wepay.QueryCombined: fields("combine_out_trade_no", "C1"),
		wepay.QueryTransfer: fields("partner_trade_no", "TR1"), wepay.QueryTransferBatch: fields("out_batch_no", "B1"),
		wepay.ProfitShareQuery:       fields("transaction_id", "1", "out_order_no", "S1"),
		wepay.ProfitShareReturnQuery: fields("out_return_no", "R1", "out_order_no", "S1"),
	}
	f.Fuzz(func(t *testing.T, status int, body string, signed bool) {
		if status < 200 || status > 599 {
			return
		}
		says = answer{status: status, body: body, bare: !signed}
		if status == 204 || status == 304 {
			says.body = ""
		}
		for op, in := range questions {
			got, err := c.Do(t.Context(), op, in)
			if failed, isError := errors.AsType[*wepay.Error](err); err != nil && (!isError || failed.Verdict == "") {
				t.Fatalf("%s: got %v", op, err)
			}
			if err == nil && (!signed || status >= 300 || len(got) == 0) {
				t.Fatalf("%s: HTTP status %d, signed %v: %v", op, status, signed, got)
			}
		}
		if bill, err := c.Download(t.Context(), wepay.DownloadBill, aBill); err == nil {
			_, _ = io.Copy(io.Discard, bill)
			_ = bill.Close()
		}
	})
}

// A path that is taken is the same to whatever reads it on the way.
func FuzzPassPath(f *testing.F) {
	for _, path := range []string{"/v3/a", "/v3/a%2Ab*c/d", "/v3/../a", "/v3/a%2e", "/v3/a%2Fb", "/v3//", "/v3/a/", "/v3/a//", "/v3/a;b=1", "/v3/..;/a", "/v3/%E5%AD%97", "/v3/%EF%BC%8E%EF%BC%8E/a"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, to string) {
		if apiv3.CheckPath(to) != nil {
			return
		}
		u, err := url.Parse("https://api.mch.weixin.qq.com" + to + "?x=1")
		if err != nil {
			t.Fatalf("%q: %v", to, err)
		}
		if u.Host != "api.mch.weixin.qq.com" || u.EscapedPath() != to || u.RequestURI() != to+"?x=1" || u.Fragment != "" {
			t.Fatalf("%q is sent as %s to %s", to, u.RequestURI(), u.Host)
		}
		if path.Clean(u.Path) != strings.TrimSuffix(u.Path, "/") || !strings.HasPrefix(u.Path, "/v3/") || strings.Count(u.Path, "/") != strings.Count(to, "/") || strings.ContainsAny(u.Path, "\\%\x00\r\n ?#;") || strings.Contains(u.Path, "/.") {
			t.Fatalf("%q means %q", to, u.Path)
		}
	})
}

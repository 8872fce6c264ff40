// Package billtest has the tests of bills that a Gateway passes over either API.
package billtest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

// Day is a bill of one row.
const Day = "\ufeffa,b\r\n`1,`x\r\n总交易单数\r\n`1\r\n"

// Request returns the smallest request for a bill, with further fields.
func Request(pairs ...string) wepay.Fields {
	in := wepay.Fields{{Name: "bill_date", Value: "20260101"}}
	for i := 0; i < len(pairs); i += 2 {
		in.Set(pairs[i], pairs[i+1])
	}
	return in
}

// Zipped returns a text as WeChat packs a bill.
func Zipped(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := io.WriteString(w, text)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Ends checks that the time-out of a call does not bound a bill, but its caller
// can: by closing it, or by the end of the context. Either ends the request. Serve
// returns a gateway whose bill is answered by a handler.
func Ends(t *testing.T, serve func(t *testing.T, bill http.HandlerFunc) wepay.Gateway) {
	for _, how := range []string{"closed", "cancelled"} {
		t.Run(how, func(t *testing.T) {
			started, ended := make(chan struct{}), make(chan struct{})
			gateway := serve(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, "a,b\r\n")
				_ = http.NewResponseController(w).Flush()
				close(started)
				<-r.Context().Done()
				close(ended)
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			bill, err := gateway.Download(ctx, wepay.DownloadBill, Request())
			if err != nil {
				t.Fatal(err)
			}
			<-started
			if how == "cancelled" {
				cancel()
				if err := bill.WriteJSON(io.Discard); !errors.Is(err, context.Canceled) || !errors.Is(err, wepay.ErrMalformed) {
					t.Errorf("got %v, want ErrMalformed for a context that was cancelled", err)
				}
			}
			if err := bill.Close(); err != nil {
				t.Error(err)
			}
			<-ended
		})
	}
}

// Wrong is a request that is rejected because of a field.
type Wrong struct {
	Operation wepay.Operation
	In        wepay.Fields
	Field     string
}

// Refuses checks that a gateway rejects wrong requests, these and more of its API,
// and distinguishes bills from other operations.
func Refuses(t *testing.T, gateway wepay.Gateway, more map[string]Wrong) {
	all := map[string]Wrong{
		"no date":         {wepay.DownloadBill, nil, "bill_date"},
		"an odd date":     {wepay.DownloadBill, Request("bill_date", "2026-01-01"), "bill_date"},
		"no such date":    {wepay.DownloadBill, Request("bill_date", "20260230"), "bill_date"},
		"an unknown kind": {wepay.DownloadBill, Request("bill_type", "all"), "bill_type"},
		"an unknown pack": {wepay.DownloadBill, Request("tar_type", "ZIP"), "tar_type"},
		"no account":      {wepay.DownloadFundFlow, Request(), "account_type"},
		"an unknown one":  {wepay.DownloadFundFlow, Request("account_type", "BASIC"), "account_type"},
	}
	for name, wrong := range more {
		all[name] = wrong
	}
	for name, wrong := range all {
		t.Run(name, func(t *testing.T) {
			bill, err := gateway.Download(t.Context(), wrong.Operation, wrong.In)
			if field, ok := errors.AsType[*wepay.FieldError](err); bill != nil || !ok || field.Field != wrong.Field {
				t.Errorf("got %v, want a FieldError about %s", err, wrong.Field)
			}
		})
	}
	for _, op := range []wepay.Operation{wepay.QueryOrder, "nothing", ""} {
		if _, err := gateway.Download(t.Context(), op, Request()); !errors.Is(err, wepay.ErrNoOperation) {
			t.Errorf("%q as a bill: got %v", op, err)
		}
	}
	for _, op := range []wepay.Operation{wepay.DownloadBill, wepay.DownloadFundFlow, ""} {
		if _, err := gateway.Do(t.Context(), op, Request()); !errors.Is(err, wepay.ErrNoOperation) {
			t.Errorf("%q as a call: got %v", op, err)
		}
	}
}

// SubMerchants checks whose bill a partner requests: a partner that may act for
// every sub-merchant gets one bill for all. Ask requests a bill, on a day without
// trades, and returns the sub-merchant that the request named.
func SubMerchants(t *testing.T, ask func(t *testing.T, subs []string, in wepay.Fields) (sub string, err error)) {
	for _, test := range []struct {
		subs     []string
		in, asks string
		ok       bool
	}{
		{[]string{wepay.AnySubMerchant}, "", "", true},
		{[]string{wepay.AnySubMerchant}, "2", "2", true},
		{[]string{wepay.AnySubMerchant}, wepay.AnySubMerchant, "", true},
		{[]string{"2", "3"}, "3", "3", true},
		{[]string{"2", "3"}, "", "", false},
		{[]string{"2", "3"}, "4", "", false},
		{[]string{"2", "3"}, wepay.AnySubMerchant, "", false},
	} {
		sub, err := ask(t, test.subs, Request("sub_mch_id", test.in))
		field, refused := errors.AsType[*wepay.FieldError](err)
		failed, _ := errors.AsType[*wepay.Error](err)
		switch {
		case !test.ok && (!refused || field.Field != "sub_mch_id"), test.ok && (failed == nil || failed.Verdict != wepay.Done):
			t.Errorf("%q asked for %q: got %v", test.subs, test.in, err)
		case sub != test.asks:
			t.Errorf("%q asked for %q: WeChat was asked for %q", test.subs, test.in, sub)
		}
	}
}

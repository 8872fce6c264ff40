package admin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/windsome/caddy-wepay/caddymodule/recovery/reconcile"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/caddymodule/store/sqlstore"
	"github.com/windsome/caddy-wepay/wepay"
)

// books is a reconciler that remembers what it was asked for.
type books struct {
	asked []string
	takes time.Duration
}

func (b *books) report(ctx context.Context, what, name, date string) (*reconcile.Report, error) {
	b.asked = append(b.asked, what+" "+name+" "+date)
	select {
	case <-time.After(b.takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	switch name {
	case "nobody":
		return nil, fmt.Errorf("merchant %q: %w", name, reconcile.ErrNotReconciled)
	case "busy":
		return nil, reconcile.ErrBusy
	case "odd":
		return nil, fmt.Errorf("%w: line 2 of the bill", wepay.ErrMalformed)
	case "new":
		return nil, reconcile.ErrNoReport
	}
	if date != "2026-11-29" {
		return nil, reconcile.ErrDay
	}
	return &reconcile.Report{MchID: "1900000109", Merchants: []string{name}, Date: date, Offline: what != "by hand"}, nil
}

func (b *books) ByHand(ctx context.Context, name, date string) (*reconcile.Report, error) {
	return b.report(ctx, "by hand", name, date)
}

func (b *books) Stored(ctx context.Context, name, date string) (*reconcile.Report, error) {
	return b.report(ctx, "stored", name, date)
}

func (b *books) Compare(ctx context.Context, name, date string, bill io.Reader) (*reconcile.Report, error) {
	text, err := io.ReadAll(bill)
	if err != nil {
		return nil, err
	}
	return b.report(ctx, "compare "+string(text), name, date)
}

func reconciles(b *books, err error) *http.ServeMux {
	mux := http.NewServeMux()
	routeReconciler(mux, func() (reconciler, error) { return b, err })
	return mux
}

func TestReconcileRoutes(t *testing.T) {
	for _, test := range []struct {
		name, method, uri, body string
		status                  int
		want, asked             string
	}{
		{"now", "POST", "", `{"merchant":"shop","date":"2026-11-29"}`, 200, `"mch_id":"1900000109"`, "by hand shop 2026-11-29"},
		{"a bill", "POST", "/compare?merchant=shop&date=2026-11-29", "a,b", 200, `"offline":true`, "compare a,b shop 2026-11-29"},
		{"stored", "GET", "/1900000109/2026-11-29", "", 200, `"date":"2026-11-29"`, "stored 1900000109 2026-11-29"},
		{"stored, never made", "GET", "/new/2026-11-29", "", 404, "there is no report", "stored new 2026-11-29"},
		{"nobody's", "POST", "", `{"merchant":"nobody","date":"2026-11-29"}`, 404, "directive reconcile", "by hand nobody 2026-11-29"},
		{"meanwhile", "POST", "", `{"merchant":"busy","date":"2026-11-29"}`, 409, "try again", "by hand busy 2026-11-29"},
		{"an odd bill", "POST", "/compare?merchant=odd&date=2026-11-29", "", 400, "line 2", "compare  odd 2026-11-29"},
		{"no day", "POST", "", `{"merchant":"shop","date":"29.11."}`, 400, "a day", "by hand shop 29.11."},
		{"more", "POST", "", `{"merchant":"shop","date":"2026-11-29","force":true}`, 400, "force", ""},
		{"by GET", "GET", "", "", 405, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, w := new(books), httptest.NewRecorder()
			reconciles(b, nil).ServeHTTP(w, httptest.NewRequest(test.method, "/wepay/reconcile"+test.uri, strings.NewReader(test.body)))
			if w.Code != test.status || !strings.Contains(w.Body.String(), test.want) || strings.Join(b.asked, ";") != test.asked {
				t.Errorf("HTTP %d %s, asked %q", w.Code, w.Body, b.asked)
			}
		})
	}
	w := httptest.NewRecorder()
	reconciles(nil, reconcile.ErrNotReconciled).ServeHTTP(w, httptest.NewRequest("GET", "/wepay/reconcile/shop/2026-11-29", nil))
	if w.Code != 404 {
		t.Errorf("without any: HTTP %d %s", w.Code, w.Body)
	}
}

// A bill may take longer than the admin endpoint gives a request.
func TestReconcileTakesItsTime(t *testing.T) {
	for _, test := range []struct {
		uri  string
		body io.Reader
	}{
		{"", strings.NewReader(`{"merchant":"shop","date":"2026-11-29"}`)},
		{"/compare?merchant=shop&date=2026-11-29", strings.NewReader("a,b")},
		{"/compare?merchant=shop&date=2026-11-29", silent{strings.NewReader("a,b"), 30 * time.Second}},
	} {
		synctest.Test(t, func(t *testing.T) {
			connections := make(pipes)
			server := &http.Server{Handler: reconciles(&books{takes: 10 * time.Minute}, nil), ReadTimeout: 10 * time.Second}
			go func() { _ = server.Serve(connections) }() // it is closed below
			client := &http.Client{Transport: &http.Transport{DialContext: connections.dial, DisableKeepAlives: true}}
			resp, err := client.Post("http://pipe/wepay/reconcile"+test.uri, "", test.body)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != 200 {
				t.Errorf("%s: HTTP %d %s (%v)", test.uri, resp.StatusCode, text, err)
			}
			_ = resp.Body.Close()
			if err := server.Close(); err != nil {
				t.Error(err)
			}
			<-time.After(2 * mostSilence) // what is silent still ends then
		})
	}
}

// runReconcile runs the command, and returns what it prints.
func runReconcile(args ...string) (string, error) {
	var out bytes.Buffer
	cmd := (&client{name: "reconcile", out: &out}).reconcileCommand()
	cmd.SetArgs(args)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err := cmd.Execute()
	return out.String(), err
}

func TestReconcileCommand(t *testing.T) {
	b := new(books)
	server := httptest.NewServer(reconciles(b, nil))
	defer server.Close()
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	dir := t.TempDir()
	bill, page := filepath.Join(dir, "bill.csv"), filepath.Join(dir, "report.html")
	if err := os.WriteFile(bill, []byte("a,b"), 0o600); err != nil {
		t.Fatal(err)
	}
	there := []string{"--address", server.Listener.Addr().String()}
	shop := []string{"--merchant", "shop", "--date", "2026-11-29"}
	for _, test := range []struct {
		name             string
		args             []string
		want, asked, err string
	}{
		{"now", append(shop, there...), "WeChat Pay reconciliation", "by hand shop 2026-11-29", ""},
		{"in Chinese", append([]string{"--lang", "zh"}, append(shop, there...)...), "微信支付对账报告", "by hand shop 2026-11-29", ""},
		{"JSON", append([]string{"--format", "json"}, append(shop, there...)...), `"mch_id": "1900000109"`, "by hand shop 2026-11-29", ""},
		{"stored", append([]string{"--stored", "--format", "csv"}, append(shop, there...)...), "out_trade_no", "stored shop 2026-11-29", ""},
		{"a bill", append([]string{"--bill", bill}, append(shop, there...)...), "nothing was handed over", "compare a,b shop 2026-11-29", ""},
		{"to a file", append([]string{"--format", "html", "--output", page}, append(shop, there...)...), "", "by hand shop 2026-11-29", ""},
		{"to a file that is there", append([]string{"--output", page}, append(shop, there...)...), "", "by hand shop 2026-11-29", "file exists"},
		{"no bill", append([]string{"--bill", bill + "x"}, append(shop, there...)...), "", "", "no such file"},
		{"no format", append([]string{"--format", "pdf"}, append(shop, there...)...), "", "", "text, json, csv, html"},
		{"no language", append([]string{"--lang", "fr"}, append(shop, there...)...), "", "by hand shop 2026-11-29", "zh or en"},
		{"both", append([]string{"--bill", bill, "--stored"}, append(shop, there...)...), "", "", "stored"},
		{"nobody's", append([]string{"--merchant", "nobody", "--date", "2026-11-29"}, there...), "", "by hand nobody 2026-11-29", "directive reconcile"},
		{"no date", append([]string{"--merchant", "shop"}, there...), "", "", "date"},
		{"another server", append(shop, "--address", other.Listener.Addr().String()), "", "", "is it a Caddy with this module?"},
		{"a file alone", append(shop, "--path", bill), "", "", "opening"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b.asked = nil
			out, err := runReconcile(test.args...)
			if !strings.Contains(out, test.want) || strings.Join(b.asked, ";") != test.asked || (err == nil) != (test.err == "") || err != nil && (!strings.Contains(err.Error(), test.err) || out != "") {
				t.Errorf("got %s (%v), asked %q", out, err, b.asked)
			}
		})
	}
	if text, err := os.ReadFile(page); err != nil || !strings.Contains(string(text), "<html") {
		t.Errorf("the file is %s (%v)", text, err)
	}
}

// A bill is compared with the file of a server that is stopped.
func TestReconcileFile(t *testing.T) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	path := filepath.Join(t.TempDir(), "events.db")
	file := &sqlstore.SQLite{Path: path}
	if err := file.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	if err := file.Open(ctx, store.Options{}); err != nil {
		t.Fatal(err)
	}
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, wepay.Beijing)
	err := file.Transact(ctx, func(tx store.Tx) error {
		return tx.SetOrder(&store.Order{
			Kind: store.Ordered, Number: "A1", MchID: "1900000109", Merchant: "shop", Operation: wepay.PlaceOrder, Amount: 100, Currency: "CNY",
			State: store.OrderPlaced, Placed: noon,
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	bill := filepath.Join(t.TempDir(), "bill.csv")
	const text = "交易时间,商户号,微信订单号,商户订单号,交易状态,手续费,订单金额,微信退款单号,商户退款单号,退款金额,退款状态\n" +
		"`2026-01-01 12:00:00,`1900000109,`T1,`A1,`SUCCESS,`0.00600,`1.00,`0,`0,`0.00,`\n总交易单数,订单总金额\n`1,`1.00\n"
	if err := os.WriteFile(bill, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := runReconcile("--path", path, "--merchant", "shop", "--date", "2026-01-01", "--bill", bill)
	if err != nil || !strings.Contains(out, "paid_not_handed_over A1") || !strings.Contains(out, "not asked (offline)") || !strings.Contains(out, "1900000109") {
		t.Errorf("got %s (%v)", out, err)
	}
	for args, want := range map[string]string{"--merchant shoop --bill " + bill: "the file has nothing of it", "--merchant shop": "--bill says which"} {
		if out, err := runReconcile(append(strings.Fields(args), "--path", path, "--date", "2026-01-01")...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %s (%v)", args, out, err)
		}
	}
}

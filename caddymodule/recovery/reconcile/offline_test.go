package reconcile_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/caddymodule/recovery/reconcile"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

func zipped(t *testing.T, text string) string {
	t.Helper()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.String()
}

// A bill from a file is compared, as text or gzip, and hands nothing over.
func TestOffline(t *testing.T) {
	text := billOf(row{transactionID: "T1", number: "A1", total: 100}, row{transactionID: "T2", number: "A2", total: 5})
	for name, bill := range map[string]string{"text": text, "gzip": zipped(t, text)} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.put(order("A1", 100, func(o *store.Order) { o.State = store.OrderPlaced }), event("A3", "T3", 7))
			w.weChat.pays("A1", "T1", 100)
			want := []string{"paid_not_handed_over A1 100/100/0 placed  not_asked", "handed_over_not_in_bill A3 0/0/7  delivered "}
			for _, compare := range []func() (*reconcile.Report, error){
				func() (*reconcile.Report, error) {
					return w.Compare(t.Context(), "mini", date, strings.NewReader(bill))
				},
				func() (*reconcile.Report, error) {
					return reconcile.Offline(t.Context(), w.store, []string{"shop"}, date, strings.NewReader(bill))
				},
			} {
				r, err := compare()
				if err != nil {
					t.Fatal(err)
				}
				w.check(r, want...)
				if !r.Offline || len(w.weChat.asked) != 0 || len(w.storage.all) != 0 || len(w.made) != 0 || r.Others.Count != 1 {
					t.Errorf("got %+v, WeChat was asked %q", r, w.weChat.asked)
				}
			}
		})
	}
}

// What is asked for by hand has to be there.
func TestRefuses(t *testing.T) {
	w := newWorld(t)
	bill := billOf(row{transactionID: "T1", number: "A1", total: 100})
	for name, test := range map[string]struct {
		merchant, date, bill string
		want                 error
	}{
		"no merchant":      {"nobody", date, bill, reconcile.ErrNotReconciled},
		"not reconciled":   {"till", date, bill, reconcile.ErrNotReconciled},
		"no day":           {"shop", "yesterday", bill, reconcile.ErrDay},
		"a way out":        {"shop", "../../etc", bill, reconcile.ErrDay},
		"today":            {"shop", "2026-11-30", bill, reconcile.ErrDay},
		"no day there is":  {"shop", "2026-11-31", bill, reconcile.ErrDay},
		"no bill at all":   {"shop", date, "", wepay.ErrMalformed},
		"a broken gzip":    {"shop", date, "\x1f\x8b\x00", wepay.ErrMalformed},
		"a gzip of others": {"shop", date, zipped(t, "hello"), wepay.ErrMalformed},
		"a gzip cut off":   {"shop", date, zipped(t, bill)[:200], wepay.ErrMalformed},
		"a fund flow":      {"shop", date, "记账时间,收支类型\r\n`1,`收入\r\n资金流水总笔数\r\n`1\r\n", wepay.ErrBillForm},
	} {
		if _, err := w.Compare(t.Context(), test.merchant, test.date, strings.NewReader(test.bill)); !errors.Is(err, test.want) {
			t.Errorf("%s: compared, got %v", name, err)
		}
		if test.bill != bill {
			continue
		}
		if _, err := w.ByHand(t.Context(), test.merchant, test.date); !errors.Is(err, test.want) {
			t.Errorf("%s: by hand, got %v", name, err)
		}
		if _, err := w.Stored(t.Context(), test.merchant, test.date); !errors.Is(err, test.want) {
			t.Errorf("%s: stored, got %v", name, err)
		}
	}
	if _, err := w.Stored(t.Context(), mchID, date); !errors.Is(err, reconcile.ErrNoReport) {
		t.Errorf("got %v", err)
	}
	if len(w.weChat.fetched) != 0 {
		t.Errorf("downloaded %q", w.weChat.fetched)
	}
}

// One bill is reconciled at a time, and who asked may go away.
func TestBusy(t *testing.T) {
	w := newWorld(t)
	w.weChat.takes(1 << 40)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := w.ByHand(ctx, "shop", date)
		done <- err
	}()
	for w.weChat.downloads() == 0 {
		if _, err := w.Compare(t.Context(), "nobody", date, nil); err == nil {
			t.Fatal("no error")
		}
	}
	if _, err := w.ByHand(t.Context(), "shop", date); !errors.Is(err, reconcile.ErrBusy) {
		t.Errorf("got %v", err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

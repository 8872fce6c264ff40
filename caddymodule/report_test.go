package caddymodule

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/windsome/caddy-wepay/caddymodule/delivery"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/caddymodule/store/storetest"
	"github.com/windsome/caddy-wepay/wepay"
)

// A start says of each merchant whose events wait if they are handed over.
func TestReportEvents(t *testing.T) {
	o := storetest.NewMemory()
	if err := o.Open(t.Context(), store.Options{}); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for n, e := range []*store.Event{
		{Merchant: "served", State: store.Waiting},
		{Merchant: "served", State: store.Waiting},
		{Merchant: "served", State: store.Dead},
		{Merchant: "unserved", State: store.Waiting},
		{Merchant: "refunds", State: store.Waiting},
		{Merchant: "gone", State: store.Waiting},
		{Merchant: "done", State: store.Delivered},
		{Merchant: "away", State: store.Dead},
		{Merchant: "done", State: store.Quarantined},
	} {
		e.ID, e.Kind, e.Due = fmt.Sprintf("evt_%d", n), wepay.Payment, now
		if _, err := o.Put(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	kinds := []wepay.Kind{wepay.Payment, wepay.Refunded, wepay.OtherEvent}
	core, logs := observer.New(zap.InfoLevel)
	a := &App{store: o, logger: zap.New(core), accounts: make(map[*wepay.Merchant]*account)}
	for name, endpoint := range map[string]*delivery.Endpoint{
		"served":   {URL: "http://orders", RefundURL: "http://orders", Kinds: kinds},
		"unserved": {Kinds: kinds},
		"refunds":  {RefundURL: "http://orders", Kinds: kinds},
		"done":     {Kinds: kinds},
		"away":     {Kinds: kinds},
	} {
		a.accounts[&wepay.Merchant{Name: name}] = &account{endpoint: endpoint}
	}
	a.reportEvents(t.Context())
	told := make(map[string]string)
	for _, entry := range logs.All() {
		fields := entry.ContextMap()
		told[fmt.Sprint(fields["merchant"], " ", fields["events"], " ", entry.Level)] = fmt.Sprint(entry.Message, fields["kinds"])
	}
	want := map[string]string{
		"served 2 info": "events are waiting", "served 1 warn": "were given up", "away 1 warn": "were given up",
		"done 1 warn":      "contradict",
		"unserved 1 error": "without cb_notify_url: they", "refunds 1 error": "[payment event]", "gone 1 error": "not configured",
	}
	for about, text := range want {
		if !strings.Contains(told[about], text) {
			t.Errorf("%s: %q, want %q", about, told[about], text)
		}
	}
	if len(told) != len(want) {
		t.Errorf("told: %v", told)
	}
}

package caddymodule

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/windsome/caddy-wepay/wepay"
)

// A start says of each merchant whose events wait if they are handed over.
func TestReportOutbox(t *testing.T) {
	o := newMemoryOutbox()
	if err := o.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, e := range []*Event{
		{Merchant: "served", State: Waiting},
		{Merchant: "served", State: Waiting},
		{Merchant: "served", State: Dead},
		{Merchant: "unserved", State: Waiting},
		{Merchant: "refunds", State: Waiting},
		{Merchant: "gone", State: Waiting},
		{Merchant: "done", State: Delivered},
		{Merchant: "away", State: Dead},
	} {
		e.ID, e.Kind, e.Due = fmt.Sprintf("evt_%d", len(o.events)), wepay.Payment, now
		if err := o.Put(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	kinds := []wepay.Kind{wepay.Payment, wepay.Refunded}
	core, logs := observer.New(zap.InfoLevel)
	a := &App{outbox: o, logger: zap.New(core), accounts: make(map[*wepay.Merchant]*account)}
	for name, callback := range map[string]*callback{
		"served":   {url: "http://orders", refundURL: "http://orders", kinds: kinds},
		"unserved": {kinds: kinds},
		"refunds":  {refundURL: "http://orders", kinds: kinds},
		"done":     {kinds: kinds},
		"away":     {kinds: kinds},
	} {
		a.accounts[&wepay.Merchant{Name: name}] = &account{callback: callback}
	}
	a.reportOutbox(t.Context())
	told := make(map[string]string)
	for _, entry := range logs.All() {
		fields := entry.ContextMap()
		told[fmt.Sprint(fields["merchant"], " ", fields["events"], " ", entry.Level)] = fmt.Sprint(entry.Message, fields["kinds"])
	}
	want := map[string]string{
		"served 2 info": "events are waiting", "served 1 warn": "were given up", "away 1 warn": "were given up",
		"unserved 1 error": "without cb_notify_url: they", "refunds 1 error": "[payment]", "gone 1 error": "not configured",
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

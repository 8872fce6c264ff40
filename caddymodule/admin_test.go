package caddymodule

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// stocked is an outbox with an event in each state.
func stocked(t *testing.T) *memoryOutbox {
	t.Helper()
	o := newMemoryOutbox()
	if err := o.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for _, e := range []*Event{
		{ID: "evt_dead", Merchant: "shop", State: Dead, Ended: now, Attempts: 9, Reason: "HTTP status 410"},
		{ID: "evt_dead2", Merchant: "mini", State: Dead, Ended: now},
		{ID: "evt_done", Merchant: "shop", State: Delivered, Ended: now},
		{ID: "evt_new", Merchant: "shop", State: Waiting, Due: now},
	} {
		e.Kind, e.Received, e.Since = wepay.Payment, now, now
		if e.State != Delivered {
			e.Payload = json.RawMessage(`{"total_fee":"1", "openid":"oSECRET","deep":[{"sub_openid":"oSECRET"}],"attach":"<&>"}`)
		}
		if err := o.Put(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// asked is what the routes answer for an outbox.
func asked(o Outbox, err error, method, uri, body string) (int, string) {
	w := httptest.NewRecorder()
	outboxRoutes(func() (Outbox, error) { return o, err }).ServeHTTP(w, httptest.NewRequest(method, "/wepay/outbox"+uri, strings.NewReader(body)))
	return w.Code, strings.TrimSpace(w.Body.String())
}

func TestAdminRoutes(t *testing.T) {
	for _, test := range []struct {
		name, method, uri, body string
		status                  int
		want, not               string // what the answer has, and has not
	}{
		{"counts", "GET", "", "", 200, `{"merchant":"shop","state":"dead","events":1}`, ""},
		{"all", "GET", "/events", "", 200, `"id":"evt_done"`, "payload"},
		{"dead", "GET", "/events?state=dead&merchant=shop", "", 200, `"id":"evt_dead"`, "evt_dead2"},
		{"page", "GET", "/events?limit=1", "", 200, `"next":"evt_dead"`, "evt_done"},
		{"next page", "GET", "/events?limit=1&after=evt_dead", "", 200, `"id":"evt_dead2"`, `"id":"evt_dead"`},
		{"wrong limit", "GET", "/events?limit=1001", "", 400, "limit must be 1 to 1000", ""},
		{"wrong state", "GET", "/events?state=alive", "", 400, "state must be", ""},
		{"one", "GET", "/events/evt_dead", "", 200, `"attach":"<&>"`, "oSECRET"},
		{"one with personal data", "GET", "/events/evt_dead?personal=true", "", 200, `"sub_openid":"oSECRET"`, "***"},
		{"unknown", "GET", "/events/evt_none", "", 404, "event evt_none: the outbox has no such event", ""},
		{"no id", "GET", "/events/a%20b", "", 400, "no event's id", ""},
		{"replay", "POST", "/events/evt_dead/replay", "", 200, `{"replayed":1}`, ""},
		{"replay what is not dead", "POST", "/events/evt_done/replay", "", 409, "event evt_done is delivered, only a dead one is replayed", ""},
		{"replay what is unknown", "POST", "/events/evt_none/replay", "", 404, "event evt_none: ", ""},
		{"replay by GET", "GET", "/events/evt_dead/replay", "", 405, "", ""},
		{"replay a merchant's", "POST", "/replay", `{"merchant":"shop"}`, 200, `{"replayed":1}`, ""},
		{"replay nobody's", "POST", "/replay", `{"merchant":"shoop"}`, 404, `merchant \"shoop\"`, ""},
		{"replay all", "POST", "/replay", `{"all":true}`, 200, `{"replayed":2}`, ""},
		{"replay what", "POST", "/replay", `{}`, 400, "either a merchant or all", ""},
		{"replay too much", "POST", "/replay", `{"all":true,"merchant":"shop"}`, 400, "either a merchant or all", ""},
		{"replay all, twice", "POST", "/replay", `{"all":false,"all":true}`, 400, "duplicate", ""},
		{"replay all, in capitals", "POST", "/replay", `{"ALL":true}`, 400, "unknown", ""},
		{"replay all and more", "POST", "/replay", `{"all":true}{}`, 400, "reading the request", ""},
		{"replay nothing", "POST", "/replay", "", 400, "reading the request", ""},
		{"drop for half a character", "POST", "/events/evt_new/drop", `{"reason":"\ud800"}`, 400, "reading the request", ""},
		{"drop for GBK", "POST", "/events/evt_new/drop", "{\"reason\":\"\xd5\xc5\"}", 400, "UTF-8", ""},
		{"replay otherwise", "POST", "/replay", `{"everything":true}`, 400, "everything", ""},
		{"drop", "POST", "/events/evt_new/drop", `{"reason":"by hand"}`, 200, `{"dropped":1}`, ""},
		{"drop without reason", "POST", "/events/evt_new/drop", `{}`, 400, "reason is required", ""},
		{"drop for nothing", "POST", "/events/evt_new/drop", `{"reason":" \n"}`, 400, "reason is required", ""},
		{"drop what is done", "POST", "/events/evt_done/drop", `{"reason":"by hand"}`, 409, "event evt_done is delivered, only one that waits or is dead is dropped", ""},
		{"drop what is unknown", "POST", "/events/evt_none/drop", `{"reason":"by hand"}`, 404, "event evt_none: ", ""},
		{"no limit", "GET", "/events?limit=0", "", 400, "limit must be 1 to 1000", ""},
		{"negative limit", "GET", "/events?limit=-1", "", 400, "limit must be 1 to 1000", ""},
		{"limit that is none", "GET", "/events?limit=99999999999999999999", "", 400, "limit must be 1 to 1000", ""},
		{"after no page", "GET", "/events?after=no+page", "", 400, "no page that ends there", ""},
		{"after the last page", "GET", "/events?after=zzz", "", 200, `{"events":[]}`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, body := asked(stocked(t), nil, test.method, test.uri, test.body)
			if status != test.status || !strings.Contains(body, test.want) || test.not != "" && strings.Contains(body, test.not) {
				t.Errorf("HTTP %d %s", status, body)
			}
		})
	}
}

func TestAdminWithoutOutbox(t *testing.T) {
	closed := newMemoryOutbox()
	if status, body := asked(closed, nil, "GET", "", ""); status != http.StatusServiceUnavailable {
		t.Errorf("HTTP %d %s", status, body)
	}
	if status, body := asked(nil, errNoOutbox, "GET", "", ""); status != http.StatusNotFound || !strings.Contains(body, "no outbox") {
		t.Errorf("HTTP %d %s", status, body)
	}
}

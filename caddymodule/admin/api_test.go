package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/caddymodule/store/storetest"
	"github.com/windsome/caddy-wepay/wepay"
)

// stocked is a store with an event in each state.
func stocked(t *testing.T) *storetest.Memory {
	t.Helper()
	o := storetest.NewMemory()
	if err := o.Open(t.Context(), store.Options{}); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for _, e := range []*store.Event{
		{ID: "evt_dead", Merchant: "shop", State: store.Dead, Ended: now, Attempts: 9, Reason: "HTTP status 410"},
		{ID: "evt_dead2", Merchant: "mini", State: store.Dead, Ended: now},
		{ID: "evt_done", Merchant: "shop", State: store.Delivered, Ended: now},
		{ID: "evt_new", Merchant: "shop", State: store.Waiting, Due: now, OutTradeNo: "order-1"},
		{ID: "evt_taken", Merchant: "shop", State: store.Delivered, Ended: now},
		{ID: "evt_told", Merchant: "shop", Kind: wepay.OtherEvent, EventType: "COMPLAINT.CREATE", State: store.Delivered, Ended: now},
	} {
		if e.Kind == "" {
			e.Kind = wepay.Payment
		}
		e.Received, e.Since = now, now
		if e.ID != "evt_done" {
			e.Payload = json.RawMessage(`{"total_fee":"1", "openid":"oSECRET","deep":[{"sub_openid":"oSECRET"}],"attach":"<&>"}`)
		}
		if _, err := o.Put(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// asked is what the routes of events answer for a store.
func asked(o store.Store, err error, method, uri, body string) (int, string) {
	return ask(o, err, method, "/wepay/events"+uri, body)
}

func ask(o store.Store, err error, method, path, body string) (int, string) {
	w := httptest.NewRecorder()
	routes(func() (store.Store, error) { return o, err }).ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w.Code, strings.TrimSpace(w.Body.String())
}

func TestRoutes(t *testing.T) {
	for _, test := range []struct {
		name, method, uri, body string
		status                  int
		want, not               string // what the answer has, and has not
	}{
		{"counts", "GET", "/counts", "", 200, `{"merchant":"shop","state":"dead","events":1}`, ""},
		{"all", "GET", "", "", 200, `"id":"evt_done"`, "payload"},
		{"dead", "GET", "?state=dead&merchant=shop", "", 200, `"id":"evt_dead"`, "evt_dead2"},
		{"quarantined", "GET", "?state=quarantined", "", 200, `{"events":[]}`, ""},
		{"of an order", "GET", "?number=order-1", "", 200, `"id":"evt_new"`, "evt_dead"},
		{"page", "GET", "?limit=1", "", 200, `"next":"evt_dead"`, "evt_done"},
		{"next page", "GET", "?limit=1&after=evt_dead", "", 200, `"id":"evt_dead2"`, `"id":"evt_dead"`},
		{"wrong limit", "GET", "?limit=1001", "", 400, "limit must be 1 to 1000", ""},
		{"unknown parameter", "GET", "?merchnt=shop", "", 400, "there is no parameter", ""},
		{"unknown parameter of an export", "GET", "/export?limit=1", "", 400, "there is no parameter", ""},
		{"wrong state", "GET", "?state=alive", "", 400, "state must be", ""},
		{"one", "GET", "/evt_dead", "", 200, `"attach":"<&>"`, "oSECRET"},
		{"one with personal data", "GET", "/evt_dead?personal=true", "", 200, `"sub_openid":"oSECRET"`, "***"},
		{"unknown", "GET", "/evt_none", "", 404, "event evt_none: the store has no such event", ""},
		{"no id", "GET", "/a%20b", "", 400, "no event's id", ""},
		{"replay", "POST", "/evt_dead/replay", "", 200, `{"replayed":1,"was":"dead"}`, ""},
		{"replay what waits", "POST", "/evt_new/replay", "", 200, `{"replayed":1,"was":"waiting"}`, ""},
		{"replay what was delivered", "POST", "/evt_taken/replay", "", 200, `{"replayed":1,"was":"delivered"}`, ""},
		{"replay what is no longer kept", "POST", "/evt_done/replay", "", 409, "event evt_done: the event's payload is no longer stored", ""},
		{"replay what is unknown", "POST", "/evt_none/replay", "", 404, "event evt_none: ", ""},
		{"replay by GET", "GET", "/evt_dead/replay", "", 405, "", ""},
		{"replay a merchant's", "POST", "/replay", `{"merchant":"shop"}`, 200, `{"replayed":1}`, ""},
		{"replay nobody's", "POST", "/replay", `{"merchant":"shoop"}`, 404, `merchant \"shoop\"`, ""},
		{"replay all", "POST", "/replay", `{"all":true}`, 200, `{"replayed":2}`, ""},
		{"replay what", "POST", "/replay", `{}`, 400, "either a merchant or all", ""},
		{"replay too much", "POST", "/replay", `{"all":true,"merchant":"shop"}`, 400, "either a merchant or all", ""},
		{"replay all, twice", "POST", "/replay", `{"all":false,"all":true}`, 400, "duplicate", ""},
		{"replay all, in capitals", "POST", "/replay", `{"ALL":true}`, 400, "unknown", ""},
		{"replay all and more", "POST", "/replay", `{"all":true}{}`, 400, "reading the request", ""},
		{"replay nothing", "POST", "/replay", "", 400, "reading the request", ""},
		{"drop for half a character", "POST", "/evt_new/drop", `{"reason":"\ud800"}`, 400, "reading the request", ""},
		{"drop for GBK", "POST", "/evt_new/drop", "{\"reason\":\"\xd5\xc5\"}", 400, "UTF-8", ""},
		{"replay otherwise", "POST", "/replay", `{"everything":true}`, 400, "everything", ""},
		{"drop", "POST", "/evt_new/drop", `{"reason":"by hand"}`, 200, `{"dropped":1}`, ""},
		{"drop without reason", "POST", "/evt_new/drop", `{}`, 400, "reason is required", ""},
		{"drop for nothing", "POST", "/evt_new/drop", `{"reason":" \n"}`, 400, "reason is required", ""},
		{"drop what is done", "POST", "/evt_done/drop", `{"reason":"by hand"}`, 409, "event evt_done is delivered, only one that waits or is dead is dropped", ""},
		{"drop what is unknown", "POST", "/evt_none/drop", `{"reason":"by hand"}`, 404, "event evt_none: ", ""},
		{"no limit", "GET", "?limit=0", "", 400, "limit must be 1 to 1000", ""},
		{"negative limit", "GET", "?limit=-1", "", 400, "limit must be 1 to 1000", ""},
		{"limit that is none", "GET", "?limit=99999999999999999999", "", 400, "limit must be 1 to 1000", ""},
		{"after no page", "GET", "?after=no+page", "", 400, "no page that ends there", ""},
		{"of an event_type", "GET", "?event=COMPLAINT.CREATE", "", 200, `"id":"evt_told"`, "evt_dead"},
		{"after the last page", "GET", "?after=evt_told", "", 200, `{"events":[]}`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, body := asked(stocked(t), nil, test.method, test.uri, test.body)
			if status != test.status || !strings.Contains(body, test.want) || test.not != "" && strings.Contains(body, test.not) {
				t.Errorf("HTTP %d %s", status, body)
			}
		})
	}
}

func TestRoutesWithoutStore(t *testing.T) {
	closed := storetest.NewMemory()
	if status, body := asked(closed, nil, "GET", "", ""); status != http.StatusServiceUnavailable {
		t.Errorf("HTTP %d %s", status, body)
	}
	if status, body := asked(nil, errNoStore, "GET", "", ""); status != http.StatusNotFound || !strings.Contains(body, "no store") {
		t.Errorf("HTTP %d %s", status, body)
	}
}

// hanging is a store that answers nothing.
type hanging struct{ *storetest.Memory }

func (hanging) Count(ctx context.Context) ([]store.Count, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (hanging) Get(ctx context.Context, _ string) (*store.Event, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (hanging) List(ctx context.Context, _ store.Filter, _ string, _ int) ([]*store.Event, string, error) {
	<-ctx.Done()
	return nil, "", ctx.Err()
}

// Looking in ends within three seconds, also where the store does not answer.
func TestRoutesOfHangingStore(t *testing.T) {
	for _, uri := range []string{"/counts", "", "/evt_dead", "/export"} {
		t.Run(uri, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				status, body := asked(hanging{stocked(t)}, nil, "GET", uri, "")
				if status != http.StatusServiceUnavailable || !strings.Contains(body, "did not answer within 3s") || time.Since(began) != lookTime {
					t.Errorf("HTTP %d %s after %s", status, body, time.Since(began))
				}
			})
		})
	}
}

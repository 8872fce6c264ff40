package caddymodule

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
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
		{"unknown", "GET", "/events/evt_none", "", 404, "no such event", ""},
		{"no id", "GET", "/events/a%20b", "", 400, "no event's id", ""},
		{"replay", "POST", "/events/evt_dead/replay", "", 200, `{"replayed":1}`, ""},
		{"replay what is not dead", "POST", "/events/evt_done/replay", "", 409, "does not allow it", ""},
		{"replay by GET", "GET", "/events/evt_dead/replay", "", 405, "", ""},
		{"replay a merchant's", "POST", "/replay", `{"merchant":"shop"}`, 200, `{"replayed":1}`, ""},
		{"replay all", "POST", "/replay", `{"all":true}`, 200, `{"replayed":2}`, ""},
		{"replay what", "POST", "/replay", `{}`, 400, "either a merchant or all", ""},
		{"replay too much", "POST", "/replay", `{"all":true,"merchant":"shop"}`, 400, "either a merchant or all", ""},
		{"replay otherwise", "POST", "/replay", `{"everything":true}`, 400, "everything", ""},
		{"drop", "POST", "/events/evt_new/drop", `{"reason":"by hand"}`, 200, `{"dropped":1}`, ""},
		{"drop without reason", "POST", "/events/evt_new/drop", `{}`, 400, "reason is required", ""},
		{"drop what is done", "POST", "/events/evt_done/drop", `{"reason":"by hand"}`, 409, "", ""},
		{"import nothing", "POST", "/import", ``, 400, "cut off after 0", ""},
		{"import an end", "POST", "/import", `{"exported":0}`, 200, `{"imported":0}`, ""},
		{"import less", "POST", "/import", `{"exported":1}`, 400, "lines are missing", ""},
		{"import no JSON", "POST", "/import", `evt_1`, 400, "line 1", ""},
		{"import without payload", "POST", "/import", `{"id":"evt_1","merchant":"shop","kind":"payment","state":"waiting","received":"2026-01-01T00:00:00Z","due":"2026-01-01T00:00:00Z"}`, 400, "payload: must be a JSON object", ""},
		{"import another kind", "POST", "/import", `{"id":"evt_1","merchant":"shop","kind":"gift","state":"waiting","payload":"{}"}`, 400, `kind: \"gift\"`, ""},
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

// What one outbox exports another one imports, whole; twice does no harm.
func TestExportImport(t *testing.T) {
	from, to := stocked(t), newMemoryOutbox()
	if err := to.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, lines := asked(from, nil, "GET", "/export", "")
	for range 2 {
		if status, body := asked(to, nil, "POST", "/import", lines); status != http.StatusOK || body != `{"imported":4}` {
			t.Fatalf("HTTP %d %s", status, body)
		}
	}
	for id, want := range from.events {
		if got, err := to.Get(t.Context(), id); err != nil || toText(t, got) != toText(t, &want.Event) || !bytes.Equal(got.Payload, want.Payload) {
			t.Errorf("got %+v (%v), want %+v", got, err, want.Event)
		}
	}
	cut := lines[:strings.LastIndex(lines, "\n")]
	if status, body := asked(to, nil, "POST", "/import", cut); status != http.StatusBadRequest || !strings.Contains(body, "cut off after 4") {
		t.Errorf("HTTP %d %s", status, body)
	}
}

func toText(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The commands look into a file that no server has open, and ask a server for
// all else.
func TestOutboxCommands(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	fill(t, path)
	for _, test := range []struct {
		args string
		want string
		err  string
	}{
		{"", "MERCHANT  STATE    EVENTS\nshop      dead     1\nshop      waiting  2\n", ""},
		{"list --state dead", "evt_dead", ""},
		{"list --json --state dead", `"reason":"HTTP status 410"`, ""},
		{"show evt_dead", `"openid": "***"`, ""},
		{"show evt_dead --personal", `"openid": "oSECRET"`, ""},
		{"show evt_none", "", "no such event"},
		{"export --state dead", `{"exported":1}`, ""},
		{"replay evt_dead", "", "start the server"},
		{"replay --all evt_dead", "", "one of them"},
		{"drop evt_dead --reason why", "", "start the server"},
	} {
		t.Run(test.args, func(t *testing.T) {
			var out bytes.Buffer
			client := &outboxClient{out: &out}
			cmd := client.root()
			cmd.SetArgs(append(strings.Fields(test.args), "--path", path))
			cmd.SilenceErrors, cmd.SilenceUsage = true, true
			err := cmd.Execute()
			switch {
			case test.err == "" && (err != nil || !strings.Contains(out.String(), test.want)):
				t.Errorf("got %s (%v)", out.String(), err)
			case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
				t.Errorf("got %v", err)
			}
		})
	}
}

// fill puts events into a file.
func fill(t *testing.T, path string) {
	t.Helper()
	b := newBolt(path)
	if err := b.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, e := range []*Event{
		{ID: "evt_dead", State: Dead, Ended: now, Reason: "HTTP status 410"},
		{ID: "evt_1", State: Waiting, Due: now},
		{ID: "evt_2", State: Waiting, Due: now},
	} {
		e.Merchant, e.Kind, e.Received, e.Since = "shop", wepay.Payment, now, now
		e.Payload = json.RawMessage(`{"openid":"oSECRET"}`)
		if err := b.Put(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

package natsoutbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/windsome/caddy-wepay/caddymodule"
)

// site is a Caddy with an outbox, and its order service.
type site struct {
	testing.TB
	dir, admin string
	orders     *httptest.Server
	heard      chan string
}

func newSite(t testing.TB) *site {
	s := &site{TB: t, dir: t.TempDir(), admin: fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0]), heard: make(chan string, 100)}
	s.orders = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.heard <- r.Header.Get("webhook-id")
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(s.orders.Close)
	t.Cleanup(func() {
		// Stop leaves the admin endpoint to the next config: this one has none.
		if err := caddy.Load([]byte(`{"admin":{"disabled":true,"config":{"persist":false}}}`), true); err != nil {
			t.Errorf("ending Caddy's admin endpoint: %v", err)
		}
		if err := caddy.Stop(); err != nil {
			t.Errorf("stopping Caddy: %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return s
}

// load starts Caddy with an outbox, or reloads it.
func (s *site) load(outbox, merchant string) error {
	s.Helper()
	config, _, err := adapt(fmt.Sprintf(`{
	admin %s
	persist_config off
	storage file_system %s
	log {
		output discard
	}
	wepay {
		merchant %s {
			app_id wx9af096e5f111831a
			mch_id 1525312341
			partner_key 0123456789abcdefghijklmnopqrstuv
			callback_secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw
			notify_url https://m.example.cn/apis/v1/wepay/pay_notify
			cb_notify_url %s
		}
		outbox %s
	}
}
`, s.admin, s.dir, merchant, s.orders.URL, outbox))
	if err != nil {
		s.Fatalf("adapting: %v", err)
	}
	return caddy.Load(config, true)
}

// call calls the admin API.
func (s *site) call(method, path, body string) string {
	s.Helper()
	request, err := http.NewRequestWithContext(within(s, lots), method, "http://"+s.admin+"/wepay/outbox"+path, strings.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		s.Fatalf("%s %s: HTTP status %d %s (%v)", method, path, response.StatusCode, text, err)
	}
	return string(text)
}

func (s *site) hears(id string) {
	s.Helper()
	select {
	case got := <-s.heard:
		if got != id {
			s.Errorf("the order service hears %s, want %s", got, id)
		}
	case <-time.After(lots):
		s.Fatalf("the order service does not hear %s", id)
	}
}

// exportOf is an export of some events.
func exportOf(t testing.TB, events ...*caddymodule.Event) string {
	t.Helper()
	var lines bytes.Buffer
	encoder := json.NewEncoder(&lines)
	for _, e := range events {
		line := struct {
			*caddymodule.Event
			Payload string `json:"payload,omitempty"`
		}{e, string(e.Payload)}
		if err := encoder.Encode(line); err != nil {
			t.Fatal(err)
		}
	}
	if err := encoder.Encode(map[string]int{"exported": len(events)}); err != nil {
		t.Fatal(err)
	}
	return lines.String()
}

// sortedLines is an export without the order, which is each store's own.
func sortedLines(export string) string {
	return strings.Join(slices.Sorted(strings.Lines(export)), "")
}

// What is in a file goes to NATS by export and import, is the same there, and is
// handed over by whichever Caddy has the merchant; a reload loses nothing.
func TestCaddy(t *testing.T) {
	server := startServer(t, nil)
	s := newSite(t)
	ended := time.Now().Add(-time.Hour)
	delivered, dead, dropped, waiting, later := payment("evt_delivered"), payment("evt_dead"), payment("evt_dropped"), payment("evt_waiting"), payment("evt_later")
	delivered.State, delivered.Due, delivered.Ended, delivered.Payload = caddymodule.Delivered, time.Time{}, ended, nil
	dropped.State, dropped.Due, dropped.Ended, dropped.Payload, dropped.Reason = caddymodule.Dropped, time.Time{}, ended, nil, "paid back"
	dead.State, dead.Due, dead.Ended, dead.Attempts, dead.Reason = caddymodule.Dead, time.Time{}, ended, 30, "HTTP status 503"
	later.Due = later.Due.Add(time.Hour)
	given := exportOf(t, delivered, dead, dropped, waiting, later)

	bolt := "bolt {\n\t\t\tpath " + filepath.Join(s.dir, "outbox.db") + "\n\t\t}"
	nats := "nats {\n\t\t\turl " + server.ClientURL() + "\n\t\t\treplicas 1\n\t\t\tworkers %d\n\t\t}"
	if err := s.load(bolt, "another"); err != nil {
		t.Fatalf("loading: %v", err)
	}
	s.call("POST", "/import", given)
	moved := s.call("GET", "/export", "")
	if err := s.load(fmt.Sprintf(nats, 4), "another"); err != nil {
		t.Fatalf("loading: %v", err)
	}
	for range 2 {
		s.call("POST", "/import", moved)
		if got := s.call("GET", "/export", ""); sortedLines(got) != sortedLines(moved) {
			t.Errorf("exported again:\n%s\nwant:\n%s", got, moved)
		}
	}
	if err := s.load(fmt.Sprintf(nats, 5), "shop"); err != nil {
		t.Fatalf("reloading: %v", err)
	}
	s.hears("evt_waiting")
	s.call("POST", "/events/evt_dead/replay", "")
	s.hears("evt_dead")
	s.call("POST", "/events/evt_later/drop", `{"reason":"given back"}`)

	// Another Caddy's.
	put(t, openOutbox(t, &NATS{URLs: []string{server.ClientURL(), server.ClientURL()}, Replicas: 1}), "evt_other")
	s.hears("evt_other")
	if err := s.load(fmt.Sprintf(strings.Replace(nats, "replicas 1", "replicas 3", 1), 4), "shop"); err == nil {
		t.Error("a config that does not fit the stream is loaded")
	}
	if err := s.load(fmt.Sprintf(nats, 6), "shop"); err != nil {
		t.Fatalf("reloading: %v", err)
	}
	await(t, "the end", func() bool {
		return strings.Contains(s.call("GET", "", ""), `"state":"delivered","events":4`)
	})
	var page struct{ Events []*caddymodule.Event }
	if err := json.Unmarshal([]byte(s.call("GET", "/events?state=dropped", "")), &page); err != nil || len(page.Events) != 2 {
		t.Errorf("dropped: %v (%v)", page.Events, err)
	}
}

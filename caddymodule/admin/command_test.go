package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/caddymodule/store/sqlstore"
	"github.com/windsome/caddy-wepay/caddymodule/store/storetest"
	"github.com/windsome/caddy-wepay/wepay"
)

// run runs a command of events, and returns what it prints.
func run(args ...string) (string, error) {
	client := &client{in: strings.NewReader(`{"exported":0}`)}
	return runCommand(client, client.root(), args)
}

// runOrder runs the command `order`.
func runOrder(args ...string) (string, error) {
	client := &client{name: "order", routes: "/wepay/orders"}
	return runCommand(client, client.order(), args)
}

func runCommand(client *client, cmd *cobra.Command, args []string) (string, error) {
	var out bytes.Buffer
	client.out = &out
	cmd.SetArgs(args)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err := cmd.Execute()
	return out.String(), err
}

// The commands ask a server, whose errors they repeat as they are, and say what
// may help where there is none.
func TestCommands(t *testing.T) {
	o := stocked(t)
	there := serve(t, o)
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for _, test := range []struct {
		name, address string
		args          []string
		want          string
		err           string
	}{
		{"counts", there, nil, "mini      dead       1\n", ""},
		{"list of JSON", there, []string{"list", "--json", "--state", "dead"}, `"reason":"HTTP status 410"`, ""},
		{"list of an order", there, []string{"list", "--number", "order-1"}, "evt_new", ""},
		{"list of an event_type", there, []string{"list", "--event", "COMPLAINT.CREATE"}, "evt_told  shop      event  COMPLAINT.CREATE", ""},
		{"list of no event_type", there, []string{"list", "--event", "COMPLAINT", "--json"}, "", ""},
		{"list what", there, []string{"list", "--state", "alive"}, "", "state must be waiting"},
		{"list too much", there, []string{"list", "nosuch"}, "", "nosuch"},
		{"show personal data", there, []string{"show", "evt_dead", "--personal"}, `"openid": "oSECRET"`, ""},
		{"show no event's", there, []string{"show", "../replay"}, "", "is no event's id"},
		{"export", there, []string{"export", "--state", "dead"}, `{"exported":2}`, ""},
		{"replay too much", there, []string{"replay", "--all", "evt_dead"}, "", "one of them"},
		{"show", there, []string{"show", "evt_dead"}, `"total_fee": "1"`, ""},
		{"show none", there, []string{"show", "evt_none"}, "", "events: asking the server at " + there + ": event evt_none: the store has no such event"},
		{"show no id", there, []string{"show", ""}, "", `"" is no event's id`},
		{"drop", there, []string{"drop", "evt_new", "--reason", "by hand,\n\x1b[2Jtwice"}, `"dropped": 1`, ""},
		{"drop again", there, []string{"drop", "evt_new", "--reason", "by hand"}, "", "event evt_new is dropped"},
		{"drop without reason", there, []string{"drop", "evt_dead"}, "", "reason is required"},
		{"list", there, []string{"list", "--state", "dropped"}, `"by hand,\n\x1b[2Jtwice"` + "\n", ""},
		{"replay", there, []string{"replay", "evt_dead"}, `"replayed": 1`, ""},
		{"replay a merchant's", there, []string{"replay", "--merchant", "mini"}, `"replayed": 1`, ""},
		{"replay nobody's", there, []string{"replay", "--merchant", "mimi"}, "", `merchant "mimi": the store has no events of it`},
		{"replay none", there, []string{"replay"}, "", "needs an id, --merchant or --all"},
		{"import", there, []string{"import"}, `{"imported":0,"known":0}`, ""},
		{"import no file", there, []string{"import", filepath.Join(t.TempDir(), "nosuch")}, "", "nosuch"},
		{"another server", other.Listener.Addr().String(), []string{"list"}, "", "is it a Caddy with this module?"},
		{"no server", gone.Listener.Addr().String(), []string{"list"}, "", "is it running?"},
		{"no address", "localhost:1-2", []string{"list"}, "", "localhost:1-2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, err := run(append(test.args, "--address", test.address)...)
			if test.err == "" {
				if err != nil || !strings.Contains(out, test.want) {
					t.Errorf("got %s (%v)", out, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), test.err) || out != "" {
				t.Errorf("got %v after %q", err, out)
			}
		})
	}
}

// serve serves a store as the admin endpoint does, and returns its address.
func serve(t testing.TB, s store.Store) string {
	t.Helper()
	server := httptest.NewServer(routes(func() (store.Store, error) { return s, nil }))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// An export is a file of one's own that is whole, or none.
func TestExportToFile(t *testing.T) {
	address, file := serve(t, stocked(t)), filepath.Join(t.TempDir(), "events.jsonl")
	for _, test := range []struct{ state, err string }{{"alive", "state must be"}, {"dead", ""}, {"dead", "file exists"}} {
		_, err := run("export", file, "--state", test.state, "--address", address)
		if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: %v", test.state, err)
		}
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("got %v (%v)", info, err)
	}
	text, err := os.ReadFile(file)
	if err != nil || strings.Count(string(text), "\n") != 3 || !strings.HasSuffix(string(text), `{"exported":2}`+"\n") {
		t.Errorf("got %s (%v)", text, err)
	}
}

// A long table comes in parts, each whole.
func TestLongList(t *testing.T) {
	o := storetest.NewMemory()
	if err := o.Open(t.Context(), store.Options{}); err != nil {
		t.Fatal(err)
	}
	const events = 2*longestPage + 10
	for n := range events {
		if _, err := o.Put(t.Context(), &store.Event{ID: fmt.Sprintf("evt_%d", n), Merchant: "shop", Kind: wepay.Payment, State: store.Dead}); err != nil {
			t.Fatal(err)
		}
	}
	address := serve(t, o)
	out, err := run("list", "--address", address)
	if err != nil || strings.Count(out, "\n") != events+1 || !strings.HasPrefix(out, "ID ") {
		t.Errorf("%d lines (%v)", strings.Count(out, "\n"), err)
	}
	for n := range events {
		if id := fmt.Sprintf("evt_%d ", n); strings.Count(out, "\n"+id) != 1 {
			t.Fatalf("%s is listed %d times", id, strings.Count(out, id))
		}
	}
}

// Nothing that a store holds moves a terminal's cursor.
func TestCommandsAtTerminal(t *testing.T) {
	o := storetest.NewMemory()
	if err := o.Open(t.Context(), store.Options{}); err != nil {
		t.Fatal(err)
	}
	const hostile = "小　店\x1b[2J\u009b31m\u202e\U000e0001"
	e := &store.Event{ID: "evt_1", Merchant: hostile, Kind: wepay.Payment, State: store.Dead, Reason: hostile, Payload: json.RawMessage("{\"attach\":\"\u009b31m\"}")}
	if _, err := o.Put(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	address := serve(t, o)
	for _, args := range [][]string{nil, {"list"}, {"list", "--json"}, {"show", "evt_1"}} {
		out, err := run(append(args, "--address", address)...)
		if err != nil || !strings.Contains(out, "小　店") {
			t.Errorf("%s: got %s (%v)", args, out, err)
		}
		if at := strings.IndexFunc(out, func(r rune) bool { return r != '\n' && !unicode.IsGraphic(r) }); at >= 0 {
			t.Errorf("%s: got %q", args, out)
		}
	}
	out, err := run("list", "--json", "--address", address)
	var got store.Event
	if jsonErr := json.Unmarshal([]byte(out), &got); err != nil || jsonErr != nil || got.Merchant != hostile {
		t.Errorf("got %q (%v, %v)", got.Merchant, err, jsonErr)
	}
}

// Whatever answers at the admin endpoint's address does not fill memory, nor
// change what the terminal shows.
func TestCommandsAskAnybody(t *testing.T) {
	for name, answer := range map[string]func(w http.ResponseWriter){
		"an endless answer": func(w http.ResponseWriter) {
			part := []byte(strings.Repeat(" ", 1<<20))
			for range 2 * maxAnswer / len(part) {
				if _, err := w.Write(part); err != nil {
					return
				}
			}
		},
		"an error for the terminal": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, `{"error":"\u001b[2J\u202e"}`)
		},
		"another server's error": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, "\x1b[2J")
		},
		"another server's page": func(w http.ResponseWriter) { _, _ = io.WriteString(w, "<html>\x1b[2J") },
		"half an answer": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"events":[`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) }))
			defer server.Close()
			for _, args := range [][]string{nil, {"list"}, {"show", "evt_1"}, {"replay", "--all"}, {"drop", "evt_1", "--reason", "test"}} {
				out, err := run(append(args, "--address", server.Listener.Addr().String())...)
				if err == nil || out != "" || strings.ContainsFunc(err.Error(), isControl) {
					t.Errorf("%s: got %q (%q)", args, out, err)
				}
			}
		})
	}
}

// What is no page of events ends a list, and is no empty store.
func TestNoPage(t *testing.T) {
	for _, answer := range []string{"null", "{}", `{"events":null}`, `{"events":[{"id":"evt_1"}],"next":"evt_1"}`} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) }))
		if _, err := run("list", "--address", server.Listener.Addr().String()); err == nil || !strings.Contains(err.Error(), "is no page of events") {
			t.Errorf("%s: got %v", answer, err)
		}
		server.Close()
	}
}

// What is in a file that no server has open can be looked at, and that alone; one
// that is not there is not made.
func TestCommandsOfFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	fill(t, path)
	for _, test := range []struct{ args, want, err string }{
		{"", "MERCHANT  STATE    EVENTS\nshop      dead     1\nshop      waiting  2\n", ""},
		{"list --state dead", "evt_dead", ""},
		{"show evt_dead", `"openid": "***"`, ""},
		{"show evt_none", "", "event evt_none: the store has no such event"},
		{"list --address localhost:2019", "", "address path"},
		{"export --state dead", `{"exported":1}`, ""},
		{"replay evt_dead", "", "start the server"},
		{"drop evt_dead --reason why", "", "start the server"},
	} {
		t.Run(test.args, func(t *testing.T) {
			out, err := run(append(strings.Fields(test.args), "--path", path)...)
			if test.err == "" && (err != nil || !strings.Contains(out, test.want)) || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("got %s (%v)", out, err)
			}
		})
	}
	none := filepath.Join(t.TempDir(), "none.db")
	if _, err := run("list", "--path", none); err == nil || !strings.Contains(err.Error(), none) {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := os.Stat(none); err == nil {
		t.Error("the file was made")
	}
}

// fill puts events into a file.
func fill(t *testing.T, path string) {
	t.Helper()
	s := openSQLite(t, path)
	now := time.Now()
	for _, e := range []*store.Event{
		{ID: "evt_dead", State: store.Dead, Ended: now, Reason: "HTTP status 410"},
		{ID: "evt_1", State: store.Waiting, Due: now},
		{ID: "evt_2", State: store.Waiting, Due: now},
	} {
		e.Merchant, e.Kind, e.Received, e.Since = "shop", wepay.Payment, now, now
		e.Payload = json.RawMessage(`{"openid":"oSECRET"}`)
		if _, err := s.Put(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// openSQLite opens a file, which the test closes.
func openSQLite(t *testing.T, path string) store.Store {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	s := &sqlstore.SQLite{Path: path}
	if err := s.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Open(t.Context(), store.Options{}); err != nil {
		t.Fatal(err)
	}
	return s
}

package caddymodule

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/windsome/caddy-wepay/wepay"
)

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
		{"list --state alive", "", "state must be waiting"},
		{"list --state dead nosuch", "", "nosuch"},
		{"show evt_none", "", "event evt_none: the outbox has no such event"},
		{"show ../replay", "", "is no event's id"},
		{"list --address localhost:2019", "", "address path"},
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
			case test.err != "" && out.Len() > 0:
				t.Errorf("got %s before the error", out.String())
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

// run runs a command, and returns what it prints.
func run(args ...string) (string, error) {
	var out bytes.Buffer
	client := &outboxClient{out: &out, in: strings.NewReader(`{"exported":0}`)}
	cmd := client.root()
	cmd.SetArgs(args)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err := cmd.Execute()
	return out.String(), err
}

// The commands ask a server, whose errors they repeat as they are, and say what
// may help where there is none.
func TestOutboxCommandsAskServer(t *testing.T) {
	o := stocked(t)
	server := httptest.NewServer(outboxRoutes(func() (Outbox, error) { return o, nil }))
	defer server.Close()
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	there := server.Listener.Addr().String()
	for _, test := range []struct {
		name, address string
		args          []string
		want          string
		err           string
	}{
		{"counts", there, nil, "mini      dead       1\n", ""},
		{"show", there, []string{"show", "evt_dead"}, `"total_fee": "1"`, ""},
		{"show none", there, []string{"show", "evt_none"}, "", "outbox: asking the server at " + there + ": event evt_none: the outbox has no such event"},
		{"show no id", there, []string{"show", ""}, "", `"" is no event's id`},
		{"drop", there, []string{"drop", "evt_new", "--reason", "by hand,\n\x1b[2Jtwice"}, `"dropped": 1`, ""},
		{"drop again", there, []string{"drop", "evt_new", "--reason", "by hand"}, "", "event evt_new is dropped"},
		{"drop without reason", there, []string{"drop", "evt_dead"}, "", "reason is required"},
		{"list", there, []string{"list", "--state", "dropped"}, `"by hand,\n\x1b[2Jtwice"` + "\n", ""},
		{"replay", there, []string{"replay", "evt_dead"}, `"replayed": 1`, ""},
		{"replay a merchant's", there, []string{"replay", "--merchant", "mini"}, `"replayed": 1`, ""},
		{"replay nobody's", there, []string{"replay", "--merchant", "mimi"}, "", `merchant "mimi": the outbox has no events of it`},
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

// An export is a file of one's own that is whole, or none.
func TestExportToFile(t *testing.T) {
	path, file := filepath.Join(t.TempDir(), "outbox.db"), filepath.Join(t.TempDir(), "events.jsonl")
	fill(t, path)
	for _, test := range []struct{ state, err string }{{"alive", "state must be"}, {"dead", ""}, {"dead", "file exists"}} {
		_, err := run("export", file, "--state", test.state, "--path", path)
		if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: %v", test.state, err)
		}
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("got %v (%v)", info, err)
	}
	text, err := os.ReadFile(file)
	if err != nil || strings.Count(string(text), "\n") != 2 || !strings.HasSuffix(string(text), `{"exported":1}`+"\n") {
		t.Errorf("got %s (%v)", text, err)
	}
}

// A long table comes in parts, each whole.
func TestOutboxLongList(t *testing.T) {
	o := newMemoryOutbox()
	if err := o.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	const events = 2*longestPage + 10
	for n := range events {
		if err := o.Put(t.Context(), &Event{ID: fmt.Sprintf("evt_%d", n), Merchant: "shop", Kind: wepay.Payment, State: Dead}); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewServer(outboxRoutes(func() (Outbox, error) { return o, nil }))
	defer server.Close()
	out, err := run("list", "--address", server.Listener.Addr().String())
	if err != nil || strings.Count(out, "\n") != events+1 || !strings.HasPrefix(out, "ID ") {
		t.Errorf("%d lines (%v)", strings.Count(out, "\n"), err)
	}
	for n := range events {
		if id := fmt.Sprintf("evt_%d ", n); strings.Count(out, "\n"+id) != 1 {
			t.Fatalf("%s is listed %d times", id, strings.Count(out, id))
		}
	}
}

// Nothing that an outbox holds moves a terminal's cursor.
func TestOutboxCommandsAtTerminal(t *testing.T) {
	o := newMemoryOutbox()
	if err := o.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	const hostile = "小　店\x1b[2J\u009b31m\u202e\U000e0001"
	e := &Event{ID: "evt_1", Merchant: hostile, Kind: wepay.Payment, State: Dead, Reason: hostile, Payload: json.RawMessage("{\"attach\":\"\u009b31m\"}")}
	if err := o.Put(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(outboxRoutes(func() (Outbox, error) { return o, nil }))
	defer server.Close()
	for _, args := range [][]string{nil, {"list"}, {"list", "--json"}, {"show", "evt_1"}} {
		out, err := run(append(args, "--address", server.Listener.Addr().String())...)
		if err != nil || !strings.Contains(out, "小　店") {
			t.Errorf("%s: got %s (%v)", args, out, err)
		}
		if at := strings.IndexFunc(out, func(r rune) bool { return r != '\n' && !unicode.IsGraphic(r) }); at >= 0 {
			t.Errorf("%s: got %q", args, out)
		}
	}
	out, err := run("list", "--json", "--address", server.Listener.Addr().String())
	var got Event
	if jsonErr := json.Unmarshal([]byte(out), &got); err != nil || jsonErr != nil || got.Merchant != hostile {
		t.Errorf("got %q (%v, %v)", got.Merchant, err, jsonErr)
	}
}

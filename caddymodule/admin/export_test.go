package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/caddymodule/store/storetest"
	"github.com/windsome/caddy-wepay/wepay"
)

// What one store exports another one imports, whole; twice does no harm.
func TestExportImport(t *testing.T) {
	from, to := stocked(t), storetest.NewMemory()
	if err := to.Open(t.Context(), store.Options{}); err != nil {
		t.Fatal(err)
	}
	_, lines := asked(from, nil, "GET", "/export", "")
	for _, want := range []string{`{"imported":6,"known":0}`, `{"imported":0,"known":6}`} {
		if status, body := asked(to, nil, "POST", "/import", lines); status != http.StatusOK || body != want {
			t.Fatalf("HTTP %d %s", status, body)
		}
	}
	for _, want := range all(t, from) {
		if got, err := to.Get(t.Context(), want.ID); err != nil || toText(t, got) != toText(t, want) || !bytes.Equal(got.Payload, want.Payload) {
			t.Errorf("got %+v (%v), want %+v", got, err, want)
		}
	}
	cut := lines[:strings.LastIndex(lines, "\n")]
	if status, body := asked(to, nil, "POST", "/import", cut); status != http.StatusBadRequest || !strings.Contains(body, "cut off after 6") {
		t.Errorf("HTTP %d %s", status, body)
	}
}

// all returns all events of a store.
func all(t *testing.T, s store.Store) []*store.Event {
	t.Helper()
	events, _, err := s.List(t.Context(), store.Filter{}, "", 10_000)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func toText(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// line is an event as a line of an export, with other values for some of its
// members; nil takes one away.
func line(t *testing.T, others map[string]any) string {
	t.Helper()
	e := map[string]any{
		"id": "evt_1", "merchant": "shop", "kind": "payment", "state": "waiting", "payload": "{}",
		"received": "2026-01-01T00:00:00Z", "due": "2026-01-01T00:00:00Z", "ended": "2026-01-01T00:00:00Z",
	}
	for name, value := range others {
		if e[name] = value; value == nil {
			delete(e, name)
		}
	}
	return toText(t, e)
}

// What is no event, or not all of an export, is refused by its line, and what
// comes before is stored.
func TestImport(t *testing.T) {
	with := func(name string, value any) string { return line(t, map[string]any{name: value}) }
	for _, test := range []struct {
		name, lines string
		status      int
		want        string
		stored      int
	}{
		{"one", line(t, nil) + "\n" + `{"exported":1}`, 200, `{"imported":1,"known":0}`, 1},
		{"twice the same", line(t, nil) + "\n" + line(t, nil) + "\n" + `{"exported":2}`, 200, `"known":`, 1},
		{"nothing", "", 400, "cut off after 0", 0},
		{"an end", `{"exported":0}`, 200, `{"imported":0,"known":0}`, 0},
		{"less", line(t, nil) + "\n" + `{"exported":2}`, 400, "lines are missing: there are 1 events, of 2", 1},
		{"more", line(t, nil) + "\n" + `{"exported":0}`, 400, "lines are missing", 1},
		{"without end", line(t, nil), 400, "cut off after 1", 1},
		{"two exports", `{"exported":0}` + "\n" + line(t, nil), 400, "line 2: comes after the end", 0},
		{"no JSON", line(t, nil) + "\nevt_2\n" + `{"exported":2}`, 400, "line 2: ", 1},
		{"half a line", line(t, nil) + "\n" + line(t, nil)[:40], 400, "line 2: ", 1},
		{"an empty line", "\n" + `{"exported":0}`, 400, "line 1: ", 0},
		{"a huge line", line(t, nil) + "\n" + with("reason", strings.Repeat("a", longestLine)), 400, "line 2: is longer than 1048576 bytes", 1},
		{"no id", with("id", nil), 400, "id: ", 0},
		{"an id that is none", with("id", "../evt_1"), 400, "id: ", 0},
		{"no merchant", with("merchant", nil), 400, "merchant: ", 0},
		{"two ids", strings.Replace(line(t, nil), `"id":"evt_1"`, `"id":"evt_2","id":"evt_1"`, 1), 400, "duplicate", 0},
		{"a payload with a name twice", with("payload", `{"total_fee":"1","total_fee":"2"}`), 400, "payload: must be a JSON object", 0},
		{"another kind", with("kind", "gift"), 400, `kind: \"gift\"`, 0},
		{"another state", with("state", "alive"), 400, `state: \"alive\"`, 0},
		{"no payload", with("payload", nil), 400, "payload: must be a JSON object", 0},
		{"a payload that is no object", with("payload", "[]"), 400, "payload: must be a JSON object", 0},
		{"a delivered one's payload that is no object", line(t, map[string]any{"state": "delivered", "payload": "1"}), 400, "payload: must be a JSON object", 0},
		{"an event's payload that is no object", line(t, map[string]any{"kind": "event", "payload": `[1,"a"]`}) + "\n" + `{"exported":1}`, 200, `"imported":1`, 1},
		{"an event's payload that is no JSON", line(t, map[string]any{"kind": "event", "payload": `[1,`}), 400, "payload: must be a JSON object", 0},
		{"a payload that is no text", with("payload", map[string]any{}), 400, "payload", 0},
		{"not received", with("received", nil), 400, "received", 0},
		{"not due", with("due", nil), 400, "due", 0},
		{"quarantined, not ended", line(t, map[string]any{"state": "quarantined", "ended": nil}), 400, "ended", 0},
		{"dead, not ended", line(t, map[string]any{"state": "dead", "ended": nil}), 400, "ended", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := storetest.NewMemory()
			if err := o.Open(t.Context(), store.Options{}); err != nil {
				t.Fatal(err)
			}
			status, body := asked(o, nil, "POST", "/import", test.lines)
			if status != test.status || !strings.Contains(body, test.want) || len(all(t, o)) != test.stored {
				t.Errorf("HTTP %d %s, %d events are stored", status, body, len(all(t, o)))
			}
		})
	}
}

// An event stays in the state that it was exported in, and what ended long ago has no
// payload any more.
func TestImportStates(t *testing.T) {
	for _, state := range store.States() {
		for _, payload := range []any{"{}", nil} {
			e, err := importedEvent([]byte(line(t, map[string]any{"state": state, "payload": payload})))
			if refused := state == store.Waiting && payload == nil; refused != (err != nil) || err == nil && e.State != state {
				t.Errorf("%s with the payload %v: %+v (%v)", state, payload, e, err)
			}
		}
	}
}

// Whatever a merchant can be told of can be imported.
func TestImportKinds(t *testing.T) {
	all := (&wepay.Merchant{APIv3Key: "Kd7q2Vn0sX9tB4mHc6Zr1Lw8Fy3Pj5Ga"}).Kinds()
	if len(all) < 5 {
		t.Fatalf("a merchant of API v3 has the kinds %q", all)
	}
	for _, kind := range all {
		if _, err := importedEvent([]byte(line(t, map[string]any{"kind": kind}))); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// fullFor is a store that has no room for some events.
type fullFor struct {
	*storetest.Memory
	ids []string
}

var errFull = errors.New("no space left on device")

func (f fullFor) Put(ctx context.Context, e *store.Event) (added bool, err error) {
	if slices.Contains(f.ids, e.ID) {
		return false, errFull
	}
	return f.Memory.Put(ctx, e)
}

func (f fullFor) Replay(ctx context.Context, id string) (was store.State, err error) {
	if slices.Contains(f.ids, id) {
		return "", errFull
	}
	return f.Memory.Replay(ctx, id)
}

// An import that cannot be stored says at which line, and can be repeated.
func TestImportFails(t *testing.T) {
	var lines strings.Builder
	for n := range 500 {
		fmt.Fprintln(&lines, line(t, map[string]any{"id": fmt.Sprintf("evt_%d", n)}))
	}
	lines.WriteString(`{"exported":500}`)
	o := storetest.NewMemory()
	if err := o.Open(t.Context(), store.Options{}); err != nil {
		t.Fatal(err)
	}
	status, body := asked(fullFor{o, []string{"evt_200"}}, nil, "POST", "/import", lines.String())
	if status != http.StatusInternalServerError || !strings.Contains(body, "line 201: no space left on device") {
		t.Errorf("HTTP %d %s, %d events are stored", status, body, len(all(t, o)))
	}
	if status, body := asked(o, nil, "POST", "/import", lines.String()); status != http.StatusOK || len(all(t, o)) != 500 {
		t.Errorf("HTTP %d %s, %d events are stored", status, body, len(all(t, o)))
	}
}

// awayNow is a store whose server does not answer.
type awayNow struct{ *storetest.Memory }

func (awayNow) Put(context.Context, *store.Event) (bool, error) {
	return false, fmt.Errorf("%w: nobody answers", store.ErrUnavailable)
}

// An import for which there is nobody ends at once.
func TestImportAway(t *testing.T) {
	o := storetest.NewMemory()
	if err := o.Open(t.Context(), store.Options{}); err != nil {
		t.Fatal(err)
	}
	status, body := asked(awayNow{o}, nil, "POST", "/import", line(t, nil)+"\n"+`{"exported":1}`)
	if status != http.StatusServiceUnavailable || !strings.Contains(body, "line 1: the store is unavailable: nobody answers") || len(all(t, o)) > 0 {
		t.Errorf("HTTP %d %s, %d events are stored", status, body, len(all(t, o)))
	}
}

// An event that cannot be replayed does not keep the others from it.
func TestReplayAllButOne(t *testing.T) {
	o := stocked(t)
	status, body := asked(fullFor{o, []string{"evt_dead"}}, nil, "POST", "/replay", `{"all":true}`)
	if status != http.StatusInternalServerError || !strings.Contains(body, "1 events are replayed, others are not: event evt_dead: no space left on device") {
		t.Errorf("HTTP %d %s", status, body)
	}
	if e, err := o.Get(t.Context(), "evt_dead2"); err != nil || e.State != store.Waiting {
		t.Errorf("got %+v (%v)", e, err)
	}
	full := fullFor{Memory: storetest.NewMemory()}
	if err := full.Open(t.Context(), store.Options{}); err != nil {
		t.Fatal(err)
	}
	for n := range 10 * changedAtOnce {
		id := fmt.Sprintf("evt_%d", n)
		full.ids = append(full.ids, id)
		if _, err := full.Memory.Put(t.Context(), &store.Event{ID: id, Merchant: "shop", Kind: wepay.Payment, State: store.Dead, Payload: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
	}
	if _, body := asked(full, nil, "POST", "/replay", `{"all":true}`); strings.Count(body, "no space left") > mostFailures+2*changedAtOnce || !strings.Contains(body, "not tried any more") {
		t.Errorf("got %s", body)
	}
}

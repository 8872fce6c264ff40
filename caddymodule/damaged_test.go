package caddymodule

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// damagedOutbox is an outbox that cannot read all of its events.
type damagedOutbox struct{ *memoryOutbox }

func (d damagedOutbox) List(ctx context.Context, filter Filter, after string, limit int) ([]*Event, string, error) {
	events, next, err := d.memoryOutbox.List(ctx, filter, after, limit)
	return events, next, errors.Join(err, Damaged{2})
}

// withDamaged runs a command against an outbox whose records are damaged in part:
// a server's, or a file.
func withDamaged(t *testing.T, path string, args ...string) (out, errOut string, err error) {
	t.Helper()
	if path == "" {
		server := httptest.NewServer(outboxRoutes(func() (Outbox, error) { return damagedOutbox{stocked(t)}, nil }))
		defer server.Close()
		args = append(args, "--address", server.Listener.Addr().String())
	} else {
		args = append(args, "--path", path)
	}
	var texts [2]bytes.Buffer
	client := &outboxClient{out: &texts[0], errOut: &texts[1]}
	cmd := client.root()
	cmd.SetArgs(args)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err = cmd.Execute()
	return texts[0].String(), texts[1].String(), err
}

// Events that are damaged are left out of what operators ask for, which says so;
// an export has all others, and yet is an error.
func TestOutboxDamagedEvents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	fill(t, path)
	change(t, path, func(tx *bolt.Tx) error {
		return errors.Join(tx.Bucket(boltEvents).Put(numberKey(2), []byte("no record")), tx.Bucket(boltEvents).Put(numberKey(3), nil))
	})
	for name, path := range map[string]string{"of a server": "", "of a file": path} {
		t.Run(name, func(t *testing.T) {
			out, errOut, err := withDamaged(t, path, "list")
			if err != nil || !strings.Contains(out, "evt_dead") || errOut != "damaged events are left out: 2\n" {
				t.Errorf("list: %s %s (%v)", out, errOut, err)
			}
			out, _, err = withDamaged(t, path, "export")
			if err == nil || !strings.Contains(err.Error(), "left out: 2") || !strings.Contains(out, "evt_dead") || !strings.HasSuffix(out, `,"damaged":2}`+"\n") {
				t.Errorf("export: %s (%v)", out, err)
			}
			file := filepath.Join(t.TempDir(), "events.jsonl")
			if _, _, err = withDamaged(t, path, "export", file); err == nil || !strings.Contains(err.Error(), "left out: 2") {
				t.Errorf("export to a file: %v", err)
			}
			if text, err := os.ReadFile(file); err != nil || string(text) != out {
				t.Errorf("exported %s (%v)", text, err)
			}
			to := newMemoryOutbox()
			if err := to.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			if status, body := asked(to, nil, "POST", "/import", out); status != http.StatusOK {
				t.Errorf("import: HTTP %d %s", status, body)
			}
		})
	}
	_, errOut, err := withDamaged(t, "", "replay", "--all")
	if err == nil || !strings.Contains(err.Error(), "2 events are replayed, others are not: damaged events are left out: 2") {
		t.Errorf("replay: %s (%v)", errOut, err)
	}
}

// An answer of a file comes to an end whatever becomes of it.
func TestAskFileEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	fill(t, path)
	for name, serve := range map[string]http.HandlerFunc{
		"a panic before all": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"a panic after some": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("{}"))
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			outbox, err := openBoltReadOnly(path)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := answerOf(outbox, serve, httptest.NewRequest("GET", "/wepay/outbox/export", nil))
			if err != nil {
				t.Fatal(err)
			}
			var text bytes.Buffer
			if _, err := text.ReadFrom(resp.Body); err == nil || !strings.Contains(err.Error(), "cut off") {
				t.Errorf("got %s (%v)", &text, err)
			}
			if _, err := outbox.Count(t.Context()); err == nil {
				t.Error("the file is still open")
			}
		})
	}
}

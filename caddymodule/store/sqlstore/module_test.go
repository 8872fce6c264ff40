package sqlstore

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/windsome/caddy-wepay/caddymodule/internal/clock"
	"github.com/windsome/caddy-wepay/caddymodule/internal/dbtest"
	"github.com/windsome/caddy-wepay/caddymodule/store"
)

func TestUnmarshalCaddyfile(t *testing.T) {
	for text, want := range map[string]string{
		"sqlite":                        `{}`,
		"sqlite /data/store.db":         `{"path":"/data/store.db"}`,
		"postgres {file./run/dsn}":      `{"dsn":"{file./run/dsn}"}`,
		"mysql u:p@tcp(h:3306)/d":       `{"dsn":"u:p@tcp(h:3306)/d"}`,
		"sqlite a b":                    "wrong argument count",
		"postgres":                      "wrong argument count",
		"mysql a b":                     "wrong argument count",
		"sqlite {\n\tpath a\n}":         "unrecognized store option",
		"postgres a {\n\tdsn secret\n}": "unrecognized store option",
	} {
		d := caddyfile.NewTestDispenser(text)
		name, _, _ := strings.Cut(text, " ")
		module, err := caddy.GetModule("wepay.store." + name)
		if err != nil {
			t.Fatal(err)
		}
		s := module.New()
		err = s.(caddyfile.Unmarshaler).UnmarshalCaddyfile(d)
		if err != nil {
			if want[0] == '{' || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v", text, err)
			}
			continue
		}
		if got, err := json.Marshal(s); err != nil || string(got) != want {
			t.Errorf("%q: %s (%v), want %s", text, got, err, want)
		}
	}
}

// Nothing that may be a secret is in an error.
func TestDSNStaysSecret(t *testing.T) {
	t.Setenv("WEPAY_TEST_DSN", "hunter2")
	for _, s := range []anyStore{
		&Postgres{DSN: "postgres://wepay:{env.WEPAY_TEST_DSN}@%zz/x"},
		&Postgres{DSN: "user=wepay password='{env.WEPAY_TEST_DSN}"},
		&Postgres{DSN: "{env.WEPAY_TEST_DSN}"},
		&Postgres{DSN: "postgres://wepay:{env.WEPAY_TEST_DSN}@127.0.0.1:1/x"},
		&MySQL{DSN: "wepay:{env.WEPAY_TEST_DSN}"},
		&MySQL{DSN: "wepay:{env.WEPAY_TEST_DSN}@hunter2(x)/"},
		&MySQL{DSN: "wepay:{env.WEPAY_TEST_DSN}@tcp(127.0.0.1:1)/x?tls=hunter2"},
		&MySQL{DSN: "wepay:{env.WEPAY_TEST_DSN}@tcp(127.0.0.1:1)/x"},
		&MySQL{DSN: "{env.WEPAY_TEST_NONE}"},
	} {
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		err := s.Provision(ctx)
		if err == nil {
			err = s.Open(ctx, store.Options{})
		}
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%T: %v", s, err)
		}
		cancel()
	}
}

// A config that is only validated touches nothing, and one that is loaded while
// another runs shares its file, whatever way leads there.
func TestSQLiteReload(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sub", "store.db")
	provisioned(t, &SQLite{Path: path})
	if names, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(names) > 0 {
		t.Errorf("provisioning makes %q (%v)", names, err)
	}
	running, _ := openSQLiteAt(t, path)
	next, _ := openSQLiteAt(t, filepath.Join(dir, "sub", "..", "sub", "store.db"))
	put(t, running, 0, 10)
	if err := running.Close(); err != nil {
		t.Fatal(err)
	}
	put(t, next, 10, 20)
	if got := drain(t, next); len(got) != 20 {
		t.Errorf("%d events are handed over, want 20", len(got))
	}
}

// An event that a server refuses takes no others with it, and is no outage.
func TestRefusedAlone(t *testing.T) {
	s := provisioned(t, &MySQL{DSN: dbtest.StartMariaDB(t).NewDSN(t)})
	open(t, s, store.Options{})
	bad := make(chan error, 1)
	go func() {
		e := event("evt_bad")
		e.Merchant = strings.Repeat("店", 300)
		_, err := s.Put(t.Context(), e)
		bad <- err
	}()
	put(t, s, 0, 100)
	if err := <-bad; err == nil || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Put of what does not fit: %v", err)
	}
	for id, change := range map[string]func(e *store.Event){
		"evt_nul":                    func(e *store.Event) { e.OutTradeNo = "a\x00" },
		"evt_bytes":                  func(e *store.Event) { e.Merchant = "\xff" },
		strings.Repeat("x", 65):      func(*store.Event) {},
		"":                           func(*store.Event) {},
		"evt_" + "\xff" + "evt_long": func(*store.Event) {},
	} {
		e := event(id)
		change(e)
		if _, err := s.Put(t.Context(), e); err == nil {
			t.Errorf("Put of %q is no error", id)
		}
	}
}

// What is in two keys' place is told apart by its ID.
func TestCollision(t *testing.T) {
	s, _ := openSQLiteAt(t, filepath.Join(t.TempDir(), "store.db"))
	k, _ := keyOf("3f2504e0-4f89-11d3-9a0c-0305e82c3301")
	twin := idOf(k[:], "")
	put(t, s, 0, 1)
	if added, err := s.Put(t.Context(), event("3f2504e0-4f89-11d3-9a0c-0305e82c3301")); err != nil || !added {
		t.Fatalf("Put: %v", err)
	}
	if added, err := s.Put(t.Context(), event(twin)); err == nil || added {
		t.Errorf("Put of another event with the same key: added is %v (%v)", added, err)
	}
	if _, err := s.Get(t.Context(), twin); !errors.Is(err, store.ErrNoEvent) {
		t.Errorf("Get of it: %v", err)
	}
}

// A clock that is set to another time removes nothing at once, and what is old by a
// clock that goes on evenly goes.
func TestRetentionClock(t *testing.T) {
	s, _ := openSQLiteAt(t, filepath.Join(t.TempDir(), "store.db"))
	e := event("evt_1")
	e.State, e.Ended = store.Delivered, time.Now()
	if _, err := s.Put(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	var elapsed, set time.Duration
	start := time.Now()
	wall := func() time.Time { return start.Add(elapsed + set) }
	even := clock.New(wall, func() time.Duration { return elapsed })
	s.db.setOptions(store.Options{Keep: 24 * time.Hour, Now: wall})
	gone := func() bool {
		s.db.retain(context.Background(), even)
		e, err := s.Get(t.Context(), "evt_1")
		return err == nil && e.Payload == nil
	}
	if set = 48 * time.Hour; gone() {
		t.Error("it is gone at once")
	}
	if elapsed += 30 * time.Minute; gone() {
		t.Error("it is gone after half an hour")
	}
	if set, elapsed = -48*time.Hour, elapsed+25*time.Hour; gone() {
		t.Error("it is gone although the clock says that it is yet to come")
	}
	if set = 0; !gone() {
		t.Error("it is there after a day")
	}
}

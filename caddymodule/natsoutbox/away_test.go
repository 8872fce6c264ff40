package natsoutbox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/windsome/caddy-wepay/caddymodule"
)

// behind returns an outbox whose server is behind a proxy.
func behind(t testing.TB, s *natsserver.Server) (*NATS, *proxy) {
	t.Helper()
	p := startProxy(t, s.Addr().String())
	return newOutbox(t, &NATS{URLs: []string{"nats://shop:a-password@" + p.address()}, Replicas: 1}), p
}

// Who looks into the outbox while NATS is away, or hangs, is told so soon.
func TestLookingWhileAway(t *testing.T) {
	for name, away := range map[string]func(*proxy){
		"hangs": func(p *proxy) { p.setDeaf(true) },
		"gone":  func(p *proxy) { p.setCut(true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, p := behind(t, startServer(t, nil))
			if err := o.Open(within(t, lots)); err != nil {
				t.Fatal(err)
			}
			defer o.Close()
			put(t, o, "evt_1")
			away(p)
			var callers sync.WaitGroup
			defer callers.Wait()
			for call, do := range map[string]func(context.Context) error{
				"Count":  func(ctx context.Context) error { _, err := o.Count(ctx); return err },
				"List":   func(ctx context.Context) error { _, _, err := o.List(ctx, caddymodule.Filter{}, "", 1); return err },
				"Get":    func(ctx context.Context) error { _, err := o.Get(ctx, "evt_1"); return err },
				"Replay": func(ctx context.Context) error { return o.Replay(ctx, "evt_1") },
				"Drop":   func(ctx context.Context) error { return o.Drop(ctx, "evt_1", "a reason") },
			} {
				callers.Go(func() {
					began := time.Now()
					err := do(within(t, lots))
					if took := time.Since(began); !errors.Is(err, caddymodule.ErrOutboxAway) || took > 2*reachTimeout {
						t.Errorf("%s: %v after %s", call, err, took)
					} else if text := err.Error(); !strings.Contains(text, "NATS at "+p.address()+" does not answer") || strings.Contains(text, "a-password") {
						t.Errorf("%s says %s", call, text)
					}
					if err := do(within(t, short)); !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("%s with a limit: %v", call, err)
					}
				})
			}
		})
	}
}

// A count that takes longer than a scrape has is there for the next, and who
// cannot wait has the last.
func TestLongCount(t *testing.T) {
	s := startServer(t, nil)
	o := openOutbox(t, &NATS{URLs: []string{s.ClientURL()}, Replicas: 1})
	put(t, o, "evt_1")
	tally := &o.store.tally
	if err := tally.take(t.Context()); err != nil { // as a count does that takes long
		t.Fatal(err)
	}
	if _, err := o.Count(within(t, short)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("before the first is done: %v", err)
	}
	tally.keep([]caddymodule.Count{{Merchant: "shop", State: caddymodule.Waiting, Events: 200_000}})
	tally.end()
	if got := counts(t, o); got[caddymodule.Waiting] != 200_000 {
		t.Errorf("after it: %v", got)
	}
	tally.mu.Lock()
	tally.at = tally.at.Add(-2 * tallyKeep)
	tally.mu.Unlock()
	if err := tally.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := o.Count(within(t, short)); err != nil || len(got) != 1 || got[0].Events != 200_000 {
		t.Errorf("while it is counted again: %v (%v)", got, err)
	}
	tally.end()
	if got := counts(t, o); got[caddymodule.Waiting] != 1 {
		t.Errorf("counted again: %v", got)
	}
}

// Whoever leaves a stream as the last of the process is told what is left there.
func TestLeft(t *testing.T) {
	s := startServer(t, nil)
	open := func(stream string, extra ...string) (*NATS, *observer.ObservedLogs, *proxy) {
		t.Helper()
		o, p := behind(t, s)
		core, logs := observer.New(zap.InfoLevel)
		o = newOutbox(t, &NATS{URLs: append(o.URLs, extra...), Stream: stream, Replicas: 1})
		o.logger = zap.New(core)
		if err := o.Open(within(t, lots)); err != nil {
			t.Fatal(err)
		}
		return o, logs, p
	}
	leave := func(o *NATS) {
		t.Helper()
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	}
	about := func(logs *observer.ObservedLogs) []observer.LoggedEntry {
		return logs.FilterMessageSnippet("the config has this outbox no more").All()
	}

	o, logs, _ := open("LEFT")
	put(t, o, "evt_1", "evt_2", "evt_3", "evt_4")
	settle(t, o, leaseOne(t, o, long), caddymodule.Dead)
	settle(t, o, leaseOne(t, o, long), caddymodule.Delivered)
	other, otherLogs, _ := open("LEFT", s.ClientURL()) // as after a reload with one server more
	leave(o)
	if told := about(logs); len(told) > 0 {
		t.Errorf("while another has the stream: %v", told)
	}
	leave(other)
	told := about(otherLogs)
	if len(told) != 1 || told[0].Level != zap.WarnLevel {
		t.Fatalf("told: %v", told)
	}
	fields := told[0].ContextMap()
	if fields["waiting"] != int64(2) || fields["dead"] != int64(1) || fields["stream"] != "LEFT" ||
		!strings.Contains(fmt.Sprint(fields["servers"]), s.Addr().String()) || strings.Contains(fmt.Sprint(fields), "a-password") {
		t.Errorf("told: %v", fields)
	}

	o, logs, _ = open("EMPTY")
	put(t, o, "evt_1")
	settle(t, o, leaseOne(t, o, long), caddymodule.Delivered)
	leave(o)
	if told := about(logs); len(told) > 0 {
		t.Errorf("with nothing left: %v", told)
	}

	o, logs, p := open("HUNG")
	put(t, o, "evt_1")
	p.setDeaf(true)
	began := time.Now()
	leave(o)
	if told := about(logs); len(told) != 1 || !strings.Contains(told[0].Message, "could not be counted") || time.Since(began) > 2*leftTimeout {
		t.Errorf("after %s: %v", time.Since(began), told)
	}
}

// A Caddy whose NATS hangs, with an event in hand, ends within its grace period.
func TestStopWhileHung(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	p := startProxy(t, server.Addr().String())
	handed, release := make(chan struct{}, 10), make(chan struct{})
	orders := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		handed <- struct{}{}
		<-release
	}))
	t.Cleanup(orders.Close)
	defer close(release)
	dir := t.TempDir()
	config := write(t, "Caddyfile", fmt.Appendf(nil, `{
	admin off
	persist_config off
	storage file_system %s
	grace_period 3s
	wepay {
		merchant shop {
			app_id wx9af096e5f111831a
			mch_id 1525312341
			partner_key 0123456789abcdefghijklmnopqrstuv
			callback_secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw
			notify_url https://m.example.cn/apis/v1/wepay/pay_notify
			cb_notify_url %s
		}
		outbox nats {
			url nats://%s
			replicas 1
		}
	}
}
http://127.0.0.1:%d {
	bind 127.0.0.1
	wepay
}
`, dir, orders.URL, p.address(), freePorts(t, 1)[0]))
	put(t, openOutbox(t, &NATS{URLs: []string{server.ClientURL()}, Replicas: 1}), "evt_1")
	log := filepath.Join(dir, "caddy.log")
	cmd := startProcess(t, "caddy", log, "run", "--config", config, "--adapter", "caddyfile")
	select {
	case <-handed:
	case <-time.After(lots):
		text, _ := os.ReadFile(log)
		t.Fatalf("the event is not handed over\n%s", text)
	}
	p.setDeaf(true)
	began := time.Now()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	if took := time.Since(began); err != nil || took > 4*time.Second { // a second is for the process itself
		text, _ := os.ReadFile(log)
		t.Errorf("it ends after %s (%v)\n%s", took, err, text)
	} else {
		t.Logf("it ends after %s", took)
	}
}

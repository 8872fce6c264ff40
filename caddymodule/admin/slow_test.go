package admin

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/caddymodule/store/storetest"
	"github.com/windsome/caddy-wepay/wepay"
)

// slow is a store that takes its time.
type slow struct{ *storetest.Memory }

func (s slow) Put(ctx context.Context, e *store.Event) (added bool, err error) {
	err = s.after(ctx, func() error { added, err = s.Memory.Put(ctx, e); return err })
	return added, err
}

func (s slow) Replay(ctx context.Context, id string) (was store.State, err error) {
	err = s.after(ctx, func() error { was, err = s.Memory.Replay(ctx, id); return err })
	return was, err
}

func (slow) after(ctx context.Context, call func() error) error {
	select {
	case <-time.After(time.Second):
		return call()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pipes listens for connections within a bubble.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if conn := <-p; conn != nil {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error {
	close(p)
	return nil
}

func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func (p pipes) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	p <- server
	return client, nil
}

// silent sends a text a while after it was asked for.
type silent struct {
	text io.Reader
	wait time.Duration
}

func (s silent) Read(text []byte) (int, error) {
	<-time.After(s.wait)
	return s.text.Read(text)
}

// Caddy's admin endpoint gives a request 10 seconds. An import may take longer to
// come, and what is asked for longer to be done.
func TestAdminTakesItsTime(t *testing.T) {
	const events = 12 * changedAtOnce
	var lines strings.Builder
	for n := range events {
		fmt.Fprintln(&lines, line(t, map[string]any{"id": fmt.Sprintf("evt_new_%d", n)}))
	}
	fmt.Fprintf(&lines, `{"exported":%d}`, events)
	end := `{"exported":0}`
	for _, test := range []struct {
		name, method, path string
		body               io.Reader
		read               time.Duration // how long the client waits before it reads
		status             int
		want               string
	}{
		{"many imported", "POST", "/import", strings.NewReader(lines.String()), 0, 200, `{"imported":768,"known":0}`},
		{"import pauses", "POST", "/import", silent{strings.NewReader(end), 30 * time.Second}, 0, 200, `{"imported":0,"known":0}`},
		{"import stops", "POST", "/import", silent{strings.NewReader(end), 2 * mostSilence}, 0, 400, "line 1: "},
		{"many replayed", "POST", "/replay", strings.NewReader(`{"all":true}`), 0, 200, `{"replayed":768}`},
		{"export read slowly", "GET", "/export", nil, time.Minute, 200, `{"exported":768}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := slow{storetest.NewMemory()}
				if err := o.Open(t.Context(), store.Options{}); err != nil {
					t.Fatal(err)
				}
				for n := range events {
					e := &store.Event{ID: fmt.Sprintf("evt_%d", n), Merchant: "shop", Kind: wepay.Payment, State: store.Dead, Payload: []byte("{}"), Reason: strings.Repeat("a", 1000)}
					if _, err := o.Memory.Put(t.Context(), e); err != nil {
						t.Fatal(err)
					}
				}
				connections := make(pipes)
				server := &http.Server{Handler: routes(func() (store.Store, error) { return o, nil }), ReadTimeout: 10 * time.Second}
				go func() { _ = server.Serve(connections) }() // it is closed below
				client := &http.Client{Transport: &http.Transport{DialContext: connections.dial, DisableKeepAlives: true}}
				req, err := http.NewRequest(test.method, "http://pipe/wepay/events"+test.path, test.body)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				<-time.After(test.read)
				text, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != test.status || !strings.Contains(string(text), test.want) {
					t.Errorf("HTTP %d %.200s (%v)", resp.StatusCode, text, err)
				}
				_ = resp.Body.Close()
				if err := server.Close(); err != nil {
					t.Error(err)
				}
				<-time.After(2 * mostSilence) // what is silent still ends then
			})
		})
	}
}

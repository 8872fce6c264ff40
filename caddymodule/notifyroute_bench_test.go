package caddymodule_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// rig is a Caddy with an outbox in front of an order service, and beside it
// Caddy's own reverse proxy in front of the same one: all in this process, as
// is what sends.
type rig struct {
	b         *testing.B
	shop      *seller
	orders    *httptest.Server
	web       *http.Client
	delivered atomic.Int64
	stored    string // address of the site with the outbox
	proxied   string // address of the site with the reverse proxy
	sent      int

	connections int
}

const rigRound = 8000 // notifications

func newRig(b *testing.B, connections int) *rig {
	b.Helper()
	dir := b.TempDir()
	b.Setenv("XDG_DATA_HOME", dir)
	b.Setenv("XDG_CONFIG_HOME", dir)
	r := &rig{b: b, shop: newSeller("shop", 1), stored: benchAddress(b), proxied: benchAddress(b), connections: connections}
	r.web = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}}
	b.Cleanup(r.web.CloseIdleConnections)
	r.orders = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			b.Error(err)
		}
		w.WriteHeader(http.StatusNoContent)
		r.delivered.Add(1)
	}))
	b.Cleanup(r.orders.Close)
	config := fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	storage file_system %[1]s
	log {
		output file %[1]s/caddy.log {
			roll_disabled
		}
	}
	wepay {
		merchant shop {
			env H5
			app_id %[2]s
			mch_id %[3]s
			partner_key %[4]s
			callback_secret %[5]s
			notify_url http://%[6]s/apis/v1/wepay/pay_notify
			cb_notify_url %[8]s
		}
		outbox bolt {
			path %[1]s/outbox.db
		}
	}
}
http://%[6]s {
	bind 127.0.0.1
	wepay
}
http://%[7]s {
	bind 127.0.0.1
	reverse_proxy %[8]s
}
`, dir, r.shop.appID, r.shop.mchID, r.shop.key, secret, r.stored, r.proxied, r.orders.URL)
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(config), map[string]any{"filename": filepath.Join(dir, "Caddyfile")})
	if err != nil {
		b.Fatal(err)
	}
	if err := caddy.Load(adapted, true); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			b.Error(err)
		}
	})
	return r
}

// benchAddress returns an address that nobody listens on.
func benchAddress(b *testing.B) string {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// notifications returns notifications that nobody has seen yet.
func (r *rig) notifications() []string {
	all := make([]string, rigRound)
	for i := range all {
		all[i] = r.shop.notification(r.b, fmt.Sprintf("%d-%d", r.sent, i))
	}
	r.sent++
	return all
}

// volley sends notifications over some connections and returns how long each
// took to be answered since it should have been sent: at once after the one
// before, or at a pace of so many a second.
func (r *rig) volley(address string, notifications []string, pace float64) []time.Duration {
	latencies := make([]time.Duration, len(notifications))
	began := time.Now()
	var next atomic.Int64
	var senders sync.WaitGroup
	for range r.connections {
		senders.Go(func() {
			for n := int(next.Add(1)) - 1; n < len(notifications); n = int(next.Add(1)) - 1 {
				due := time.Now()
				if pace > 0 {
					due = began.Add(time.Duration(float64(n) / pace * float64(time.Second)))
					<-time.After(time.Until(due))
				}
				if err := r.send(address, notifications[n]); err != nil {
					r.b.Error(err)
					return
				}
				latencies[n] = time.Since(due)
			}
		})
	}
	senders.Wait()
	return latencies
}

// send sends a notification and demands that it is taken.
func (r *rig) send(address, notification string) error {
	resp, err := r.web.Post("http://"+address+"/apis/v1/wepay/pay_notify", "text/xml", strings.NewReader(notification))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusNoContent && string(body) != taken {
		err = fmt.Errorf("HTTP %d %s", resp.StatusCode, body)
	}
	return err
}

// round sends a round at full speed and returns how many a second were answered
// and how many reached the order service.
func (r *rig) round(address string) (answered, delivered float64) {
	notifications := r.notifications()
	before := r.delivered.Load()
	began := time.Now()
	r.volley(address, notifications, 0)
	answered = rigRound / time.Since(began).Seconds()
	r.awaitDelivered(before + rigRound)
	return answered, rigRound / time.Since(began).Seconds()
}

func (r *rig) awaitDelivered(n int64) {
	for began := time.Now(); r.delivered.Load() < n; <-time.After(time.Millisecond) {
		if time.Since(began) > soon {
			r.b.Fatalf("%d of %d are delivered", r.delivered.Load(), n)
		}
	}
}

// BenchmarkNotifyRoute is how many notifications a second the route with an
// outbox answers, each durable before, and hands over meanwhile; and what part
// that is of what the reverse proxy moves to the same order service without any
// disk, in the same run. Those that come at the same time share a sync, so that
// it is the more the more senders there are. Medians of the rounds: -benchtime
// 7x.
func BenchmarkNotifyRoute(b *testing.B) {
	for _, connections := range []int{32, 64, 128} {
		b.Run(fmt.Sprintf("%d connections", connections), func(b *testing.B) { benchmarkNotifyRoute(b, connections) })
	}
}

func benchmarkNotifyRoute(b *testing.B, connections int) {
	r := newRig(b, connections)
	r.round(r.stored) // connections, caches, the file's first pages
	r.round(r.proxied)
	figures := make(map[string][]float64)
	note := func(name string, value float64) { figures[name] = append(figures[name], value) }
	for b.Loop() {
		_, proxied := r.round(r.proxied)
		answered, delivered := r.round(r.stored)
		note("proxied/s", proxied)
		note("answered/s", answered)
		note("delivered/s", delivered)
		note("answered/proxied", answered/proxied)
		note("delivered/proxied", delivered/proxied)
	}
	reportMedians(b, figures)
}

// BenchmarkNotifyRouteLatency is how long WeChat waits for the answer at half
// of the load that the route takes, in milliseconds from when it meant to send.
func BenchmarkNotifyRouteLatency(b *testing.B) {
	r := newRig(b, 64)
	figures := make(map[string][]float64)
	sites := map[string]string{"stored": r.stored, "proxied": r.proxied}
	for _, address := range sites {
		r.round(address)
	}
	for b.Loop() {
		for name, address := range sites {
			_, peak := r.round(address)
			before := r.delivered.Load()
			latencies := r.volley(address, r.notifications(), peak/2)
			r.awaitDelivered(before + rigRound)
			slices.Sort(latencies)
			for percent, latency := range map[string]time.Duration{"p50": latencies[rigRound/2], "p99": latencies[rigRound*99/100]} {
				unit := strings.Join([]string{name, percent, "ms"}, "-")
				figures[unit] = append(figures[unit], latency.Seconds()*1000)
			}
		}
	}
	reportMedians(b, figures)
}

func reportMedians(b *testing.B, figures map[string][]float64) {
	for name, values := range figures {
		slices.Sort(values)
		b.ReportMetric(values[len(values)/2], name)
	}
	b.ReportMetric(0, "ns/op") // says nothing here
}

package e2e_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// stored is the line of a store.
func stored(b *testing.B) string {
	return "\t\tstore sqlite " + filepath.Join(b.TempDir(), "events.db")
}

// BenchmarkNotifyRoute is how many notifications a second the route with an
// store answers, each durable before, and hands over meanwhile; and what part
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
	r := newRig(b, connections, stored(b))
	r.round(r.site, r.notifications()) // connections, caches, the file's first pages
	r.round(r.proxied, r.notifications())
	figures := make(map[string][]float64)
	note := func(name string, value float64) { figures[name] = append(figures[name], value) }
	for b.Loop() {
		_, proxied := r.round(r.proxied, r.notifications())
		answered, delivered := r.round(r.site, r.notifications())
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
	r := newRig(b, 64, stored(b))
	figures := make(map[string][]float64)
	sites := map[string]string{"stored": r.site, "proxied": r.proxied}
	for _, address := range sites {
		r.round(address, r.notifications())
	}
	for b.Loop() {
		for name, address := range sites {
			_, peak := r.round(address, r.notifications())
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

// BenchmarkNotifyRouteV3 is how many notifications of API v3 a second the route
// hands over, without a store; how many those of API v2 would be if to verify
// them took as long as RSA alone does, in the same run; and what part one is of
// the other.
func BenchmarkNotifyRouteV3(b *testing.B) {
	r := newRig(b, 32, "")
	// Signing takes long. Without a store one that comes again is handed over
	// again.
	const signed = rigRound / 20
	v2 := r.sign(signed, func(n int) sent {
		return sent{http.Header{"Content-Type": {"text/xml"}}, r.shop.notification(r.b, fmt.Sprint(n))}
	})
	v3 := r.sign(signed, func(n int) sent { return r.notificationV3(fmt.Sprint(n)) })
	v2, v3 = slices.Repeat(v2, rigRound/signed), slices.Repeat(v3, rigRound/signed)
	figures := make(map[string][]float64)
	note := func(name string, value float64) { figures[name] = append(figures[name], value) }
	for b.Loop() {
		_, ofV2 := r.round(r.site, v2)
		_, ofV3 := r.round(r.site, v3)
		_, proxied := r.round(r.proxied, v2)
		verified := r.verify(v3)
		expected := 1 / (1/ofV2 + 1/verified)
		note("v2/s", ofV2)
		note("v3/s", ofV3)
		note("verified/s", verified)
		note("expected/s", expected)
		note("v3/expected", ofV3/expected)
		note("v2/proxied", ofV2/proxied)
		note("v3/proxied", ofV3/proxied)
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

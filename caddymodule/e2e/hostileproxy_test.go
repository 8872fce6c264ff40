package e2e_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/goleak"
)

// greet answers the greeting of a SOCKS client, and reads where it wants to go.
func greet(answers misbehaviour) misbehaviour {
	return func(conn net.Conn, _ string) {
		greeting := make([]byte, 3)
		if _, err := io.ReadFull(conn, greeting); err != nil {
			return
		}
		_, _ = conn.Write([]byte{5, 0})
		target := make([]byte, 10)
		if _, err := io.ReadFull(conn, target); err != nil {
			return
		}
		answers(conn, "")
	}
}

// tunnel answers CONNECT.
func tunnel(answers misbehaviour) misbehaviour {
	return func(conn net.Conn, _ string) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			answers(conn, "")
		}
	}
}

// proxies are those that never get anywhere, by their scheme.
var proxies = map[string]map[string]misbehaviour{
	"socks5": {
		"silence":          say(""),
		"dribbled address": greet(dribble("\x05\x00\x00\x03\xff", "x")),
		"no answer":        greet(say("")),
		"no destination":   greet(say("\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50")),
		"HTTP":             say(ok + "\r\n"),
	},
	"http": {
		"silence":          tunnel(say("")),
		"switching":        tunnel(misbehaviours["switching"]),
		"switching-floods": tunnel(misbehaviours["switching-floods"]),
		"dribbled head":    tunnel(misbehaviours["dribbled-head"]),
		"endless head":     tunnel(misbehaviours["endless-head"]),
		"hints":            tunnel(misbehaviours["hints"]),
		"no destination":   tunnel(misbehaviours["proxied"]),
		"a flood":          tunnel(flood(ok+"\r\n", "x")),
	},
	"https": {
		"silence": say(""),
	},
}

// Whatever a proxy does that connections are made through, whoever asked has an
// answer soon and hears that nothing was sent, and no connection outlives Caddy.
func TestHostileProxies(t *testing.T) {
	var servers []*hostileServer
	for scheme, all := range proxies {
		for name, does := range all {
			server := &hostileServer{conns: make(map[net.Conn]string)}
			server.listen(t, func(conn net.Conn) {
				does(conn, "")
				_, _ = io.Copy(io.Discard, conn)
			})
			servers = append(servers, server)
			t.Run(scheme+", "+name, func(t *testing.T) { askThrough(t, scheme+strings.TrimPrefix(server.URL, "http")) })
		}
	}
	for _, server := range servers {
		server.untilClosed(t)
	}
}

// askThrough has all ask that ask through a proxy.
func askThrough(t *testing.T, proxy string) {
	env, shop := newEnvironment(t), newMerchant("shop", 1)
	shop.orders = "https://127.0.0.1:1"
	l := env.stalls(stall{shop, []string{"app_secret " + appSecret}})
	l.transport = "network_proxy url " + proxy
	l.options = shortTimes + l.options + "callback_transport http {\n" + l.transport + "\n}\n"
	env.serve(l)
	began := time.Now()
	var asks sync.WaitGroup
	for _, ask := range []func(){
		func() { checkNoAnswer(t, env.ask("order_query", map[string]any{"out_trade_no": "o1"}), "AGAIN") },
		func() { checkNoAnswer(t, env.ask("openid", map[string]any{"code": "c1"}), "AGAIN") },
		func() { checkNoAnswer(t, env.ask("refund", shop.refund("o1", "r1", 1)), "AGAIN", "nothing was sent") },
		func() { checkRefused(t, env, env.post("pay_notify", shop.notification(t, "o1")), "not_taken") },
	} {
		asks.Go(ask)
	}
	asks.Wait()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the answers took %v", took)
	}
}

// Names that nobody resolves hold nobody up.
func TestSilentResolver(t *testing.T) {
	resolver, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer resolver.Close()
	env, shop := newEnvironment(t), newMerchant("shop", 1)
	before := goleak.IgnoreCurrent()
	shop.endpoint, shop.orders = "https://wechat.example", "http://orders.example"
	l := env.stalls(stall{shop, []string{"app_secret " + appSecret}})
	l.transport = "resolvers " + resolver.LocalAddr().String()
	l.options = shortTimes + strings.ReplaceAll(l.options, env.wechat.URL, shop.endpoint) + "callback_transport http {\n" + l.transport + "\n}\n"
	env.serve(l)
	began := time.Now()
	checkNoAnswer(t, env.ask("refund", shop.refund("o1", "r1", 1)), "AGAIN", "nothing was sent")
	checkNoAnswer(t, env.ask("openid", map[string]any{"code": "c1"}), "AGAIN")
	checkRefused(t, env, env.post("pay_notify", shop.notification(t, "o1")), "not_taken")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the answers took %v", took)
	}
	if err := caddy.Stop(); err != nil {
		t.Error(err)
	}
	env.web.CloseIdleConnections()
	if err := failLookup(resolver, soon); err != nil {
		t.Errorf("nobody was asked: %v", err)
	}
	for stopped := time.Now(); goleak.Find(before) != nil; { // lookups end when they are answered, or after a while
		if time.Since(stopped) > soon/4 {
			t.Fatal(goleak.Find(before))
		}
		if err := failLookup(resolver, 100*time.Millisecond); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	}
}

// failLookup answers a query that came, or comes in time, that it failed.
func failLookup(resolver net.PacketConn, patience time.Duration) error {
	query := make([]byte, 1500)
	if err := resolver.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	n, from, err := resolver.ReadFrom(query)
	if err != nil {
		return err
	}
	query[2], query[3] = query[2]|1<<7, 2 // SERVFAIL
	_, err = resolver.WriteTo(query[:n], from)
	return err
}

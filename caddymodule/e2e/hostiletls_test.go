package e2e_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// holding listens, and says nothing, until the end of the test. It tells of each
// connection that its client has closed it.
func holding(t *testing.T) (address string, closed <-chan struct{}) {
	t.Helper()
	s := &hostileServer{conns: make(map[net.Conn]string)}
	ended := make(chan struct{}, 100)
	s.listen(t, func(conn net.Conn) {
		_, _ = io.Copy(io.Discard, conn)
		ended <- struct{}{}
	})
	return strings.TrimPrefix(s.URL, "http://"), ended
}

// A connection that is never made ready for a request is given up, also by whoever
// dials it when the request has been.
func TestTLSThatNeverBegins(t *testing.T) {
	env, shop := newEnvironment(t), newMerchant("shop", 1)
	address, closed := holding(t)
	shop.endpoint, shop.orders = "https://"+address, "https://"+address
	l := env.stalls(stall{shop, []string{"app_secret " + appSecret}})
	l.options = shortTimes + strings.ReplaceAll(l.options, env.wechat.URL, "https://"+address)
	env.serve(l)
	checkNoAnswer(t, env.ask("order_query", map[string]any{"out_trade_no": "o1"}), "AGAIN")
	checkNoAnswer(t, env.ask("openid", map[string]any{"code": "c1"}), "AGAIN")
	checkRefused(t, env, env.post("pay_notify", shop.notification(t, "o1")), "not_taken")
	for range 3 {
		select {
		case <-closed:
		case <-time.After(soon / 4):
			t.Fatal("a connection stays open")
		}
	}
}

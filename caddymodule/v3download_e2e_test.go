package caddymodule_test

import (
	"io"
	"net"
	"testing"
	"time"
)

// silent is an access point that takes questions and answers none.
type silent struct {
	url  string
	took chan struct{} // one for each connection
	left chan struct{} // one for each that the client has closed
}

func newSilent(t *testing.T) *silent {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	s := &silent{"http://" + listener.Addr().String(), make(chan struct{}, 9), make(chan struct{}, 9)}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				s.took <- struct{}{}
				_, _ = io.Copy(io.Discard, conn)
				s.left <- struct{}{}
			}()
		}
	}()
	return s
}

// An access point that never answers does not hold up the end of a config,
// whatever the time-out is, and what is fetched from it ends with the config.
func TestStopWaitsForNoCertificates(t *testing.T) {
	w, shop, dead := newWorld(t), newV3Seller("shop", 1), newSilent(t)
	w.patience = redials
	shop.endpoint = dead.url
	l := layout{sellers: []*seller{shop}, options: "call_timeout 30s", site: counting}
	w.serve(l)
	for _, end := range []struct {
		name string
		do   func() error
	}{
		{"a reload", func() error { return w.load(l) }},
		{"stopping", w.unload},
	} {
		<-dead.took
		began := time.Now()
		if err := end.do(); err != nil {
			t.Fatal(err)
		}
		<-dead.left
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s took %s", end.name, took)
		}
	}
}

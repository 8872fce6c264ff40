package e2e_test

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sync/errgroup"
)

// h2 misbehaves over HTTP/2, on the stream of a request. Its error is the client's
// going away, or nil when it has done what it does.
type h2 func(framer *http2.Framer, stream uint32) error

// again does something as fast as it goes.
func again(do h2) h2 {
	return func(framer *http2.Framer, stream uint32) error {
		for {
			if err := do(framer, stream); err != nil {
				return err
			}
		}
	}
}

// slowly does something now and then.
func slowly(do h2) h2 {
	return again(func(framer *http2.Framer, stream uint32) error {
		<-time.After(20 * time.Millisecond)
		return do(framer, stream)
	})
}

// then does one thing after the other.
func then(all ...h2) h2 {
	return func(framer *http2.Framer, stream uint32) error {
		for _, do := range all {
			if err := do(framer, stream); err != nil {
				return err
			}
		}
		return nil
	}
}

// heading sends a header of names and values, of a stream that ends or not.
func heading(end bool, pairs ...string) h2 {
	return func(framer *http2.Framer, stream uint32) error {
		var block bytes.Buffer
		encoder := hpack.NewEncoder(&block)
		for i := 0; i < len(pairs); i += 2 {
			if err := encoder.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]}); err != nil {
				return err
			}
		}
		return framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end})
	}
}

func data(text string) h2 {
	return func(framer *http2.Framer, stream uint32) error { return framer.WriteData(stream, false, []byte(text)) }
}

func ping(framer *http2.Framer, _ uint32) error { return framer.WritePing(false, [8]byte{1}) }

func continuation(framer *http2.Framer, stream uint32) error {
	return framer.WriteContinuation(stream, false, bytes.Repeat([]byte{0, 1, 'a', 1, 'b'}, 1000))
}

func settings(framer *http2.Framer, _ uint32) error { return framer.WriteSettings() }

func openHeading(framer *http2.Framer, stream uint32) error {
	return framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte{0x88}})
}

var h2Misbehaviours = map[string]h2{
	"silence":        func(*http2.Framer, uint32) error { return nil },
	"hints":          again(heading(false, ":status", "103", "link", "</a>")),
	"dribbled-hints": slowly(heading(false, ":status", "103")),
	"switching":      heading(false, ":status", "101"),
	"switching-ends": heading(true, ":status", "101"),
	"no-end":         then(heading(false, ":status", "200"), data("{}")),
	"dribbled-body":  then(heading(false, ":status", "200"), slowly(data(" "))),
	"endless-body":   then(heading(false, ":status", "200"), again(data(strings.Repeat(" ", 1000)))),
	"empty-data":     then(heading(false, ":status", "200"), again(data(""))),
	"pings":          again(ping),
	"settings":       again(settings),
	"continuations":  then(openHeading, again(continuation)),
	"huge-head":      heading(false, ":status", "200", "a", strings.Repeat("b", 1<<14)),
	"long-status":    heading(false, ":status", strings.Repeat("2", 1000)),
	"trailer-of-101": then(heading(false, ":status", "200"), data("{}"), heading(true, ":status", "101")),
	"goes-away": func(framer *http2.Framer, _ uint32) error {
		return framer.WriteGoAway(0, http2.ErrCodeNo, []byte("secret=of-its-own"))
	},
	"no-window": func(framer *http2.Framer, _ uint32) error {
		return framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	},
	"unknown-streams": again(func(framer *http2.Framer, _ uint32) error { return framer.WriteRSTStream(99, http2.ErrCodeNo) }),
}

// serveH2 reads a request, does what its path says, and reads on until the client
// closes.
func serveH2(t *testing.T, conn net.Conn) {
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(conn, preface); err != nil {
		return
	}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if framer.WriteSettings() != nil {
		return
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		if head, ok := frame.(*http2.MetaHeadersFrame); ok {
			name := strings.TrimPrefix(head.PseudoValue("path"), "/")
			if h2Misbehaviours[name] == nil {
				t.Errorf("nobody told what to do at %s", name)
				return
			}
			if h2Misbehaviours[name](framer, head.StreamID) != nil {
				return
			}
		}
	}
}

// Whatever an order service does over HTTP/2, WeChat has an answer soon, and nothing
// is left behind.
func TestHostileUpstreamsOverHTTP2(t *testing.T) {
	env := newEnvironment(t)
	servers := &hostileServer{conns: make(map[net.Conn]string)}
	servers.listen(t, func(conn net.Conn) { serveH2(t, conn) })
	var merchants []*merchant
	for name := range h2Misbehaviours {
		m := newMerchant(name, 10+len(merchants))
		m.form, m.orders = none, servers.URL+"/"+name
		merchants = append(merchants, m)
	}
	env.serve(layout{merchants: merchants, options: shortTimes + "callback_transport http {\n\tversions h2c\n}"})
	var asks errgroup.Group
	for _, m := range merchants {
		asks.Go(func() error {
			began := time.Now()
			a, err := env.send("POST", env.site+"/apis/v1/wepay/pay_notify/"+m.name, m.notification(t, "o1"))
			if took := time.Since(began); err != nil || a.body != refused("not_taken") || took > 5*time.Second {
				t.Errorf("%s: it took %v, WeChat hears %s (%v)", m.name, took, a.body, err)
			}
			return nil
		})
	}
	if err := asks.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := env.load(layout{merchants: merchants}); err != nil { // which gives up the connections
		t.Fatal(err)
	}
	servers.untilClosed(t)
	if n := env.logs("of-its-own"); n > 0 {
		t.Errorf("the log has %d lines with what a server called a secret", n)
	}
}

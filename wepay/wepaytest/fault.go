package wepaytest

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// FaultKind is a way in which a reply goes wrong.
type FaultKind int

// The ways. Of all of them the call itself is done, unless the Fault says
// NoEffect: the refund happened, and only its reply is spoilt.
const (
	// Slow replies after Fault.Delay by the server's clock, or never, but
	// waits until the client gives up, without one.
	Slow           FaultKind = iota + 1
	CutOff                   // the connection ends in the middle of the reply
	Reset                    // the connection is reset before a reply
	WrongSignature           // the reply is signed with another key
	NoSignature              // the reply lacks its signature
	HTML                     // a web server's page, of Fault.Status, instead of the reply
	EmptyBody                // HTTP 200 and nothing
	TruncatedXML             // a whole HTTP reply whose XML, or JSON, ends in the middle
	Foreign                  // the reply is about another mch_id, properly signed
	Refused                  // result_code FAIL with Fault.Code, properly signed
	Failed                   // return_code FAIL with Fault.Message; in API v3 as Refused, but not signed

	// Of API v3 alone, and all but the last two of notifications too: see
	// WithFault.
	Probe         // the signature is one of WeChat's probes: WECHATPAY/SIGNTEST/…
	Skewed        // the time is off by Fault.Delay, which may be below 0, and properly signed
	HeaderMissing // there is no header of the name Fault.Header
	HeaderDoubled // that header occurs twice
	HeaderChanged // that header is Fault.Message
	WrongKey      // of notifications alone: encrypted under another APIv3 key
	WrongHash     // of bills alone: hash_value is another's
)

// Fault is what a server does instead of replying properly.
type Fault struct {
	Kind FaultKind

	// Standing faults affect every reply until Behave; others affect one. One that
	// Lasts ends by the server's clock, that long after Misbehave; 0: it lasts.
	Standing bool
	Lasts    time.Duration
	// NoEffect suppresses the call, so that only earlier calls have an effect.
	NoEffect bool

	Delay   time.Duration // of Slow and Skewed
	Status  int           // of HTML, 0: 200; in API v3 also of Refused and Failed, 0: 500
	Header  string        // of HeaderMissing, HeaderDoubled and HeaderChanged
	Code    string        // of Refused: err_code, where payers log in errcode; "": SYSTEMERROR or -1
	Message string        // of Refused and Failed: err_code_des or return_msg; "": WeChat's for when it is busy
	Detail  any           // of Refused and Failed in API v3: detail, which comes in many shapes; nil: none
}

// Outage is a WeChat that is down: nothing is done, and something in between answers.
// It lasts for a time by the server's clock, or until Behave if that is 0.
func Outage(lasts time.Duration) Fault {
	return Fault{Kind: HTML, Status: http.StatusBadGateway, Standing: true, Lasts: lasts, NoEffect: true}
}

// RateLimit refuses what comes too often, as long as Outage lasts. Nothing is done.
func RateLimit(lasts time.Duration) Fault {
	return Fault{
		Kind: Refused, Status: http.StatusTooManyRequests, Code: "FREQUENCY_LIMITED", Message: "频率超限",
		Standing: true, Lasts: lasts, NoEffect: true,
	}
}

// fault is a Fault that waits for a request.
type fault struct {
	Fault
	path string
	ends time.Time // zero: never
}

// Misbehave injects a fault into the next reply to a path, or into every one if the
// fault is standing. Path "" is any path; one of API v3 may have names in braces, as in
// WeChat's documents: /v3/pay/transactions/id/{transaction_id}. Faults come in the
// order in which they were given.
func (s *Server) Misbehave(path string, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	waiting := fault{Fault: f, path: path}
	if f.Lasts > 0 {
		waiting.ends = s.clock.Now().Add(f.Lasts)
	}
	s.faults = append(s.faults, waiting)
}

// Behave removes the faults of a path, spelt as for Misbehave.
func (s *Server) Behave(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = slices.DeleteFunc(s.faults, func(f fault) bool { return f.path == path })
}

// nextFault takes the fault for a request to a path, or to whatever has its
// pattern; none has Kind 0. The server's lock is held.
func (s *Server) nextFault(path, pattern string) Fault {
	now := s.clock.Now()
	s.faults = slices.DeleteFunc(s.faults, func(f fault) bool { return !f.ends.IsZero() && !now.Before(f.ends) })
	i := slices.IndexFunc(s.faults, func(f fault) bool {
		return f.path == path || f.path == "" || f.path == pattern
	})
	if i < 0 {
		return Fault{}
	}
	f := s.faults[i].Fault
	if !f.Standing {
		s.faults = slices.Delete(s.faults, i, i+1)
	}
	return f
}

// verdict replaces the result of a call with that of the fault.
func (f Fault) verdict(out wepay.Fields, refused *refusal) (wepay.Fields, *refusal) {
	code, message := f.Code, f.Message
	if code == "" {
		code = "SYSTEMERROR"
	}
	if message == "" {
		message = "系统繁忙,请稍后再试."
	}
	switch f.Kind {
	case Refused:
		return nil, refuse(code, message)
	case Failed:
		return nil, &refusal{message: message}
	default:
		return out, refused
	}
}

// wrongKey is no merchant's.
const wrongKey = "wrong-wrong-wrong-wrong-wrong-00"

// spoil changes a reply that is not written yet.
func (f Fault) spoil(r reply) reply {
	switch f.Kind {
	case WrongSignature:
		r.key = wrongKey
	case NoSignature:
		r.key = ""
	case Foreign:
		name := "mch_id"
		if _, found := r.fields.Lookup("mchid"); found {
			name = "mchid"
		}
		r.fields.Set(name, "1999999999")
	case HTML:
		status := f.Status
		if status == 0 {
			status = http.StatusOK
		}
		return page(status, strconv.Itoa(status)+" "+http.StatusText(status))
	}
	return r
}

// send writes a reply, as far as the fault lets it. It says nothing of errors:
// a client that is gone is what some tests are about.
func (s *Server) send(w http.ResponseWriter, r *http.Request, f Fault, answer reply) {
	if answer.bill != nil && (f.Kind == 0 || f.Kind == Slow) {
		s.sendBill(w, r, f, answer.bill)
		return
	}
	body, contentType := answer.write()
	length := len(body)
	switch f.Kind {
	case Slow:
		if !s.wait(r.Context(), f.Delay) {
			return
		}
	case Reset:
		reset(w)
		return
	case CutOff:
		if length == 0 {
			reset(w)
			return
		}
		// net/http ends the connection when less is written than was promised.
		body = body[:length/2]
	case EmptyBody:
		body, length = nil, 0
	case TruncatedXML:
		length /= 2
		body = body[:length]
	}
	w.Header().Set("Server", "nginx")
	if answer.bill != nil {
		answer.bill.head(w.Header())
	}
	for name, values := range answer.header {
		w.Header()[name] = values
	}
	if answer.status != http.StatusNoContent {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Content-Length", strconv.Itoa(length))
	}
	w.WriteHeader(answer.status)
	_, _ = w.Write(body)
}

// sendBill writes a bill as it is made.
func (s *Server) sendBill(w http.ResponseWriter, r *http.Request, f Fault, b *bill) {
	if f.Kind == Slow && !s.wait(r.Context(), f.Delay) {
		return
	}
	w.Header().Set("Server", "nginx")
	b.head(w.Header())
	_ = b.write(w)
}

// wait waits for the time of a slow reply and reports whether the client is still
// there.
func (s *Server) wait(ctx context.Context, delay time.Duration) bool {
	if delay <= 0 {
		<-ctx.Done()
		return false
	}
	passed := make(chan struct{})
	stop := s.clock.AfterFunc(delay, func() { close(passed) })
	defer stop()
	select {
	case <-passed:
		return true
	case <-ctx.Done():
		return false
	}
}

// reset ends a connection with a TCP reset, without TLS's goodbye.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return // HTTP/1.1 can always be hijacked, and there is no other
	}
	raw := conn
	if secure, ok := conn.(*tls.Conn); ok {
		raw = secure.NetConn()
	}
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = raw.Close()
}

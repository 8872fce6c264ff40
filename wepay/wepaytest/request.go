package wepaytest

import (
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

const (
	// maxRequest bounds a request's body; the largest field is of 6000 bytes.
	maxRequest = 64 << 10
	// maxReceived bounds the memory of a server that runs for long.
	maxReceived = 10_000
)

// Request is what a server received.
type Request struct {
	At     time.Time // by the server's clock
	Method string
	Path   string
	Header http.Header
	Body   []byte
	Fields wepay.Fields // of the body, nil when it cannot be read or is JSON; of a GET those of its query

	// Certificate is what the client presented, whether or not it was wanted
	// or right; nil: none.
	Certificate *x509.Certificate
}

// CommonName returns the name on the client's certificate, which for WeChat's
// is the mch_id, or "" without one.
func (r Request) CommonName() string {
	if r.Certificate == nil {
		return ""
	}
	return r.Certificate.Subject.CommonName
}

// Serial returns the number of the client's certificate as Credential.Serial
// has it, or "" without one.
func (r Request) Serial() string {
	if r.Certificate == nil {
		return ""
	}
	return wepay.CertificateSerial(r.Certificate)
}

// Requests returns what was received at a path, "" being any, the oldest first.
// Of very many the oldest are forgotten.
func (s *Server) Requests(path string) []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.received), func(r Request) bool {
		return path != "" && r.Path != path
	})
}

// handle answers a request. The call takes effect first; then the reply, faulty or not,
// is sent without the lock, so that a slow reply blocks no other.
func (s *Server) handle(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, v3Prefix) {
		s.handleV3(w, r)
		return
	}
	if _, login := loginCalls[r.URL.Path]; login {
		f, answer := s.answerLogin(r)
		s.send(w, r, f, f.spoil(answer))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	var tooLarge *http.MaxBytesError
	if err != nil && !errors.As(err, &tooLarge) {
		return // the client is gone in the middle of its request
	}
	var in wepay.Fields
	var unreadable *refusal
	switch {
	case r.Method != http.MethodPost:
		unreadable = failAs("REQUIRE_POST_METHOD", "请使用post方法")
	case err != nil:
		unreadable = fail("post数据过长")
	default:
		in, unreadable = read(body)
	}
	f, answer := s.answer(r, body, in, unreadable)
	s.send(w, r, f, f.spoil(answer))
}

// answer processes a request and returns the reply.
func (s *Server) answer(r *http.Request, body []byte, in wepay.Fields, unreadable *refusal) (Fault, reply) {
	var certificate *x509.Certificate
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		certificate = r.TLS.PeerCertificates[0]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	s.record(Request{now, r.Method, r.URL.Path, r.Header.Clone(), body, in.Clone(), certificate})
	f := s.nextFault(r.URL.Path, "")
	call, sandbox, found := lookup(r.URL.Path)
	switch {
	case !found:
		return f, page(http.StatusNotFound, "404 Not Found")
	case call.certificate && certificate == nil:
		return f, page(http.StatusBadRequest, "400 No required SSL certificate was sent")
	}
	x := &exchange{server: s, now: now, call: call, sandbox: sandbox, in: in, cert: certificate}
	if unreadable != nil {
		return f, x.reply(f.verdict(nil, unreadable))
	}
	refused := x.admit()
	var out wepay.Fields
	if refused == nil && !f.NoEffect {
		out, refused = call.do(x)
	}
	return f, x.reply(f.verdict(out, refused))
}

func (s *Server) record(r Request) {
	if len(s.received) >= maxReceived {
		s.received = slices.Delete(s.received, 0, maxReceived/10)
	}
	s.received = append(s.received, r)
}

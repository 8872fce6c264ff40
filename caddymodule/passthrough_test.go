package caddymodule

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// breaking is a body that breaks off, and tells whether it was closed.
type breaking struct {
	io.Reader
	closed bool
}

func (b *breaking) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil {
		err = errors.New("connection reset by peer")
	}
	return n, err
}

func (b *breaking) Close() error {
	b.closed = true
	return nil
}

// bounded is an answer whose connection remembers that it is to be read in time.
type bounded struct {
	*httptest.ResponseRecorder
	set bool
}

func (b *bounded) SetWriteDeadline(time.Time) error {
	b.set = true
	return nil
}

// A file that breaks off does not look whole to whoever asked for it, who has to
// read it in time; the connection to WeChat is closed.
func TestFileBreaksOff(t *testing.T) {
	alone(t)
	body := &breaking{Reader: strings.NewReader("half of it")}
	h := newTillV3(t, func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: body}, nil
	})
	w := &bounded{ResponseRecorder: httptest.NewRecorder()}
	r := httptest.NewRequest(http.MethodGet, "http://m.example.cn/wepay/v3/billdownload/file?token=1", nil)
	r.Header.Set("Authorization", "Bearer t")
	defer func() {
		if cause := recover(); cause != http.ErrAbortHandler {
			t.Errorf("it ends with %v: %d %s", cause, w.Code, w.Body)
		}
		if w.Body.String() != "half of it" || !body.closed || !w.set {
			t.Errorf("the caller hears %d %s, closed: %t, in time: %t", w.Code, w.Body, body.closed, w.set)
		}
	}()
	if err := h.ServeHTTP(w, r, caddyhttp.HandlerFunc(nil)); err != nil {
		t.Error(err)
	}
}

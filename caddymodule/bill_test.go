package caddymodule

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// deadline is an answer on a connection that has deadlines.
type deadline struct {
	*httptest.ResponseRecorder
	until []time.Time
}

func (d *deadline) SetWriteDeadline(until time.Time) error {
	d.until = append(d.until, until)
	return nil
}

// Who asked for a bill has as long to read it as WeChat has to send it.
func TestBillIsReadInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &deadline{ResponseRecorder: httptest.NewRecorder()}
		bill := &billAnswer{operation{}, &wepay.Bill{Reader: strings.NewReader("a bill"), Closer: io.NopCloser(nil)}}
		if err := new(Handler).streamBill(w, httptest.NewRequest(http.MethodPost, "/", nil), bill); err != nil || w.Body.String() != "a bill" {
			t.Errorf("got %s (%v)", w.Body, err)
		}
		if len(w.until) != 1 || time.Until(w.until[0]) != wepay.BillTimeout {
			t.Errorf("the deadlines are %v", w.until)
		}
	})
}

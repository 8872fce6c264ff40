package caddymodule

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// deadlines is an answer whose connection remembers by when it is to be read.
type deadlines struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.set = append(d.set, t)
	return nil
}

// A body has its time to come, after which its connection has as long as it likes:
// net/http reads on while it is answered. Where it does not come it gets no more.
func TestReadBodyInTime(t *testing.T) {
	for name, test := range map[string]struct {
		body  io.Reader
		limit int64
		time  time.Duration
		err   error
	}{
		"whole":       {strings.NewReader("{}"), maxBody, 5 * time.Second, nil},
		"of 5 MB":     {strings.NewReader("{}"), 5 << 20, 40 * time.Second, nil},
		"broken off":  {iotest.ErrReader(io.ErrUnexpectedEOF), maxBody, 5 * time.Second, wepay.ErrMalformed},
		"too large":   {strings.NewReader("{} "), 2, 5 * time.Second, wepay.ErrTooLarge},
		"has no room": {iotest.ErrReader(wepay.ErrBusy), maxBody, 5 * time.Second, wepay.ErrBusy},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
				_, err := readBody(w, httptest.NewRequest(http.MethodPost, "/", test.body), test.limit)
				if !errors.Is(err, test.err) || errors.Is(err, wepay.ErrMalformed) != (test.err == wepay.ErrMalformed) {
					t.Errorf("got %v, want %v", err, test.err)
				}
				want := []time.Time{time.Now().Add(test.time)}
				if test.err == nil {
					want = append(want, time.Time{})
				}
				if !slices.EqualFunc(w.set, want, time.Time.Equal) {
					t.Errorf("it is to be read by %v, want %v", w.set, want)
				}
			})
		})
	}
}

// A name that is one of ours but for case or blanks is refused with the right one, and
// not left out.
func TestSpelling(t *testing.T) {
	for _, test := range []struct {
		op          wepay.Operation
		name, right string // "": it is left to the rules
	}{
		{wepay.PlaceOrder, "Attach", "attach"},
		{wepay.PlaceOrder, "Time_Expire", "time_expire"},
		{wepay.PlaceOrder, "ID", "id"},
		{wepay.PlaceOrder, "Fee", "fee"},
		{wepay.PlaceOrder, "merchant ", "merchant"},
		{wepay.PlaceOrder, "\u00a0merchant", "merchant"},
		{wepay.PlaceOrder, "MERCHANT", "merchant"},
		{wepay.PlaceOrder, "Env ", "env"},
		{wepay.PlaceOrder, "appid", "appId"},
		{wepay.PlaceOrder, "mchid", "mchId"},
		{wepay.PlaceOrder, "Native", "native"},
		{wepay.PlaceOrder, "attach", ""},
		{wepay.PlaceOrder, "appId", ""},
		{wepay.PlaceOrder, "of_the_shop", ""},
		{wepay.Refund, "mchID", "mchId"},
		{wepay.DownloadBill, "Format", "format"},
		{orderState, "Merchant", "merchant"},
		{apiv2.Pass, "Env", "env"},
		{apiv2.Pass, "merchant\n", "merchant"},
		{apiv2.Pass, "appid", ""},
		{apiv2.Pass, "mchid", ""},
		{apiv2.Pass, "ID", ""},
	} {
		route, _ := routeOf(test.op)
		err := route.checkSpelling(map[string]string{test.name: "x"})
		var field *wepay.FieldError
		if errors.As(err, &field) != (test.right != "") || field != nil && (field.Field != test.name || field.Reason != "is written "+test.right) {
			t.Errorf("%s, %q: got %v, want %q", test.op, test.name, err, test.right)
		}
	}
}

package delivery

import (
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// A refund waits for its payment as long as that one waits; others do not wait.
func TestRefundAfterPayment(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer func(*http.Request) (*http.Response, error) // to the payment, at first
		after  store.State                                 // of the payment, when the refund is delivered
	}{
		{"paid at once", replies(204, ""), store.Delivered},
		{"paid later", replies(404, ""), store.Delivered},
		{"payment given up", replies(410, ""), store.Dead},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var again atomic.Bool
				d := dispatch(t, nil, "shop")
				d.backend.answers(func(r *http.Request) (*http.Response, error) {
					switch r.Header.Get("webhook-id") {
					case "evt_payment":
						if !again.Load() {
							return test.answer(r)
						}
					case "evt_refund":
						if e := d.get("evt_payment"); e.State != test.after {
							t.Errorf("the refund is delivered while the payment is %s", e.State)
						}
					}
					return replies(204, "")(r)
				})
				d.put("shop", wepay.Payment, "evt_payment", "")
				d.put("shop", wepay.Refunded, "evt_refund", "evt_payment")
				d.put("shop", wepay.Refunded, "evt_other", "evt_unknown")
				synctest.Wait()
				if e := d.get("evt_other"); e.State != store.Delivered {
					t.Errorf("the other refund is %s", e.State)
				}
				d.pass(time.Minute)
				again.Store(true)
				d.pass(2 * time.Minute)
				if e := d.get("evt_refund"); e.State != store.Delivered || e.Attempts != 1 {
					t.Errorf("got %+v", e)
				}
			})
		})
	}
}

// A refund is looked at again when its payment may have been taken, and soon
// after, but not all the time; a store that cannot say has it wait.
func TestRefundLooksAgain(t *testing.T) {
	const slow = 10 * time.Second
	for _, test := range []struct {
		name    string
		payment func(*http.Request) (*http.Response, error)
		taken   time.Duration // when the payment is
		looks   int           // at most
	}{
		{"on its way", func(r *http.Request) (*http.Response, error) {
			<-time.After(slow)
			return replies(204, "")(r)
		}, slow, 13},
		{"due later", func(r *http.Request) (*http.Response, error) {
			if time.Now().Before(bubble.Add(10 * time.Minute)) {
				return replies(404, "", "Retry-After", "600")(r)
			}
			return replies(204, "")(r)
		}, 10 * time.Minute, 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := dispatch(t, func(r *http.Request) (*http.Response, error) {
					if r.Header.Get("webhook-id") == "evt_payment" {
						return test.payment(r)
					}
					return replies(204, "")(r)
				}, "shop")
				d.put("shop", wepay.Payment, "evt_payment", "")
				synctest.Wait()
				d.put("shop", wepay.Refunded, "evt_refund", "evt_payment")
				d.pass(test.taken + 2*precedingWait)
				payment, refund := d.get("evt_payment"), d.get("evt_refund")
				if late := refund.Ended.Sub(payment.Ended); payment.State != store.Delivered || refund.State != store.Delivered || late < 0 || late > 2*precedingWait {
					t.Errorf("got %+v %s after %+v", refund, late, payment)
				}
				if looks := d.store.tries(); looks > test.looks {
					t.Errorf("written %d times", looks)
				}
			})
		})
	}
}

// bubble is the time when a bubble begins.
var bubble = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// A payment that will never be taken, or that nobody knows, holds up no refund;
// one that the store cannot find now does.
func TestRefundOfWhatEnded(t *testing.T) {
	for _, state := range []store.State{"", store.Delivered, store.Dead, store.Dropped} {
		t.Run(string(state), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := dispatch(t, replies(204, ""), "shop")
				if state != "" {
					if _, err := d.store.Put(t.Context(), &store.Event{ID: "evt_payment", Merchant: "shop", Kind: wepay.Payment, State: state}); err != nil {
						t.Fatal(err)
					}
				}
				lost := errors.New("no route to host")
				d.store.findsNot(lost)
				d.put("shop", wepay.Refunded, "evt_refund", "evt_payment")
				d.pass(10 * precedingWait)
				if delivered, logged := len(d.backend.hearings()), d.logged(zap.ErrorLevel); delivered != 0 || len(logged) < 9 || len(logged) > 12 {
					t.Errorf("delivered %d times, logged: %q", delivered, logged)
				}
				d.store.findsNot(nil)
				d.pass(precedingWait)
				if e := d.get("evt_refund"); e.State != store.Delivered || e.Attempts != 1 {
					t.Errorf("got %+v", e)
				}
			})
		})
	}
}

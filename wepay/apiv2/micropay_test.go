package apiv2_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// counter is WeChat Pay at a counter: what it says to a payment, to the
// questions about it, and to who takes it back. The last answer of each is for
// all that follow.
type counter struct {
	pays, states, recalls []string
	pauses                []time.Duration

	mu    sync.Mutex
	asked map[string]int
}

func newCounter(pays, states, recalls []string) *counter {
	return &counter{pays: pays, states: states, recalls: recalls, asked: make(map[string]int)}
}

// next is the answer to the next question of its kind.
func (c *counter) next(path string, answers []string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.asked[path]
	c.asked[path]++
	return answers[min(n, len(answers)-1)]
}

func (c *counter) answer(w http.ResponseWriter, r asked) {
	good := map[string]string{"out_trade_no": r.fields.Get("out_trade_no")}
	path, say := r.URL.Path, ""
	switch path {
	case "/pay/micropay":
		say = c.next(path, c.pays)
		good["transaction_id"] = transaction
	case "/pay/orderquery":
		say = c.next(path, c.states)
		good["trade_state"], good["trade_state_desc"] = say, "说明"
	case "/secapi/pay/reverse":
		say = c.next(path, c.recalls)
		good["recall"] = say
	}
	switch {
	case say == "":
		w.WriteHeader(http.StatusBadGateway)
		return
	case strings.HasPrefix(say, "!"):
		code, words, _ := strings.Cut(say[1:], " ")
		good = map[string]string{"result_code": "FAIL", "err_code": code, "err_code_des": cmp.Or(words, "说明")}
	}
	says(signed(reply(good), wepay.MD5, key))(w, r)
}

// wait records how long was waited, without waiting.
func (c *counter) wait(ctx context.Context, d time.Duration) error {
	c.pauses = append(c.pauses, d)
	return ctx.Err()
}

// pay charges a code at a counter.
func (c *counter) pay(t *testing.T, ctx context.Context, change func(*wepay.Merchant)) (wepay.Fields, error) {
	t.Helper()
	m := able(t, serve(t, c.answer).URL)
	if change != nil {
		change(m)
	}
	cl := client(t, m, wepay.ClientOptions{Pause: c.wait})
	return cl.Do(ctx, wepay.Micropay, wepay.NewFields(rows[wepay.Micropay].in))
}

func TestMicropay(t *testing.T) {
	tests := []struct {
		name    string
		c       *counter
		state   string        // of the reply; "-": the payment's own
		verdict wepay.Verdict // of the error
		queries int
		recalls int
	}{
		{name: "paid at once", c: newCounter([]string{"ok"}, nil, nil), state: "-"},
		{name: "refused", c: newCounter([]string{"!NOTENOUGH"}, nil, nil), verdict: wepay.Never},
		{name: "paid before", c: newCounter([]string{"!ORDERPAID"}, nil, nil), verdict: wepay.Done},
		{name: "a number in use", c: newCounter([]string{"!OUT_TRADE_NO_USED"}, []string{"SUCCESS"}, []string{"N"}), verdict: wepay.Query},
		{name: "a number in use, in words", c: newCounter([]string{"!INVALID_REQUEST 商户订单号重复"}, []string{"NOTPAY"}, []string{"N"}), verdict: wepay.Query},
		{name: "wrong input", c: newCounter([]string{"!PARAM_ERROR"}, nil, nil), verdict: wepay.Fix},
		{name: "the password, then paid", c: newCounter([]string{"!USERPAYING"}, []string{"USERPAYING", "USERPAYING", "SUCCESS"}, nil), state: "SUCCESS", queries: 3},
		{name: "the password, then refused", c: newCounter([]string{"!USERPAYING"}, []string{"USERPAYING", "PAYERROR"}, nil), verdict: wepay.Never, queries: 2},
		{name: "the password, then closed", c: newCounter([]string{"!USERPAYING"}, []string{"CLOSED"}, nil), verdict: wepay.Never, queries: 1},
		{name: "the password, then reversed", c: newCounter([]string{"!USERPAYING"}, []string{"REVOKED"}, nil), verdict: wepay.Never, queries: 1},
		{name: "the password, then given back", c: newCounter([]string{"!USERPAYING"}, []string{"REFUND"}, nil), state: "REFUND", queries: 1},
		{name: "no answer, then paid", c: newCounter([]string{""}, []string{"SUCCESS"}, nil), state: "SUCCESS", queries: 1},
		{name: "SYSTEMERROR, then paid", c: newCounter([]string{"!SYSTEMERROR"}, []string{"NOTPAY", "SUCCESS"}, nil), state: "SUCCESS", queries: 2},
		{name: "BANKERROR, then paid", c: newCounter([]string{"!BANKERROR"}, []string{"SUCCESS"}, nil), state: "SUCCESS", queries: 1},
		{name: "an unknown code, then paid", c: newCounter([]string{"!A_CODE_OF_2031"}, []string{"SUCCESS"}, nil), state: "SUCCESS", queries: 1},
		{name: "questions that fail, then paid", c: newCounter([]string{""}, []string{"", "!ORDERNOTEXIST", "!SYSTEMERROR", "SUCCESS"}, nil), state: "SUCCESS", queries: 4},
		{name: "paid at the last question", c: newCounter([]string{"!USERPAYING"}, append(slices.Repeat([]string{"USERPAYING"}, 8), "SUCCESS"), nil), state: "SUCCESS", queries: 9},
		{name: "never, and reversed", c: newCounter([]string{"!USERPAYING"}, []string{"USERPAYING"}, []string{"N"}), verdict: wepay.Never, queries: 9, recalls: 1},
		{name: "never, and reversed twice", c: newCounter([]string{"!USERPAYING"}, []string{"USERPAYING"}, []string{"Y", "N"}), verdict: wepay.Never, queries: 9, recalls: 2},
		{name: "never, and reversed in the end", c: newCounter([]string{""}, []string{""}, []string{"", "!SYSTEMERROR", "Y", "N"}), verdict: wepay.Never, queries: 9, recalls: 4},
		{name: "never, and never reversed", c: newCounter([]string{"!USERPAYING"}, []string{"USERPAYING"}, []string{"Y"}), verdict: wepay.Query, queries: 9, recalls: 5},
		{name: "never, and taking back is refused", c: newCounter([]string{"!USERPAYING"}, []string{"USERPAYING"}, []string{"!TRADE_ERROR"}), verdict: wepay.Query, queries: 9, recalls: 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.c.pay(t, t.Context(), nil)
			switch {
			case test.verdict != "":
				if failed := wantError(t, err, test.verdict); got != nil || failed.Operation != wepay.Micropay {
					t.Errorf("got %v, %+v", got, failed)
				}
			case err != nil:
				t.Fatal(err)
			case got.Get("transaction_id") == "" && got.Get("trade_state") != test.state:
				t.Errorf("got %v, want trade_state %s", got, test.state)
			}
			// The payment itself is never sent again: it might be paid twice.
			want := map[string]int{"/pay/micropay": 1}
			if test.queries > 0 {
				want["/pay/orderquery"] = test.queries
			}
			if test.recalls > 0 {
				want["/secapi/pay/reverse"] = test.recalls
			}
			if !maps.Equal(test.c.asked, want) {
				t.Errorf("asked %v, want %v", test.c.asked, want)
			}
			if n := test.queries + max(test.recalls-1, 0); len(test.c.pauses) != n {
				t.Errorf("waited %d times, want %d", len(test.c.pauses), n)
			}
			for _, pause := range test.c.pauses {
				if pause != 5*time.Second {
					t.Errorf("waited %s", pause)
				}
			}
		})
	}
}

// It asks about the order that it placed, of the sub-merchant it was placed for.
func TestMicropayAsksAboutItsOrder(t *testing.T) {
	c := newCounter([]string{"!USERPAYING"}, []string{"USERPAYING"}, []string{"N"})
	server := serve(t, c.answer)
	m := able(t, server.URL)
	m.Type, m.SubMchIDs = wepay.Partner, []string{"2", "3"}
	in := wepay.NewFields(rows[wepay.Micropay].in)
	in.Set("sub_mch_id", "3")
	in.Set("sub_appid", "wx00112233445566dd")
	_, err := client(t, m, wepay.ClientOptions{Pause: c.wait}).Do(t.Context(), wepay.Micropay, in)
	wantError(t, err, wepay.Never)
	for _, r := range server.asked() {
		for name, want := range map[string]string{"out_trade_no": "A1", "sub_mch_id": "3", "sub_appid": "wx00112233445566dd"} {
			if got := r.fields.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", r.URL.Path, name, got, want)
			}
		}
	}
}

// Without a certificate nothing can be reversed, and the outcome stays open.
func TestMicropayWithoutCertificate(t *testing.T) {
	c := newCounter([]string{"!USERPAYING"}, []string{"USERPAYING"}, nil)
	_, err := c.pay(t, t.Context(), func(m *wepay.Merchant) { m.Certificate = nil })
	failed := wantError(t, err, wepay.Query)
	if failed.Code != "USERPAYING" || !strings.Contains(err.Error(), "reversing it failed") || !strings.Contains(err.Error(), "pfx") {
		t.Errorf("got %v, want it to say that it cannot be reversed without a certificate", err)
	}
}

// Who gives up while waiting learns that the outcome is open.
func TestMicropayGivenUp(t *testing.T) {
	for name, states := range map[string][]string{"before the first question": {"SUCCESS"}, "after some": {"USERPAYING", "USERPAYING", "SUCCESS"}} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			c := newCounter([]string{"!USERPAYING"}, states, nil)
			waits := 0
			m := able(t, serve(t, c.answer).URL)
			cl := client(t, m, wepay.ClientOptions{Pause: func(ctx context.Context, _ time.Duration) error {
				if waits++; waits == len(states) {
					cancel()
				}
				return ctx.Err()
			}})
			got, err := cl.Do(ctx, wepay.Micropay, wepay.NewFields(rows[wepay.Micropay].in))
			wantError(t, err, wepay.Query)
			if got != nil || c.asked["/pay/orderquery"] != len(states)-1 || c.asked["/secapi/pay/reverse"] != 0 {
				t.Errorf("got %v after %v", got, c.asked)
			}
		})
	}
}

// The payment goes to the second endpoint only when the first cannot have it.
func TestMicropayFailover(t *testing.T) {
	for name, first := range map[string]struct {
		url string
		n   int
	}{"nobody listens": {refusedAddress(t), 1}, "no answer": {serve(t, status(502, "")).URL, 0}} {
		t.Run(name, func(t *testing.T) {
			c := newCounter([]string{"ok"}, []string{"SUCCESS"}, nil)
			second := serve(t, c.answer)
			cl := client(t, able(t, first.url, second.URL), wepay.ClientOptions{Pause: c.wait, Now: newClock().now})
			if _, err := cl.Do(t.Context(), wepay.Micropay, wepay.NewFields(rows[wepay.Micropay].in)); err != nil {
				t.Error(err)
			}
			if got := len(second.of("/pay/micropay")); got != first.n {
				t.Errorf("the second was asked %d times, want %d", got, first.n)
			}
		})
	}
}

func TestReverse(t *testing.T) {
	tests := []struct {
		name    string
		recalls []string
		verdict wepay.Verdict // "": it is done
		times   int
		says    string
	}{
		{"at once", []string{"N"}, "", 1, ""},
		{"asked to call again", []string{"Y", "Y", "N"}, "", 3, ""},
		{"after trouble", []string{"!SYSTEMERROR", "", "N"}, "", 3, ""},
		{"after a code of 2031", []string{"!A_CODE_OF_2031", "N"}, "", 2, ""},
		{"the payer is typing", []string{"!USERPAYING"}, wepay.Query, 1, "USERPAYING"},
		{"too late", []string{"!REVERSE_EXPIRE"}, wepay.Never, 1, "REVERSE_EXPIRE"},
		{"asked to call again for ever", []string{"Y"}, wepay.Again, 5, "demands another call"},
		{"in trouble for ever", []string{"!SYSTEMERROR"}, wepay.Again, 5, "SYSTEMERROR"},
		{"a code of 2031 for ever", []string{"!A_CODE_OF_2031"}, wepay.Query, 5, "A_CODE_OF_2031"},
		{"no answer ever", []string{""}, wepay.Again, 5, "502"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := newCounter(nil, nil, test.recalls)
			got, err := client(t, able(t, serve(t, c.answer).URL), wepay.ClientOptions{Pause: c.wait}).Do(t.Context(), wepay.Reverse, aQuery)
			if test.verdict == "" {
				if err != nil || got.Get("recall") != "N" {
					t.Errorf("got %v, %v", got, err)
				}
			} else if wantError(t, err, test.verdict); !strings.Contains(err.Error(), test.says) || got != nil {
				t.Errorf("got %v, %v, want it to say %s", got, err, test.says)
			}
			if c.asked["/secapi/pay/reverse"] != test.times || len(c.pauses) != test.times-1 {
				t.Errorf("asked %v and waited %d times, want %d times", c.asked, len(c.pauses), test.times)
			}
		})
	}
}

func TestReverseGivenUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := newCounter(nil, nil, []string{"Y", "N"})
	cl := client(t, able(t, serve(t, c.answer).URL), wepay.ClientOptions{Pause: func(ctx context.Context, _ time.Duration) error {
		cancel()
		return ctx.Err()
	}})
	_, err := cl.Do(ctx, wepay.Reverse, aQuery)
	wantError(t, err, wepay.Again)
	if errors.Is(err, wepay.ErrNoAnswer) || c.asked["/secapi/pay/reverse"] != 1 {
		t.Errorf("got %v after %v", err, c.asked)
	}
}

// hangUp gives the answer and then ends the caller's context.
type hangUp struct {
	http.RoundTripper
	cancel context.CancelFunc
}

func (h hangUp) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := h.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(resp.Body)
	resp.Body = io.NopCloser(bytes.NewReader(text))
	h.cancel()
	return resp, err
}

// The pause itself, which every other test leaves out, ends with the context.
func TestPauseEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	m := able(t, serve(t, newCounter([]string{"!USERPAYING"}, nil, nil).answer).URL)
	transport := wepay.NewTransport(m)
	t.Cleanup(transport.CloseIdleConnections)
	began := time.Now()
	_, err := apiv2.NewClient(m, wepay.ClientOptions{Transport: hangUp{transport, cancel}}).Do(ctx, wepay.Micropay, wepay.NewFields(rows[wepay.Micropay].in))
	if failed := wantError(t, err, wepay.Query); failed.Code != "USERPAYING" || time.Since(began) > 4*time.Second {
		t.Errorf("got %v after %s", err, time.Since(began))
	}
}

package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

// asksSoon has WeChat asked about orders as soon as may be.
const asksSoon = "\nrecover {\n\tschedule 1s 1s 2s\n}\n"

// followed are the kinds of merchants whose orders are followed.
var followed = map[string]v3Keys{"API v2": {}, "API v3": {api: "v3"}, "API v3 with its own words": {api: "v3", payload: "v3"}}

// newFollower is a merchant of one of them; one of API v3 has the keys of both APIs.
func newFollower(kind string) *merchant {
	m := newMerchant("shop", 1)
	if keys := followed[kind]; keys.api != "" {
		m = moving("shop", 1, keys.api)
		m.v3.payload = keys.payload
	}
	return m
}

// newFollowed is an environment with a merchant whose orders are followed, and further
// lines of its block.
func newFollowed(t *testing.T, kind string, lines ...string) (*environment, *merchant) {
	t.Helper()
	env, shop := newEnvironment(t), newFollower(kind)
	env.serve(env.followed(stall{shop, lines}))
	env.patience = redials
	return env, shop
}

func (env *environment) followed(stalls ...stall) layout {
	env.t.Helper()
	l := env.stalls(stalls...)
	l.options += env.store() + asksSoon
	l.site = counting
	return l
}

// orderState is what order_state answers.
type orderState struct {
	State         string `json:"state"`
	Source        string `json:"source"`
	TransactionID string `json:"transaction_id"`
	TotalFee      int64  `json:"total_fee"`
	AlsoTotalFee  int64  `json:"also_total_fee"`
	FeeType       string `json:"fee_type"`
	RefundFee     int64  `json:"refund_fee"`
	Asked         int    `json:"asked"`
	NextAsked     string `json:"next_asked"`
	Paid          string `json:"paid"`
	Ended         string `json:"ended"`
	CloseAt       string `json:"close_at"`
	Reason        string `json:"reason"`
	Refunds       []struct {
		OutRefundNo string `json:"out_refund_no"`
		RefundFee   int64  `json:"refund_fee"`
		State       string `json:"state"`
	} `json:"refunds"`
	Events []struct {
		ID     string `json:"id"`
		Kind   string `json:"kind"`
		Source string `json:"source"`
		State  string `json:"state"`
	} `json:"events"`
}

// state asks for the state of an order that was placed.
func (env *environment) state(id string, more ...string) (s orderState) {
	env.t.Helper()
	a, err := env.fetch("order_state", toJSON(env.t, with(map[string]any{"out_trade_no": id}, more...)))
	if err != nil || a.status != http.StatusOK {
		env.t.Fatalf("order_state of %s: HTTP %d %s (%v)", id, a.status, a.body, err)
	}
	if err := json.Unmarshal([]byte(a.body), &struct {
		Result *orderState `json:"result"`
	}{&s}); err != nil {
		env.t.Fatalf("%v: %s", err, a.body)
	}
	return s
}

// awaitState waits until an order is in a state.
func (env *environment) awaitState(id, state string) (s orderState) {
	env.t.Helper()
	env.until(id+" is "+state, func() bool {
		s = env.state(id)
		return s.State == state
	})
	return s
}

// awaitRest waits until WeChat is not going to be asked about an order any more, and
// what is known of it is handed over.
func (env *environment) awaitRest(id string) (s orderState) {
	env.t.Helper()
	env.until(id+" has come to its end", func() bool {
		s = env.state(id)
		for _, e := range s.Events {
			if e.State == "waiting" {
				return false
			}
		}
		return s.NextAsked == ""
	})
	return s
}

// take returns the one callback that there was.
func (env *environment) take() callback {
	env.t.Helper()
	all := env.orders.forget()
	if len(all) != 1 {
		env.t.Fatalf("the order service got %d times", len(all))
	}
	return all[0]
}

// checkTold demands what every callback about a payment of a merchant has, and where it
// is known from.
func checkTold(t *testing.T, got callback, m *merchant, source string) {
	t.Helper()
	checkWebhook(t, got)
	for name, want := range map[string]string{"wepay-event": "TRANSACTION.SUCCESS", "wepay-merchant": m.name, "wepay-source": source} {
		if all := got.header.Values(name); len(all) != 1 || all[0] != want {
			t.Errorf("%s is %q, want %q", name, all, want)
		}
	}
	if got.path != "/paid/"+m.name {
		t.Errorf("the callback came to %s", got.path)
	}
}

// paidID is the webhook-id of a payment.
func (m *merchant) paidID(transactionID string) string {
	n := wepay.Notification{
		Kind: wepay.Payment, Merchant: &wepay.Merchant{MchID: m.mchID},
		Fields: wepay.NewFields(map[string]string{"transaction_id": transactionID, "result_code": "SUCCESS"}),
	}
	return n.EventID()
}

// membersOf are the names in a callback's body with their values, of nested objects
// behind dots.
func membersOf(t *testing.T, body []byte) map[string]string {
	t.Helper()
	var nested map[string]any
	if err := json.Unmarshal(body, &nested); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	members := make(map[string]string)
	var add func(prefix string, object map[string]any)
	add = func(prefix string, object map[string]any) {
		for name, value := range object {
			if inner, isObject := value.(map[string]any); isObject {
				add(prefix+name+".", inner)
			} else {
				members[prefix+name] = fmt.Sprintf("%T %[1]v", value)
			}
		}
	}
	add("", nested)
	return members
}

// checkAlike demands that what was found by asking has the members of what WeChat
// notified of another order that was alike, with their values but for those of some
// names that end so.
func checkAlike(t *testing.T, asked, notified []byte, unlike ...string) {
	t.Helper()
	got, want := membersOf(t, asked), membersOf(t, notified)
	for _, name := range []string{"nonce_str", "sign", "sign_type"} { // with which it could be sent to others
		delete(want, name)
	}
	if a, b := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)); !slices.Equal(a, b) {
		t.Errorf("the order service got\n%q\nand as a notification\n%q", a, b)
	}
	for name, value := range want {
		if !slices.ContainsFunc(unlike, func(end string) bool { return strings.HasSuffix(name, end) }) && got[name] != value {
			t.Errorf("%s is %s, and as a notification %s", name, got[name], value)
		}
	}
}

// emitted counts the Caddy events of a name with some data, as Caddy logs them.
func (env *environment) emitted(name string, data ...string) int {
	env.t.Helper()
	return env.logs(append(data, `"logger":"events"`, `"name":"`+name+`"`)...)
}

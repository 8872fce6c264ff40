package apiv3

import (
	"errors"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

// What it does not know is handed over under WeChat's word, whatever that is, as
// long as it is a word.
func TestOtherEvents(t *testing.T) {
	s := newSender(t)
	const complaint = `{ "complaint_id":"200201820200101080076610000", "action_type":"CREATE_COMPLAINT" }`
	n := checkOther(t, s, "COMPLAINT.CREATE", "complaint", complaint, "")
	if len(n.Fields) > 0 {
		t.Errorf("it has the numbers %v", n.Fields)
	}
	n = checkOther(t, s, "PAYSCORE.USER_PAID", "", `{"mchid":"1900000001","sub_mchid":"2","appid":"wx1","out_order_no":"P1","transaction_id":"42\u0000","out_trade_no":"`+strings.Repeat("9", 200)+`"}`, "")
	differ(t, n.Fields, map[string]string{"mch_id": "1900000001", "sub_mch_id": "2", "appid": "wx1", "out_order_no": "P1"}, nil)
}

// What is odd about it does not keep it from being handed over, under WeChat's word if
// that can be passed on; but it is no payment.
func TestOddEvents(t *testing.T) {
	s, paid := newSender(t), vectorInto[notificationVector](t, "N1").Plaintext
	for event, want := range map[string]string{
		"": wepay.UnknownEvent, "A\n": wepay.UnknownEvent, "\x1b[31m": wepay.UnknownEvent, "a\x00": wepay.UnknownEvent, strings.Repeat("X", 129): wepay.UnknownEvent,
		"a b": "a b", "支付": "支付", strings.Repeat("X", 128): strings.Repeat("X", 128),
	} {
		for _, plain := range []string{paid, `{"complaint_id":"1"}`, `["a",1]`, `"text"`, "17", "null", " [] "} {
			o, err := s.tell(event, "transaction", plain)
			if err != nil {
				t.Fatalf("event_type %q, %s: %v", event, plain, err)
			}
			n := o.Notification(&wepay.Merchant{MchID: "1"}, "")
			payload, err := n.Payload()
			if n.Kind != wepay.OtherEvent || n.EventType != want || err != nil || string(payload) != plain || (n.Misfit != "") != (want == wepay.UnknownEvent) {
				t.Errorf("event_type %q: it is a %s, %q, %s, %q, %v", event, n.Kind, n.EventType, payload, n.Misfit, err)
			}
			if len(n.Misfit) > 300 || strings.ContainsAny(n.Misfit, "\n\x1b") {
				t.Errorf("the log gets %q", n.Misfit)
			}
		}
	}
	o, err := s.takeBody(s.body("TRANSACTION.SUCCESS", "transaction", paid, map[string]any{"resource_type": "plain"}))
	if err != nil || o.kind != wepay.OtherEvent || !strings.Contains(o.misfit, `"plain"`) {
		t.Errorf("another resource_type: got %+v, %v", o, err)
	}
	for _, plain := range []string{"", "text", `{"a":1,"a":2}`, "{", "\"\xff\""} {
		if o, err := s.tell("COMPLAINT.CREATE", "complaint", plain); !errors.Is(err, wepay.ErrUnreadable) || o != nil {
			t.Errorf("%q: got %v", plain, err)
		}
	}
}

// WeChat's own test need not have a content.
func TestEchoWithoutContent(t *testing.T) {
	s := newSender(t)
	for name, test := range map[string]struct {
		event, path string
		value       any
		want        bool
	}{
		"no resource":        {wepay.SecurityEchoed, "resource", nil, true},
		"no ciphertext":      {wepay.SecurityEchoed, "resource.ciphertext", nil, true},
		"a content":          {wepay.SecurityEchoed, "summary", "x", false},
		"of something else":  {"COMPLAINT.CREATE", "resource", nil, false},
		"of nothing at all":  {"", "resource", nil, false},
		"a resource of text": {wepay.SecurityEchoed, "resource", "x", true},
	} {
		body := s.body(test.event, "", `{}`, map[string]any{test.path: test.value})
		u, err := ReadNotification(s.header(body, sent), body)
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := u.Verify(&s.key.PublicKey, sent)
		if err != nil || (sealed.Echo() != nil) != test.want {
			t.Errorf("%s: got %v, %v", name, sealed, err)
		}
	}
}

// Whom an event is for is what it says, and else the account whose key opened it.
func TestRecipientOfEvent(t *testing.T) {
	s := newSender(t)
	ring := NewKeyRing(&wepay.Merchant{MchID: "1900000001", APIv3Key: s.keys.APIv3Key}, nil, wepay.ClientOptions{})
	for plain, want := range map[string]wepay.Recipient{
		`{}`:                                       {MchID: "1900000001"},
		`{"mchid":"2"}`:                            {MchID: "2"},
		`{"mchid":2,"sp_mchid":"3"}`:               {MchID: "3"},
		`{"mchid":null,"appid":"wx1"}`:             {MchID: "1900000001", AppID: "wx1"},
		`{"sub_mchid":"4"}`:                        {MchID: "1900000001", SubMchID: "4"},
		`{"complainted_mchid":"5"}`:                {MchID: "1900000001", SubMchID: "5"},
		`{"complainted_mchid":"1900000001"}`:       {MchID: "1900000001"},
		`{"sub_mchid":"4","trade_type":"JSAPI"}`:   {MchID: "1900000001", SubMchID: "4"},
		`{"mchid":"a b","complaint_id":"x"}`:       {MchID: "1900000001"},
		`{"mchid":{"a":1},"complaint_id":[1,2,3]}`: {MchID: "1900000001"},
	} {
		want.Kind, want.Account, want.APIv3Key = wepay.OtherEvent, "1900000001", s.keys.APIv3Key
		o, err := s.opened(ring, "COMPLAINT.CREATE", "complaint", plain)
		if err != nil || o.Recipient() != want {
			t.Errorf("%s: got %+v, %v", plain, o.Recipient(), err)
		}
	}
}

// An event is the same as often as WeChat sends it, and two that say the same are two.
func TestEventIDOfWeChat(t *testing.T) {
	s := newSender(t)
	id := func(id any, created string) string {
		t.Helper()
		o, err := s.takeBody(s.body("COMPLAINT.STATE_CHANGE", "complaint", `{"complaint_id":"1"}`, map[string]any{"id": id, "create_time": created}))
		if err != nil {
			t.Fatal(err)
		}
		return o.Notification(&wepay.Merchant{MchID: "1"}, "").EventID()
	}
	first := id("EV-1", "2026-01-01T00:00:00+08:00")
	switch {
	case id("EV-1", "2026-01-02T00:00:00+08:00") != first:
		t.Error("sent again it is another")
	case id("EV-2", "2026-01-01T00:00:00+08:00") == first:
		t.Error("two are one")
	case id(nil, "2026-01-01T00:00:00+08:00") != id("", "2026-01-01T00:00:00+08:00"), id(nil, "2026-01-01T00:00:00+08:00") == id(nil, "2026-01-01T00:00:01+08:00"):
		t.Error("without an id it is not known by its time and content")
	}
}

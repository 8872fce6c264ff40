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
	for _, event := range []string{"", "a b", "A\n", "支付", "\x1b[31m", strings.Repeat("X", 129)} {
		if o, err := s.tell(event, "complaint", complaint); !errors.Is(err, wepay.ErrMalformed) || o != nil || len(err.Error()) > 300 || strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("event_type %q: got %v", event, err)
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

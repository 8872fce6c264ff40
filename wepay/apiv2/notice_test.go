package apiv2_test

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

var aContract = map[string]string{
	"mch_id": "1900000109", "change_type": "ADD", "contract_id": "Wx15463511252015071056489715", "contract_code": "100001256", "plan_id": "123",
	"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", "operate_time": "2026-07-01 10:00:00", "request_serial": "1695",
}

// aLocker is of a kind that nobody knows.
var aLocker = map[string]string{"mch_id": "1900000109", "nonce_str": "1", "locker_no": "7", "locker_opened": "20260701100000"}

// noticed returns the fields of a notice after some changes; an empty value takes a
// field out.
func noticed(of map[string]string, changes map[string]string) wepay.Fields {
	all := maps.Clone(of)
	maps.Copy(all, changes)
	return slices.DeleteFunc(wepay.NewFields(all), func(f wepay.Field) bool { return f.Value == "" })
}

// Each notice is handed over as WeChat wrote it, under API v3's word for it, and is
// the same event however often it is sent.
func TestNotices(t *testing.T) {
	ids := make(map[string]string)
	for name, test := range map[string]struct {
		fields wepay.Fields
		event  string
		again  map[string]string // what differs when it is sent again
	}{
		"a contract":         {noticed(aContract, nil), "ENTRUST.SIGN", map[string]string{"nonce_str": "2"}},
		"its end":            {noticed(aContract, map[string]string{"change_type": "DELETE", "contract_termination_mode": "2"}), "ENTRUST.TERMINATE", nil},
		"its pause":          {noticed(aContract, map[string]string{"change_type": "PAUSE"}), "ENTRUST.PAUSE", nil},
		"its odd change":     {noticed(aContract, map[string]string{"change_type": "暂 停"}), wepay.UnknownEvent, nil},
		"of tomorrow":        {noticed(aLocker, nil), wepay.UnknownEvent, map[string]string{"nonce_str": "2"}},
		"of its own word":    {noticed(aLocker, map[string]string{"event_type": "TRANSACTION.SUCCESS"}), "UNKNOWN.TRANSACTION.SUCCESS", nil},
		"of it, not done":    {noticed(aLocker, map[string]string{"event_type": "FOO.BAR", "result_code": "FAIL"}), "UNKNOWN.FOO.BAR_FAIL", nil},
		"of an odd word":     {noticed(aLocker, map[string]string{"event_type": "暂 停"}), wepay.UnknownEvent, nil},
		"another of these":   {noticed(aLocker, map[string]string{"locker_no": "8", "return_code": "SUCCESS", "result_code": "SUCCESS"}), wepay.UnknownEvent, map[string]string{"nonce_str": "2"}},
		"signed once more":   {noticed(aContract, map[string]string{"operate_time": "2026-08-01 10:00:00"}), "ENTRUST.SIGN", nil},
		"another's contract": {noticed(aContract, map[string]string{"contract_id": "Wx2", "return_code": "SUCCESS", "appid": "wx00112233445566aa", "contract_display_account": "R&D"}), "ENTRUST.SIGN", nil},
		"not signed":         {noticed(aContract, map[string]string{"result_code": "FAIL", "err_code": "X"}), "ENTRUST.SIGN_FAIL", map[string]string{"err_code_des": "y"}},
		"not signed since":   {noticed(aContract, map[string]string{"result_code": "FAIL", "err_code": "Y"}), "ENTRUST.SIGN_FAIL", nil},
		"not ended":          {noticed(aContract, map[string]string{"change_type": "DELETE", "result_code": "FAIL"}), "ENTRUST.TERMINATE_FAIL", nil},
		"not paused":         {noticed(aContract, map[string]string{"change_type": "PAUSE", "result_code": "FAIL"}), "ENTRUST.PAUSE_FAIL", nil},
		"not changed oddly":  {noticed(aContract, map[string]string{"change_type": "暂 停", "result_code": "FAIL"}), wepay.UnknownEvent, nil},
		"no car": {noticed(map[string]string{
			"mch_id": "1900000109", "appid": "wx00112233445566aa", "plate_number": "粤A00000", "vehicle_event_type": "BLOCKED", "vehicle_event_createtime": "20180101100000", "result_code": "FAIL",
		}, nil), "VEHICLE.ENTRANCE_STATE_CHANGE_FAIL", nil},
		"no risk": {noticed(map[string]string{
			"mch_id": "1900000109", "event_code": "E1", "risk_level": "LOW", "transaction_id_list": `{"data":{"transaction_id":["4"]}}`, "result_code": "FAIL",
		}, nil), "RISKTRADE.IDENTIFICATION_FAIL", nil},
		"no room": {noticed(map[string]string{
			"mch_id": "1900000109", "event_id": "EV-1", "event_type": "CHECK.SUCCESS", "event_ciphertext": "AAAA", "result_code": "FAIL",
		}, nil), "CHECK.SUCCESS_FAIL", nil},
		"a car": {noticed(map[string]string{
			"mch_id": "1900000109", "appid": "wx00112233445566aa", "nonce_str": "1", "plate_number": "粤A00000", "vehicle_event_type": "BLOCKED", "vehicle_event_createtime": "20180101100000",
		}, nil), "VEHICLE.ENTRANCE_STATE_CHANGE", map[string]string{"nonce_str": "2"}},
		"a risk": {noticed(map[string]string{
			"mch_id": "1900000109", "sub_mch_id": "", "event_code": "E1", "risk_level": "LOW", "transaction_id_list": `{"data":{"transaction_id":["4"]}}`, "return_code": "SUCCESS",
		}, nil), "RISKTRADE.IDENTIFICATION", nil},
		"a room": {noticed(map[string]string{
			"mch_id": "1900000109", "app_id": "wx00112233445566aa", "event_id": "EV-1", "event_type": "CHECK.SUCCESS", "event_ciphertext": "AAAA", "event_nonce": "1",
		}, nil), "CHECK.SUCCESS", map[string]string{"event_nonce": "2", "event_ciphertext": "BBBB"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, signType := range []wepay.SignType{wepay.MD5, wepay.HMACSHA256} {
				n, err := read(encoded(t, test.fields, signType), key)
				if err != nil {
					t.Fatal(err)
				}
				if n.Kind != wepay.OtherEvent || n.EventType != test.event || n.Misfit != "" {
					t.Errorf("it is a %s, %s", n.Kind, n.EventType)
				}
				id := n.EventID()
				again, err := read(encoded(t, noticed(asMap(test.fields), test.again), signType), key)
				if err != nil || again.EventID() != id {
					t.Errorf("sent again it is another, or %v", err)
				}
				if other := ids[id]; other != "" && other != name {
					t.Errorf("it is one event with %s", other)
				}
				ids[id] = name
				if n.Fields.Delete("sign"); !slices.Equal(n.Fields, test.fields) {
					t.Errorf("got %v, want %v", n.Fields, test.fields)
				}
			}
		})
	}
}

func asMap(fields wepay.Fields) map[string]string {
	all := make(map[string]string)
	for _, field := range fields {
		all[field.Name] = field.Value
	}
	return all
}

// Whom a notice is for it need not say; that of a payment has to.
func TestRecipientOfNotice(t *testing.T) {
	for name, test := range map[string]struct {
		fields wepay.Fields
		want   wepay.Recipient
	}{
		"a contract":                {noticed(aContract, nil), wepay.Recipient{Kind: wepay.OtherEvent, MchID: "1900000109", Account: "1900000109"}},
		"a contract with an appid":  {noticed(aContract, map[string]string{"appid": "wx1", "sub_mch_id": "2"}), wepay.Recipient{Kind: wepay.OtherEvent, MchID: "1900000109", Account: "1900000109", AppID: "wx1", SubMchID: "2"}},
		"of no known kind":          {noticed(aLocker, nil), wepay.Recipient{Kind: wepay.OtherEvent, MchID: "1900000109", Account: "1900000109"}},
		"an appid by its old name":  {noticed(aContract, map[string]string{"app_id": "wx1"}), wepay.Recipient{Kind: wepay.OtherEvent, MchID: "1900000109", Account: "1900000109", AppID: "wx1"}},
		"of a kind, refused":        {noticed(aLocker, map[string]string{"total_fee": "1"}), wepay.Recipient{Kind: wepay.OtherEvent, MchID: "1900000109", Account: "1900000109"}},
		"a contract half told":      {noticed(aContract, map[string]string{"change_type": ""}), wepay.Recipient{Kind: wepay.OtherEvent, MchID: "1900000109", Account: "1900000109"}},
		"a reply without an appid":  {replied(map[string]string{"appid": "", "recall": "N"}), wepay.Recipient{Kind: wepay.OtherEvent, MchID: "1900000109", Account: "1900000109"}},
		"a payment without one":     {payment(map[string]string{"appid": ""}), wepay.Recipient{MchID: "1900000109", TradeType: "JSAPI"}},
		"a payment":                 {payment(map[string]string{"appid": "wx1"}), wepay.Recipient{MchID: "1900000109", AppID: "wx1", TradeType: "JSAPI"}},
		"a refund with a contract":  {noticed(aContract, map[string]string{"req_info": "AAAA"}), wepay.Recipient{MchID: "1900000109"}},
		"half a contract: no event": {payment(map[string]string{"appid": "wx1", "contract_id": "1"}), wepay.Recipient{MchID: "1900000109", AppID: "wx1", TradeType: "JSAPI"}},
	} {
		fields := test.fields.Clone()
		fields.Set("return_code", "SUCCESS")
		u, err := apiv2.ReadNotification(encoded(t, fields, wepay.MD5))
		if err != nil {
			t.Fatal(err)
		}
		if got := u.Recipient(); got != test.want {
			t.Errorf("%s: got %+v, want %+v", name, got, test.want)
		}
	}
}

// Only what WeChat documents without a return_code may lack it.
func TestReturnCodeOfNotices(t *testing.T) {
	for name, fields := range map[string]wepay.Fields{
		"a payment without":        payment(map[string]string{"return_code": ""}),
		"a failed payment without": payment(map[string]string{"return_code": "", "result_code": "FAIL"}),
		"a contract that FAIL":     noticed(aContract, map[string]string{"return_code": "FAIL"}),
		"half a contract":          noticed(aContract, map[string]string{"change_type": ""}),
		"a locker with a payment":  noticed(aLocker, map[string]string{"total_fee": "1"}),
		"a refund without":         noticed(aLocker, map[string]string{"req_info": "AAAA"}),
	} {
		want := wepay.ErrNotPayment
		if name == "a contract that FAIL" || name == "a refund without" {
			want = wepay.ErrMalformed
		}
		if n, err := read(encoded(t, fields, wepay.MD5), key); !errors.Is(err, want) || n != nil {
			t.Errorf("%s: got %v, %v", name, n, err)
		}
	}
}

// The words are API v3's; a debit that failed is no success.
func TestEventTypes(t *testing.T) {
	for want, changes := range map[string]map[string]string{
		"TRANSACTION.SUCCESS": nil,
		"TRANSACTION.FAIL":    {"trade_type": "PAP", "trade_state": "PAY_FAIL", "transaction_id": ""},
	} {
		n, err := read(encoded(t, payment(changes), wepay.MD5), key)
		if err != nil || n.EventType != want {
			t.Errorf("got %v, %v, want %s", n, err, want)
		}
	}
}

package apiv2

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/windsome/caddy-wepay/wepay"
)

// notice is a kind of notification that is neither of a payment nor of a refund.
// WeChat signs its replies with the same key, and the merchant what its customers
// see, so that only what no other message has makes a notice of one. Notices that
// WeChat ended, such as 合单支付通知 (2021-09-01), and 扫码支付模式一, whose answer has to
// be signed, are none.
type notice struct {
	signs  []string                                     // the fields that only this kind has, all of them
	unique []string                                     // the fields that tell one from another
	fields []string                                     // all others that are documented
	event  func(fields wepay.Fields) (eventType string) // "": WeChat's own word cannot be passed on
}

// notices are all that WeChat documents. Their words are API v3's for the same.
// Source: WeChat Pay, 签约、解约结果通知; 车牌状态变更通知; 风险交易回调通知; 免押租借 and 免押速住,
// 确认订单 and 支付通知; for the words 回调通知 (API v3).
var notices = []notice{
	{
		signs:  []string{"change_type", "contract_id"},
		unique: []string{"contract_id", "change_type", "operate_time"},
		fields: []string{
			"contract_code", "contract_display_account", "contract_expired_time", "contract_signed_time", "contract_state", "contract_terminated_time",
			"contract_termination_mode", "contract_termination_remark", "operate_time", "plan_id", "request_serial",
		},
		event: contractEvent,
	},
	{
		signs:  []string{"vehicle_event_type", "vehicle_event_createtime"},
		unique: []string{"plate_number", "vehicle_event_type", "vehicle_event_createtime"},
		fields: []string{"deduct_mode", "plate_number", "vehicle_event_des"},
		event:  always("VEHICLE.ENTRANCE_STATE_CHANGE"),
	},
	{
		signs:  []string{"event_code", "risk_level", "transaction_id_list"},
		unique: []string{"event_code", "transaction_id_list", "risk_level"}, // whether the first is a kind or a number is not told
		fields: []string{"risk_level_desc"},
		event:  always("RISKTRADE.IDENTIFICATION"),
	},
	{
		signs:  []string{"event_type", "event_id", "event_ciphertext"},
		unique: []string{"event_id"},
		fields: []string{"algorithm", "app_id", "event_algorithm", "event_associated_data", "event_create_time", "event_nonce"},
		event:  func(fields wepay.Fields) string { return word(fields.Get("event_type")) },
	},
}

func always(eventType string) func(wepay.Fields) string {
	return func(wepay.Fields) string { return eventType }
}

// contractEvent is API v3's word for what became of a contract. For another
// change_type it is made of that.
func contractEvent(fields wepay.Fields) string {
	switch change := fields.Get("change_type"); change {
	case "ADD":
		return "ENTRUST.SIGN"
	case "DELETE":
		return "ENTRUST.TERMINATE"
	default:
		return word("ENTRUST." + change)
	}
}

// word returns what may be one of WeChat's words; "" for anything else.
func word(text string) string {
	if len(text) > 128 || !isToken(text) {
		return ""
	}
	return text
}

// isUndone reports whether a notice says that what it is about failed.
func isUndone(fields wepay.Fields) bool {
	result := fields.Get("result_code")
	return result != "" && result != "SUCCESS"
}

// eventType is the word for a notice, or for its failure.
func eventType(done string, fields wepay.Fields) string {
	if done != "" && isUndone(fields) {
		done = word(done + "_FAIL")
	}
	return cmp.Or(done, wepay.UnknownEvent)
}

// noticeFields are those that any notice may have as well as its own.
var noticeFields = []string{
	"appid", "err_code", "err_code_des", "mch_id", "nonce_str", "openid", "result_code", "return_code", "return_msg", "sign", "sign_type",
	"sub_appid", "sub_mch_id", "sub_openid",
}

// noticeOf returns which notice fields are by what they say, or nil.
func noticeOf(fields wepay.Fields) *notice {
	for i := range notices {
		if !slices.ContainsFunc(notices[i].signs, func(name string) bool { return fields.Get(name) == "" }) {
			return &notices[i]
		}
	}
	return nil
}

// has reports whether a notice is documented to have a field.
func (n *notice) has(name string) bool {
	return slices.Contains(n.signs, name) || slices.Contains(n.fields, name) || slices.Contains(noticeFields, name)
}

// check says why fields that are signed are no notice.
//
// See checkReading for what has to be ruled out. No value here reads as a further
// field, so that these fields are one reading alone of what is signed. That WeChat
// meant them, and not a message of which a payer's or a shop's own text is read as
// the signs, follows from what else every such message has and a notice has not: a
// field that is documented of anything else.
func (n *notice) check(fields wepay.Fields) error {
	if err := checkOneReading(fields, n.has); err != nil {
		return err
	}
	for _, field := range fields {
		ofAnother := isDocumented(field.Name) || slices.ContainsFunc(notices, func(other notice) bool { return other.has(field.Name) })
		if !n.has(field.Name) && (ofAnother || slices.Contains(replyFields, field.Name)) {
			return fmt.Errorf("%w: it has %s, which is of another message", wepay.ErrNotPayment, field.Name)
		}
	}
	return nil
}

// checkOneReading refuses a value that reads as a further field. Only the names that
// are known may stand in a log.
func checkOneReading(fields wepay.Fields, known func(name string) bool) error {
	for _, field := range fields {
		if !holdsField(field.Value, anyField) {
			continue
		}
		name := field.Name
		if !known(name) {
			name = "a field that is not known here"
		}
		return fmt.Errorf("%w: %s reads as a further field, too", wepay.ErrAmbiguous, name)
	}
	return nil
}

// notification is what a merchant is told by a notice whose signature is right. Of what
// failed it is another event than of what was done.
func (n *notice) notification(merchant *wepay.Merchant, fields wepay.Fields) (*wepay.Notification, error) {
	if err := n.check(fields); err != nil {
		return nil, err
	}
	told := &wepay.Notification{Kind: wepay.OtherEvent, Merchant: merchant, EventType: eventType(n.event(fields), fields), Fields: fields}
	unique := n.unique
	if isUndone(fields) {
		unique = append(slices.Clone(unique), "result_code", "err_code")
	}
	for _, name := range unique {
		told.ID += name + "\x00" + fields.Get(name) + "\x00" // which no field can hold
	}
	return told, nil
}

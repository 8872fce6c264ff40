package apiv3

import (
	"net/http"

	"github.com/windsome/caddy-wepay/wepay"
)

// receiverVerdicts: who is a receiver cannot be asked, and adding one twice does
// no harm.
var receiverVerdicts = map[string]wepay.Verdict{
	"RESOURCEALREADYEXISTS": wepay.Fix,
	"ALREADYEXISTS":         wepay.Fix,
}

// receiverCalls say who may get a share of what orders bring.
var receiverCalls = map[wepay.Operation]call{
	// Source: WeChat Pay, 添加分账接收方 (API v3).
	wepay.ProfitShareAddReceiver: {
		method: http.MethodPost, path: "/v3/profitsharing/receivers/add",
		rules: wepay.AddReceiverRules,
		body: func(x *exchange) (object, error) {
			return receiverBody(x, "type", "account", "name", "relation_type", "custom_relation")
		},
		encrypted: []string{"name"}, decrypted: []string{"name"},
		answers:    []string{"receiver"},
		result:     receiverState,
		repeatable: true, unknown: wepay.Again, verdicts: receiverVerdicts,
	},
	// Source: WeChat Pay, 删除分账接收方 (API v3).
	wepay.ProfitShareRemoveReceiver: {
		method: http.MethodPost, path: "/v3/profitsharing/receivers/delete",
		rules:      wepay.RemoveReceiverRules,
		body:       func(x *exchange) (object, error) { return receiverBody(x, "type", "account") },
		answers:    []string{"receiver"},
		result:     receiverState,
		repeatable: true, unknown: wepay.Again, verdicts: receiverVerdicts,
	},
}

// receiverBody takes members of API v2's receiver.
func receiverBody(x *exchange, takes ...string) (object, error) {
	receiver := object{}
	err := decode([]byte(x.in.Get("receiver")), &receiver)
	if err == nil {
		err = checkJSON(map[string]any(receiver))
	}
	if err != nil {
		return nil, &wepay.FieldError{Field: "receiver", Reason: "must be a JSON object without null and emoji", Err: err}
	}
	body := x.sharer()
	for _, member := range takes {
		if text := receiver.text(member); text != "" {
			body[member] = text
		}
	}
	return body, nil
}

// receiverState puts the receiver into the JSON that it is in API v2.
func receiverState(x *exchange, answer object) (wepay.Fields, error) {
	receiver := object{}
	for _, member := range []string{"type", "account", "name", "relation_type", "custom_relation"} {
		if text := answer.text(member); text != "" {
			receiver[member] = text
		}
	}
	fields := x.done()
	if len(receiver) == 0 {
		return fields, nil // the caller of this sees that there is no receiver
	}
	err := read([]name{{"receiver", "receiver", value}}, object{"receiver": receiver}, &fields)
	return fields, err
}

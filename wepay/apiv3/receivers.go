package apiv3

import (
	"net/http"
	"slices"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/row"
)

// receiverVerdicts: receivers cannot be queried, and adding one twice does no harm.
var receiverVerdicts = map[string]wepay.Verdict{
	"RESOURCEALREADYEXISTS": wepay.Fix,
	"ALREADYEXISTS":         wepay.Fix,
}

// receiverCalls set who may get a share of orders.
var receiverCalls = map[wepay.Operation]call{
	// Source: WeChat Pay, 添加分账接收方 (API v3).
	wepay.ProfitShareAddReceiver: {
		method: http.MethodPost, path: "/v3/profitsharing/receivers/add",
		Row: row.Row{
			Rules: wepay.AddReceiverRules, Complete: completeReceiver, Answers: []string{"receiver"},
			Repeatable: true, Unknown: wepay.Again, Verdicts: receiverVerdicts,
		},
		in: slices.Concat(sharer, fieldMap{
			{"type", "type", text},
			{"account", "account", text},
			{"name", "name", text},
			{"relation_type", "relation_type", text},
			{"custom_relation", "custom_relation", text},
		}),
		encrypted: []string{"name"}, decrypted: []string{"name"},
		result: receiverState,
	},
	// Source: WeChat Pay, 删除分账接收方 (API v3).
	wepay.ProfitShareRemoveReceiver: {
		method: http.MethodPost, path: "/v3/profitsharing/receivers/delete",
		Row: row.Row{
			Rules: wepay.RemoveReceiverRules, Complete: completeReceiver, Answers: []string{"receiver"},
			Repeatable: true, Unknown: wepay.Again, Verdicts: receiverVerdicts,
		},
		in:     slices.Concat(sharer, fieldMap{{"type", "type", text}, {"account", "account", text}}),
		result: receiverState,
	},
}

// receiverMembers are those of API v2's receiver, which are members of API v3's
// calls.
var receiverMembers = []string{"type", "account", "name", "relation_type", "custom_relation"}

// completeReceiver makes the members of API v2's receiver fields.
func completeReceiver(_ *wepay.Merchant, in wepay.Fields) (wepay.Fields, error) {
	receiver, err := jsonField(in, "receiver")
	if err != nil {
		return nil, err
	}
	for _, member := range receiverMembers {
		in.Set(member, receiver.text(member))
	}
	return in, nil
}

// receiverState makes the receiver the JSON object that it is in API v2.
func receiverState(_ *exchange, answer object, out *wepay.Fields) error {
	receiver := object{}
	for _, member := range receiverMembers {
		if text := answer.text(member); text != "" {
			receiver[member] = text
		}
	}
	if len(receiver) == 0 {
		return nil // out lacks receiver
	}
	text, err := encode(receiver)
	out.Set("receiver", string(text))
	return err
}

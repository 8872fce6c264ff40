package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// redactedNames are those, in both APIs, of personal data; account is that of a
// receiver of profit sharing.
var redactedNames = map[string]bool{
	"name": true, "true_name": true, "unionid": true, "user_name": true, "re_user_name": true, "real_name": true, "out_user_code": true, "contract_display_account": true,
	"refund_recv_accout": true, "user_received_account": true, "recv_account": true, "receiver_account": true, "account": true, "bank_account": true,
	"complaint_detail": true, "encrypt_echo_message": true, "event_ciphertext": true,
}

// redactedParts are what the names of personal data have in them, in events of any
// kind.
var redactedParts = []string{"openid", "phone", "mobile", "email", "address", "id_card", "identification", "plate_number", "payer_name", "user_truename", "user_creid"}

// isRedacted reports whether a name is one of these; of several orders they are
// numbered, such as sub_openid_0.
func isRedacted(name string) bool {
	name = strings.ToLower(name)
	return redactedNames[strings.TrimRight(name, "_0123456789")] ||
		slices.ContainsFunc(redactedParts, func(part string) bool { return strings.Contains(name, part) })
}

// redact hides personal data. What is no object has no names that tell what is personal,
// and is hidden.
func redact(payload []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, fmt.Errorf("reading the payload: %w", err)
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if _, named := value.(map[string]any); !named {
		value = "***"
	}
	if err := encoder.Encode(redacted(value)); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(text.Bytes()), nil
}

func redacted(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for name := range value {
			if isRedacted(name) {
				value[name] = "***"
			} else {
				value[name] = redacted(value[name])
			}
		}
	case []any:
		for i := range value {
			value[i] = redacted(value[i])
		}
	}
	return value
}

package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// redactedNames are those, in both APIs, of personal data; account is that of a
// receiver of profit sharing.
var redactedNames = map[string]bool{
	"openid": true, "sub_openid": true, "sp_openid": true, "re_openid": true, "unionid": true,
	"user_name": true, "re_user_name": true, "real_name": true,
	"refund_recv_accout": true, "user_received_account": true, "receiver_account": true, "account": true, "bank_account": true,
}

// isRedacted reports whether a name is one of these; of several orders they are
// numbered, such as sub_openid_0.
func isRedacted(name string) bool { return redactedNames[strings.TrimRight(name, "_0123456789")] }

// redact hides personal data.
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

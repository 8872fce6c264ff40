package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// personal are the names, in both APIs, of what tells who somebody is: the account
// is that of profit sharing's receiver.
var personal = map[string]bool{
	"openid": true, "sub_openid": true, "sp_openid": true, "re_openid": true, "unionid": true,
	"user_name": true, "re_user_name": true, "real_name": true,
	"refund_recv_accout": true, "user_received_account": true, "receiver_account": true, "account": true, "bank_account": true,
}

// isPersonal reports whether a name is one of these. The names of one of several
// orders are numbered, such as sub_openid_0.
func isPersonal(name string) bool { return personal[strings.TrimRight(name, "_0123456789")] }

// redact hides what tells who the payer or receiver is.
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
			if isPersonal(name) {
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

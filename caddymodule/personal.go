package caddymodule

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// personal are the names of what tells who somebody is.
var personal = map[string]bool{
	"openid": true, "sub_openid": true, "sp_openid": true, "refund_recv_accout": true, "user_received_account": true,
}

// maskPersonal hides what tells who the payer is.
func maskPersonal(payload []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, fmt.Errorf("reading the payload: %w", err)
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(masked(value)); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(text.Bytes()), nil
}

func masked(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for name := range value {
			if personal[name] {
				value[name] = "***"
			} else {
				value[name] = masked(value[name])
			}
		}
	case []any:
		for i := range value {
			value[i] = masked(value[i])
		}
	}
	return value
}

package apiv3

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/row"
)

// errEcho says that WeChat's answer to the test is not what was sent.
var errEcho = errors.New("the test failed")

// encryptedEcho is sent and comes back encrypted, for either side.
const encryptedEcho = "encrypted_echo_message"

// securityCalls test a merchant's keys, and move no money.
var securityCalls = map[wepay.Operation]call{
	// Source: WeChat Pay, 商户签名验签/加解密测试 (2026-04-08). With a notify_url WeChat
	// sends SECURITY_ECHO.SUCCESS there.
	wepay.SecurityEcho: {
		method: http.MethodPost, path: "/v3/security/echo", as: forAccount, tests: true,
		Row: row.Row{
			Rules: wepay.Rules{
				{Name: "echo_message", Required: true},
				{Name: encryptedEcho},
				{Name: "notify_url", Max: 256, Is: wepay.NotifyURL},
			},
			Echoes: []string{"echo_message", encryptedEcho}, Answers: []string{"echo_message"},
			Repeatable: true, Unknown: wepay.Again,
		},
		in: fieldMap{
			{"echo_message", "echo_message", text},
			{encryptedEcho, encryptedEcho, text},
			{"notify_url", "notify_url", text},
		},
		encrypted: []string{encryptedEcho}, decrypted: []string{encryptedEcho},
		out: fieldMap{
			{"echo_message", "echo_message", text},
			{encryptedEcho, encryptedEcho, text},
		},
		result: echoIsDecrypted,
	},
}

// echoIsDecrypted fails the test where the reply does not decrypt: that is what it
// is for.
func echoIsDecrypted(x *exchange, answer object, _ *wepay.Fields) error {
	sent := x.in.Get(encryptedEcho) != ""
	if sent && answer.get(encryptedEcho) == nil {
		return fmt.Errorf("%w: the reply lacks %s, so that nothing is known of the keys", errEcho, encryptedEcho)
	}
	if sent && answer.get(encryptedEcho) == "" {
		return fmt.Errorf("%w: the reply's %s is encrypted for another key than private_key's (is mch_serial of the same certificate?)", errEcho, encryptedEcho)
	}
	return nil
}

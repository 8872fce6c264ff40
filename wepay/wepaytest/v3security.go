package wepaytest

import "net/http"

// v3SecurityCalls test a merchant's keys.
// Source: WeChat Pay, 商户签名验签/加解密测试 (2026-04-08), and its 回调接口 (2026-04-10).
var v3SecurityCalls = []v3call{
	{
		method: http.MethodPost, path: "/v3/security/echo", as: anyone,
		body: members{
			{name: "notify_url", max: 256, is: notifyURL},
			{name: "echo_message", required: true},
			{name: "encrypted_echo_message"},
		},
		do: (*v3exchange).echo,
	},
}

// echo gives back what it gets, the one message as it is, the other decrypted with
// WeChat's key and encrypted with the merchant's. It tells of that, too, where the
// request says so; under a FakeClock once it advances.
func (x *v3exchange) echo() (object, *v3refusal) {
	if x.request.Header.Get("Wechatpay-Serial") == "" {
		return nil, invalid("Http头缺少Wechatpay-Serial")
	}
	out, resource := object{"echo_message": x.body.text("echo_message")}, object{"echo_message": x.body.text("echo_message")}
	if sealed := x.body.text("encrypted_echo_message"); sealed != "" {
		plain, refused := x.decryptV3(sealed)
		if refused != nil {
			return nil, refused
		}
		again, refused := x.encryptV3(plain)
		if refused != nil {
			return nil, refused
		}
		// The notification has another name for it, in the one source that tells of it.
		out["encrypted_echo_message"], resource["encrypt_echo_message"] = again, again
	}
	if to := x.body.text("notify_url"); to != "" && x.account.APIv3Key != "" {
		x.server.echoLater(x.account, Event{
			URL: to, Type: "SECURITY_ECHO.SUCCESS", OriginalType: "security", Summary: "回调通知成功", Resource: resource,
		})
	}
	return out, nil
}

// echoLater notifies the merchant of a test.
func (s *Server) echoLater(a *account, e Event) {
	s.tasks.after(s.clock, 0, func() {
		s.mu.Lock()
		delivery, err := s.deliveryV3(a, e, payment{})
		s.mu.Unlock()
		if err == nil {
			delivery.round(0)
		}
	})
}

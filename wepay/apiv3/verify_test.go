package apiv3

import (
	"errors"
	"net/http"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

// A reply is signed as a notification is, also one without a body.
func TestReplyVectors(t *testing.T) {
	key := publicKey(t, vectorInto[keyVectors](t, "K1").PlatformPublicKey)
	for _, name := range []string{"A1", "A2"} {
		v := vectorInto[notificationVector](t, name)
		s, err := readSignature(v.header())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.verify(key, []byte(v.Body), sent); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := s.verify(key, []byte(v.Body+" "), sent); !errors.Is(err, wepay.ErrSignature) || errors.Is(err, wepay.ErrProbe) {
			t.Errorf("%s with a space: %v", name, err)
		}
	}
}

func TestIsSigned(t *testing.T) {
	for _, name := range []string{headerTimestamp, headerNonce, headerSerial, headerSignature} {
		if !IsSigned(http.Header{name: {""}}) {
			t.Errorf("%s alone says nothing", name)
		}
	}
	if IsSigned(http.Header{headerType: {scheme}, "Content-Type": {"text/xml"}}) {
		t.Error("a notification of API v2 is taken for one of v3")
	}
}

package apiv3_test

import (
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay/apiv3"
)

func TestEncrypt(t *testing.T) {
	key := privateKey(t, testdata(t, "../certificates/key.pem"))
	for _, plain := range []string{"张三", strings.Repeat("字", 71), strings.Repeat("a", 214), ""} {
		sealed, err := apiv3.Encrypt(&key.PublicKey, plain)
		if err != nil || len(sealed) != 344 {
			t.Fatalf("%d bytes: %q, %v", len(plain), sealed, err)
		}
		if got, err := apiv3.Decrypt(key, sealed); err != nil || got != plain {
			t.Errorf("got %q, %v, want %q", got, err, plain)
		}
		if again, _ := apiv3.Encrypt(&key.PublicKey, plain); again == sealed {
			t.Error("the same name is encrypted to the same text")
		}
	}
	secret := strings.Repeat("秘", 72)
	if _, err := apiv3.Encrypt(&key.PublicKey, secret); err == nil || !strings.Contains(err.Error(), "214 bytes") || strings.Contains(err.Error(), secret) {
		t.Errorf("too long: got %v", err)
	}
	good, _ := apiv3.Encrypt(&key.PublicKey, "张三")
	for name, sealed := range map[string]string{
		"nothing": "", "no base64": "-", "too short": "AAAA", "another's": vectors(t)["O1"].Ciphertext, "a bit": "A" + good[1:], "cut": good[:340],
	} {
		if got, err := apiv3.Decrypt(key, sealed); err == nil && sealed != good {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

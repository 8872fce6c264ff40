package apiv3

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// window is how much a signature's time may differ from this machine's.
// Source: WeChat Pay, 如何验证签名.
const window = 300 * time.Second

// probe is the prefix of signatures by which WeChat checks whether a merchant
// verifies. They are wrong, and rejected as any other.
// Source: WeChat Pay, 签名探测.
const probe = "WECHATPAY/SIGNTEST/"

// The headers that sign a reply or a notification, in net/http's spelling.
const (
	headerTimestamp = "Wechatpay-Timestamp"
	headerNonce     = "Wechatpay-Nonce"
	headerSignature = "Wechatpay-Signature"
	headerSerial    = "Wechatpay-Serial"
	headerType      = "Wechatpay-Signature-Type"
)

// maxHeader bounds each of them, in bytes. A signature has 344.
const maxHeader = 1024

// signature is the claimed signature of a reply or a notification.
type signature struct {
	timestamp, nonce, serial, value string
}

// IsSigned reports whether a header has any part of a signature of API v3, right or
// wrong: then the message is to be treated as one of API v3.
func IsSigned(header http.Header) bool {
	for _, name := range []string{headerSignature, headerSerial, headerTimestamp, headerNonce} {
		if len(header[name]) > 0 {
			return true
		}
	}
	return false
}

// readSignature requires each header once and not empty. The error wraps
// wepay.ErrUnsigned or wepay.ErrMalformed and names the header.
func readSignature(header http.Header) (signature, error) {
	var s signature
	for _, h := range []struct {
		name  string
		value *string
	}{
		{headerTimestamp, &s.timestamp},
		{headerNonce, &s.nonce},
		{headerSerial, &s.serial},
		{headerSignature, &s.value},
	} {
		switch values := header[h.name]; {
		case len(values) == 0 || len(values) == 1 && values[0] == "":
			return s, fmt.Errorf("%w: there is no %s; did a proxy remove it?", wepay.ErrUnsigned, h.name)
		case len(values) > 1:
			return s, fmt.Errorf("%w: %s occurs %d times", wepay.ErrMalformed, h.name, len(values))
		case len(values[0]) > maxHeader:
			return s, fmt.Errorf("%w: %s is longer than %d bytes", wepay.ErrMalformed, h.name, maxHeader)
		default:
			*h.value = values[0]
		}
	}
	for _, algorithm := range header[headerType] {
		if algorithm != scheme {
			return s, fmt.Errorf("%w: its %s is not %s, the only one supported", wepay.ErrMalformed, headerType, scheme)
		}
	}
	return s, nil
}

// fresh returns an error if the signature is too old, as a replay is, or from the
// future. A clock may be wrong: the error says by how much.
func (s signature) fresh(now time.Time) error {
	seconds, err := strconv.ParseInt(s.timestamp, 10, 64)
	if err != nil || seconds < 0 || strconv.FormatInt(seconds, 10) != s.timestamp {
		return fmt.Errorf("%w: %s is no number of seconds", wepay.ErrMalformed, headerTimestamp)
	}
	const far = 1 << 40 // seconds; a Duration ends long before
	if seconds > far {
		return fmt.Errorf("%w: %s is no number of seconds: of milliseconds?", wepay.ErrMalformed, headerTimestamp)
	}
	if ago := now.Unix() - seconds; ago >= int64(window/time.Second) || -ago >= int64(window/time.Second) {
		return fmt.Errorf("%w: its time is %d seconds from this machine's: if WeChat Pay sent it, this clock is wrong (is NTP running?)", wepay.ErrStale, -ago)
	}
	return nil
}

// verify checks a body's signature with the key that its serial names, and its
// time. The error wraps wepay.ErrSignature, with wepay.ErrProbe where it is
// WeChat's own, or wepay.ErrStale or wepay.ErrMalformed.
func (s signature) verify(key *rsa.PublicKey, body []byte, now time.Time) error {
	if err := s.fresh(now); err != nil {
		return err
	}
	raw, err := strict.DecodeString(s.value)
	if err == nil {
		err = rsa.VerifyPKCS1v15(key, crypto.SHA256, s.digest(body), raw)
	}
	switch {
	case err == nil:
		return nil
	case strings.HasPrefix(s.value, probe):
		return fmt.Errorf("%w: %w", wepay.ErrSignature, wepay.ErrProbe)
	default:
		return wepay.ErrSignature
	}
}

// digest hashes what is signed: time, nonce and body, each a line.
func (s signature) digest(body []byte) []byte {
	hash := sha256.New()
	_, _ = hash.Write([]byte(s.timestamp + "\n" + s.nonce + "\n")) // a hash takes whatever comes
	_, _ = hash.Write(body)
	_, _ = hash.Write([]byte{'\n'})
	return hash.Sum(nil)
}

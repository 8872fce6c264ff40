package wepay

import (
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// API is a version of WeChat Pay's API.
type API string

// The versions.
const (
	V2 API = "v2" // XML, signed with a shared key
	V3 API = "v3" // JSON, signed with RSA
)

// PublicKeyPrefix begins the id of every WeChat Pay public key, and no serial
// number of a certificate.
const PublicKeyPrefix = "PUB_KEY_ID_"

// serialLength is that of a certificate's serial number, in hexadecimal digits.
const serialLength = 40

// ParseSerial returns a certificate's serial number as WeChat writes it. Tools
// leave out leading zeros, write small letters, and end with a line feed.
func ParseSerial(text string) (string, error) {
	text = strings.ToUpper(strings.TrimSpace(text))
	if text == "" || len(text) > serialLength {
		return "", fmt.Errorf("must be 1 to %d hexadecimal digits", serialLength)
	}
	text = strings.Repeat("0", serialLength-len(text)) + text
	if _, err := hex.DecodeString(text); err != nil {
		return "", fmt.Errorf("must be 1 to %d hexadecimal digits", serialLength)
	}
	return text, nil
}

// SigningKey returns the merchant's key for API v3, which is the certificate's
// unless another is given, and its certificate's serial number. Without them
// it returns nil and "".
func (m *Merchant) SigningKey() (serial string, key *rsa.PrivateKey) {
	serial, key = m.MchSerial, m.PrivateKey
	if m.Certificate == nil {
		return serial, key
	}
	if key == nil {
		key, _ = m.Certificate.PrivateKey.(*rsa.PrivateKey) // Validate refuses others
	}
	if serial == "" {
		serial = CertificateSerial(m.Certificate.Leaf)
	}
	return serial, key
}

// Uses reports whether the merchant has the key that verifies a version's
// notifications.
func (m *Merchant) Uses(api API) bool {
	if api == V3 {
		return m.APIv3Key != ""
	}
	return m.PartnerKey != ""
}

// RequireV3 returns an error that wraps ErrNotAble if the merchant lacks what API
// v3's calls need.
func (m *Merchant) RequireV3() error {
	serial, key := m.SigningKey()
	switch {
	case key == nil && serial == "":
		return m.NotAble("private_key and mch_serial (or pfx, or cert)")
	case key == nil:
		return m.NotAble("private_key (or pfx, or cert)")
	case serial == "":
		return m.NotAble("mch_serial (or pfx, or cert)")
	case m.APIv3Key == "":
		return m.NotAble("apiv3_key")
	default:
		return nil
	}
}

// validateV3 checks what API v3 needs, and that keys, certificate and serial
// number belong together. A merchant of API v2 may have all of it as well.
func (m *Merchant) validateV3() error {
	serial, key := m.SigningKey()
	if m.API == V3 {
		switch {
		case m.Sandbox:
			return &FieldError{Field: "sandbox", Reason: "API v3 has no sandbox"}
		case m.APIv3Key == "":
			return &FieldError{Field: "apiv3_key", Reason: "is required for api v3", Missing: true}
		case key == nil:
			return &FieldError{Field: "private_key", Reason: "is required for api v3, unless pfx or cert has it", Missing: true}
		case serial == "":
			return &FieldError{Field: "mch_serial", Reason: "is required for api v3, unless pfx or cert tells it", Missing: true}
		}
	}
	if m.Payload == V3 && m.APIv3Key == "" {
		return &FieldError{Field: "payload", Reason: "v3 needs apiv3_key: without it there are no notifications of API v3"}
	}
	if err := m.validateOwnKey(); err != nil {
		return err
	}
	return m.validatePublicKey(key)
}

func (m *Merchant) validateOwnKey() error {
	if m.PrivateKey != nil && m.PrivateKey.N.BitLen() < minKeyBits {
		return &FieldError{Field: "private_key", Reason: fmt.Sprintf("is of %d bits, WeChat Pay's are of 2048", m.PrivateKey.N.BitLen())}
	}
	if m.Certificate == nil {
		return nil
	}
	if serial := CertificateSerial(m.Certificate.Leaf); m.MchSerial != "" && m.MchSerial != serial {
		return &FieldError{Field: "mch_serial", Reason: "is not that of the certificate, which is " + serial}
	}
	if m.PrivateKey != nil && !m.PrivateKey.PublicKey.Equal(m.Certificate.Leaf.PublicKey) {
		return &FieldError{Field: "private_key", Reason: "does not belong to the certificate"}
	}
	if _, isRSA := m.Certificate.PrivateKey.(*rsa.PrivateKey); !isRSA && m.API == V3 {
		return &FieldError{Field: "pfx", Reason: "API v3 needs an RSA key"}
	}
	return nil
}

func (m *Merchant) validatePublicKey(own *rsa.PrivateKey) error {
	switch {
	case m.PublicKey == nil && m.PublicKeyID == "":
		return nil
	case m.PublicKey == nil || m.PublicKeyID == "":
		return &FieldError{Field: "public_key", Reason: "needs the key's id and its file"}
	case m.PublicKey.N.BitLen() < minKeyBits:
		return &FieldError{Field: "public_key", Reason: fmt.Sprintf("is of %d bits, WeChat Pay's are of 2048", m.PublicKey.N.BitLen())}
	case own != nil && own.PublicKey.Equal(m.PublicKey):
		return &FieldError{Field: "public_key", Reason: "is the merchant's own, not WeChat Pay's: download pub_key.pem from the merchant platform"}
	default:
		return nil
	}
}

// minKeyBits is the length of WeChat Pay's RSA keys.
const minKeyBits = 2048

// apiV3Key is the form of the APIv3 key (APIv3密钥).
func apiV3Key(value string) error {
	if err := keyLength(value); err != nil {
		return err
	}
	if Alphanumeric(value) != nil {
		return errors.New("must be letters and digits")
	}
	return nil
}

// publicKeyID is the form of the id of a WeChat Pay public key.
func publicKeyID(value string) error {
	number, ours := strings.CutPrefix(value, PublicKeyPrefix)
	if !ours || number == "" || Digits(number) != nil {
		return errors.New("must be the key's id, " + PublicKeyPrefix + " and digits, and its file")
	}
	return nil
}

func isSerial(value string) error {
	_, err := ParseSerial(value)
	return err
}

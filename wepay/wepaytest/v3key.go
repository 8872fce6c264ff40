package wepaytest

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// KeyMode is by which keys a merchant knows WeChat in API v3.
type KeyMode int

// The modes. Merchants since late 2024 start with ByPublicKey and never have platform
// certificates; Migrate moves others there.
const (
	ByCertificate KeyMode = iota // platform certificates
	Migrating                    // both
	ByPublicKey                  // the WeChat Pay public key (微信支付公钥)
)

// wechatKey is a key of WeChat's as one merchant knows it.
type wechatKey struct {
	id   string // the certificate's serial number, or the public key's id
	key  *rsa.PrivateKey
	cert *x509.Certificate // nil: the public key
}

// keyRing holds the keys that WeChat uses for one merchant.
type keyRing struct {
	mode   KeyMode
	certs  []*wechatKey // the oldest first
	inUse  *wechatKey   // the certificate that signs
	issued int          // certificates, ever
	public *wechatKey

	share float64 // of notifications that the public key signs while migrating
	due   float64 // what of the share has not been signed yet
}

// wechatKeys are WeChat's keys of every server in this process, because making
// one takes long: first the public key's, then those of certificates.
var wechatKeys keyPool

const (
	publicKeyPrefix = "PUB_KEY_ID_"
	// wrongWechatKey signs what no merchant can verify.
	wrongWechatKey = 1
)

// keys makes what an account's mode needs the first time that API v3 needs it.
func (s *Server) keys(a *account) (*keyRing, error) {
	p := &a.keyRing
	if p.public == nil {
		key, err := wechatKeys.get(0)
		if err != nil {
			return nil, err
		}
		id := fmt.Sprintf("%s01%s%s%014d", publicKeyPrefix, a.MchID, s.clock.Now().In(beijing).Format(dayFormat), 1)
		p.public = &wechatKey{id: id, key: key}
	}
	if p.mode != ByPublicKey && p.inUse == nil {
		k, err := s.newPlatformCertificate(a)
		if err != nil {
			return nil, err
		}
		p.inUse = k
	}
	return p, nil
}

// newPlatformCertificate adds a listed certificate.
func (s *Server) newPlatformCertificate(a *account) (*wechatKey, error) {
	p := &a.keyRing
	key, err := wechatKeys.get(wrongWechatKey + 1 + p.issued)
	if err != nil {
		return nil, err
	}
	now := s.clock.Now()
	cert, err := s.authority.sign(&x509.Certificate{
		Subject: pkix.Name{
			CommonName: "Tenpay.com sign", OrganizationalUnit: []string{"Tenpay.com"}, Organization: []string{"Tenpay.com"},
			Country: []string{"CN"},
		},
		NotBefore: now.Add(-time.Minute),
		NotAfter:  now.Add(certificateLife),
		KeyUsage:  x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}, key.Public())
	if err != nil {
		return nil, err
	}
	p.issued++
	k := &wechatKey{id: wepay.CertificateSerial(cert), key: key, cert: cert}
	p.certs = append(p.certs, k)
	return k, nil
}

// valid are the certificates that have not expired.
func (r *keyRing) valid(now time.Time) []*wechatKey {
	return slices.DeleteFunc(slices.Clone(r.certs), func(k *wechatKey) bool { return now.After(k.cert.NotAfter) })
}

// standard is the key of replies to requests that name none.
func (r *keyRing) standard() *wechatKey {
	if r.mode == ByPublicKey {
		return r.public
	}
	return r.inUse
}

// named finds the key that a request names in Wechatpay-Serial. Before a
// migration the public key's id has no effect.
func (r *keyRing) named(serial string, now time.Time) (k *wechatKey, found bool) {
	switch {
	case serial == "":
		return r.standard(), r.mode != ByPublicKey
	case serial == r.public.id && r.mode != ByCertificate:
		return r.public, true
	case strings.HasPrefix(serial, publicKeyPrefix) && r.mode == ByCertificate:
		return r.inUse, true
	case r.mode == ByPublicKey:
		return r.public, false
	}
	certs := r.valid(now)
	i := slices.IndexFunc(certs, func(k *wechatKey) bool { return k.id == serial })
	if i < 0 {
		return r.inUse, false
	}
	return certs[i], true
}

// forNotification is the key that signs the next notification. While migrating
// the public key has its share of them, spread evenly.
func (r *keyRing) forNotification() *wechatKey {
	if r.mode != Migrating {
		return r.standard()
	}
	if r.due += r.share; r.due < 1 {
		return r.inUse
	}
	r.due--
	return r.public
}

// sign signs what WeChat says at a time, and returns the headers that say so.
func (k *wechatKey) sign(body []byte, now time.Time) (http.Header, error) {
	timestamp, nonce := strconv.FormatInt(now.Unix(), 10), rand.Text()
	signature, err := signV3(k.key, replyMessage(timestamp, nonce, body))
	if err != nil {
		return nil, err
	}
	return http.Header{
		"Wechatpay-Timestamp":      {timestamp},
		"Wechatpay-Nonce":          {nonce},
		"Wechatpay-Signature":      {signature},
		"Wechatpay-Serial":         {k.id},
		"Wechatpay-Signature-Type": {v3Scheme},
	}, nil
}

// replyMessage is what the signature of a reply or notification is over.
func replyMessage(timestamp, nonce string, body []byte) []byte {
	return fmt.Appendf(nil, "%s\n%s\n%s\n", timestamp, nonce, body)
}

func signV3(key *rsa.PrivateKey, message []byte) (string, error) {
	digest := sha256.Sum256(message)
	raw, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
	if err != nil {
		return "", fmt.Errorf("signing as WeChat: %w", err)
	}
	return base64.StdEncoding.EncodeToString(raw), nil
}

// open decrypts a sensitive field. SHA-1 is what the protocol says; OAEP does
// not need it to be free of collisions.
func (k *wechatKey) open(value string) (string, bool) {
	sealed, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return "", false
	}
	plain, err := rsa.DecryptOAEP(sha1.New(), nil, k.key, sealed, nil)
	return string(plain), err == nil
}

// sealFor encrypts a sensitive field for the holder of a certificate.
func sealFor(cert *x509.Certificate, value string) (string, error) {
	key, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok {
		return "", errors.New("encrypting for a merchant whose key is not RSA")
	}
	raw, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, key, []byte(value), nil)
	if err != nil {
		return "", fmt.Errorf("encrypting for a merchant: %w", err)
	}
	return base64.StdEncoding.EncodeToString(raw), nil
}

// seal encrypts under an APIv3 key, as notifications and certificates are.
func seal(key, nonce, data string, plain []byte) (string, error) {
	block, err := aes.NewCipher([]byte(key))
	if err != nil {
		return "", fmt.Errorf("encrypting under the APIv3 key: %w", err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return "", fmt.Errorf("encrypting under the APIv3 key: %w", err)
	}
	return base64.StdEncoding.EncodeToString(gcm.Seal(nil, []byte(nonce), plain, []byte(data))), nil
}

// sealed is a value encrypted under an APIv3 key, with what it takes to open it.
func sealed(key, data string, plain []byte) (object, error) {
	nonce := rand.Text()[:12]
	ciphertext, err := seal(key, nonce, data, plain)
	if err != nil {
		return nil, err
	}
	return object{
		"algorithm": "AEAD_AES_256_GCM", "nonce": nonce, "associated_data": data, "ciphertext": ciphertext,
	}, nil
}

func publicKeyPEM(key *rsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("writing WeChat's public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

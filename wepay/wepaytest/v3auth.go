package wepaytest

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

const (
	// v3Scheme is the one algorithm of API v3 here.
	v3Scheme = "WECHATPAY2-SHA256-RSA2048"
	// v3Window is by how much a request's time may differ from the server's.
	v3Window = 300 * time.Second
)

// AddCertificate registers an API certificate that a test made itself, as if
// the merchant platform had issued it. The error wraps wepay.ErrNoMerchant.
func (s *Server) AddCertificate(mchID string, cert *x509.Certificate) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, found := s.accounts[mchID]
	if !found {
		return fmt.Errorf("adding a certificate of %q: %w", mchID, wepay.ErrNoMerchant)
	}
	a.certificates[wepay.CertificateSerial(cert)] = cert
	return nil
}

// RevokeCertificate has a merchant's API certificate sign no request of API v3
// any more. The error wraps wepay.ErrNoMerchant.
func (s *Server) RevokeCertificate(mchID, serial string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, found := s.accounts[mchID]
	if !found {
		return fmt.Errorf("revoking a certificate of %q: %w", mchID, wepay.ErrNoMerchant)
	}
	delete(a.certificates, serial)
	return nil
}

// authorization is the header that signs a request.
type authorization struct {
	mchID, nonce, signature, timestamp, serial string
}

// readAuthorization takes the five pairs, each once, in any order.
func readAuthorization(header http.Header) (authorization, bool) {
	var a authorization
	values := header.Values("Authorization")
	if len(values) != 1 {
		return a, false
	}
	pairs, found := strings.CutPrefix(values[0], v3Scheme+" ")
	if !found {
		return a, false
	}
	places := map[string]*string{
		"mchid": &a.mchID, "nonce_str": &a.nonce, "signature": &a.signature,
		"timestamp": &a.timestamp, "serial_no": &a.serial,
	}
	for pair := range strings.SplitSeq(pairs, ",") {
		name, value, found := strings.Cut(strings.TrimSpace(pair), "=")
		place := places[name]
		if !found || place == nil || len(value) < 3 || value[0] != '"' || value[len(value)-1] != '"' {
			return a, false
		}
		*place = value[1 : len(value)-1]
		delete(places, name)
	}
	return a, len(places) == 0
}

// requestMessage is what a request's signature is over.
func requestMessage(method, uri, timestamp, nonce string, body []byte) []byte {
	return fmt.Appendf(nil, "%s\n%s\n%s\n%s\n%s\n", method, uri, timestamp, nonce, body)
}

// authorize authenticates a request. All errors are SIGN_ERROR, in an unsigned reply.
func (x *v3exchange) authorize() *v3refusal {
	auth, ok := readAuthorization(x.request.Header)
	if !ok {
		return unauthorized("Http头Authorization值格式错误，请参考《微信支付商户REST API签名规则》")
	}
	if refused := x.checkAuthorizationTime(auth.timestamp); refused != nil {
		return refused
	}
	if len(auth.nonce) > 32 || !nonce(auth.nonce) {
		return unauthorized("Http头Authorization值中的nonce_str格式错误")
	}
	a, found := x.server.accounts[auth.mchID]
	if !found {
		return unauthorized("商户号不存在，或与证书序列号不匹配")
	}
	cert, found := a.certificates[auth.serial]
	switch {
	case !found:
		return unauthorized("商户证书序列号有误")
	case x.now.Before(cert.NotBefore) || x.now.After(cert.NotAfter):
		return unauthorized("商户证书已过期")
	}
	message := requestMessage(x.request.Method, x.request.RequestURI, auth.timestamp, auth.nonce, x.signedBody())
	if !signedBy(cert, message, auth.signature) {
		refused := unauthorized("签名错误，请检查后再试")
		refused.detail = object{
			"field": "signature", "location": "authorization", "issue": "sign not match",
			"sign_information": object{
				"method": x.request.Method, "url": x.request.RequestURI,
				"truncated_sign_message": truncated(message), "sign_message_length": len(message),
			},
		}
		return refused
	}
	x.account, x.books, x.certificate = a, &a.real, cert
	return nil
}

func (x *v3exchange) checkAuthorizationTime(timestamp string) *v3refusal {
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || !digits(timestamp) {
		return unauthorized("Http头Authorization值中的timestamp格式错误")
	}
	if away := x.now.Sub(time.Unix(seconds, 0)).Abs(); away > v3Window {
		return unauthorized("Http头Authorization值中的timestamp与发起请求的时间不得超过5分钟")
	}
	return nil
}

// truncated shows what WeChat signed over, less the body.
func truncated(message []byte) string {
	const shown = 4 // method, URL, time and nonce
	lines := strings.SplitN(string(message), "\n", shown+1)
	return strings.Join(lines[:shown], "\n") + "\n"
}

func signedBy(cert *x509.Certificate, message []byte, signature string) bool {
	key, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok {
		return false
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(signature)
	if err != nil {
		return false
	}
	digest := sha256.Sum256(message)
	return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], raw) == nil
}

// checkHeaders checks the headers of every request, except Authorization.
func (x *v3exchange) checkHeaders() *v3refusal {
	header := x.request.Header
	if header.Get("User-Agent") == "" || header.Get("Accept") == "" {
		return invalid("Http头缺少Accept或User-Agent")
	}
	if len(x.raw) == 0 {
		return nil
	}
	mediaType, parameters, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || mediaType != "application/json" ||
		parameters["charset"] != "" && !strings.EqualFold(parameters["charset"], "utf-8") {
		return invalid("Http头Content-Type必须为application/json")
	}
	if encoding := header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return invalid("Http头Content-Encoding不支持")
	}
	return nil
}

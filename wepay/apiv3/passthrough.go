package apiv3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/row"
)

// Pass is the operation's name in errors of Client.Pass.
const Pass wepay.Operation = "v3"

// PassRequest is a call of API v3 as it goes to WeChat.
type PassRequest struct {
	Method string // GET, POST, PUT, PATCH or DELETE
	// Path and its query are escaped as they are to be sent, byte for byte:
	// /v3/marketing/favor/stocks?offset=0&limit=10.
	Path string
	// ContentType of the body; "": application/json. Of multipart/form-data, which
	// uploads are, the part meta is what is signed.
	ContentType string
	// Serial names the key of WeChat's that the caller encrypted fields with; "":
	// none are.
	Serial string
	// Body is sent as it is, nil for none, but for values {"$encrypt":"text"} of
	// JSON, however deep: in place of each goes its text, encrypted for WeChat with
	// the key that Serial names, else the one in force.
	Body []byte
	// Decrypt are members of the reply that WeChat encrypts for the merchant:
	// data.payer_phone, which in an array is the member of each element.
	Decrypt []string
}

// Passed is what WeChat answered to a PassRequest, a refusal as well.
type Passed struct {
	Status int
	Header http.Header // what of WeChat's headers is about the body or for its support
	Body   io.ReadCloser
	// NotDecrypted are those of Decrypt with a value that the merchant's key does not
	// decrypt. It stands in Body as WeChat sent it, as all do if Body is no JSON.
	NotDecrypted []string
}

// passing is a PassRequest that was checked.
type passing struct {
	request
	secrets []secret // of the body
	decrypt *member  // of the reply; nil: nothing
}

// passedHeaders are those that a caller gets.
var passedHeaders = []string{"Content-Type", "Content-Disposition", "Request-Id", "Retry-After"}

// Pass sends any call of API v3, signed as the merchant, and returns what WeChat
// answers, as WeChat wrote it and with WeChat's status, once the signature on it
// is right. Files, which WeChat never signs, are read as they come. The Body has
// to be closed. What the call has to have encrypted or decrypted is, and nothing
// else is changed, in either direction.
//
// Nothing but a GET is sent to a second endpoint. The error is a
// *wepay.FieldError for a request that is none or about another merchant, wraps
// wepay.ErrNotAble, or is a *wepay.Error: for an unsigned answer, too.
func (c *Client) Pass(ctx context.Context, in PassRequest) (*Passed, error) {
	r, err := c.passRequest(in)
	if err != nil {
		return nil, err
	}
	x := &exchange{client: c, op: Pass, merchant: c.merchant, call: call{method: r.method, Row: row.Row{Unknown: wepay.Query}}}
	if r.repeatable {
		x.call.Unknown = wepay.Again
	}
	if err := x.encryptSecrets(ctx, &r, in.Serial != ""); err != nil {
		return nil, err
	}
	file := r.repeatable && isFile(r.uri)
	if file {
		r.timeout = wepay.BillTimeout
	}
	var passed *Passed
	answer, err := c.sendAndRead(ctx, r.request, func(resp *http.Response) (*reply, error) {
		if file && resp.StatusCode == http.StatusOK {
			passed = &Passed{Status: resp.StatusCode, Header: passedHeader(resp.Header), Body: resp.Body}
			return nil, nil
		}
		answer, err := readWhole(resp)
		if err != nil {
			return nil, err
		}
		if _, refused := answer.refusal(); !refused && !answer.succeeded() && !IsSigned(answer.header) {
			return nil, answer.unreadable()
		}
		return answer, c.verify(ctx, answer)
	})
	switch {
	case err != nil:
		return nil, x.call.Unanswered(x.failure(), err)
	case passed != nil:
		return passed, nil
	case answer.unsigned:
		told, _ := answer.refusal()
		return nil, x.refused(x.failure(), answer, told)
	default:
		body, not := c.decryptMembers(answer.body, r.decrypt, in.Decrypt)
		return &Passed{answer.status, passedHeader(answer.header), io.NopCloser(bytes.NewReader(body)), not}, nil
	}
}

func passedHeader(header http.Header) http.Header {
	passed := make(http.Header)
	for _, name := range passedHeaders {
		if values := header.Values(name); len(values) > 0 {
			passed[http.CanonicalHeaderKey(name)] = values
		}
	}
	return passed
}

// passRequest checks what a caller gives.
func (c *Client) passRequest(in PassRequest) (r passing, err error) {
	path, query, hasQuery := strings.Cut(in.Path, "?")
	switch {
	case !slices.Contains([]string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}, in.Method):
		return r, &wepay.FieldError{Field: "method", Reason: "must be GET, POST, PUT, PATCH or DELETE"}
	case in.Method == http.MethodGet && len(in.Body) > 0:
		return r, &wepay.FieldError{Field: "request", Reason: "has a body, which does not go with GET"}
	case !c.merchant.Passthrough:
		return r, c.merchant.NotAble("passthrough")
	}
	if err := c.merchant.RequireV3(); err != nil {
		return r, err
	}
	if err := checkPath(path); err != nil {
		return r, &wepay.FieldError{Field: "path", Reason: err.Error()}
	}
	if err := c.checkQuery(query, hasQuery); err != nil {
		return r, err
	}
	if r.decrypt, err = membersToDecrypt(in); err != nil {
		return r, err
	}
	r.request = request{method: in.Method, uri: in.Path, serial: c.keyRing.Serial(), repeatable: in.Method == http.MethodGet}
	if in.Serial != "" {
		if r.serial, err = keyName(in.Serial); err != nil {
			return r, err
		}
	}
	if len(in.Body) > 0 {
		r.body, r.contentType = in.Body, in.ContentType
		if IsUpload(in.ContentType) {
			r.timeout = wepay.BillTimeout // a video takes its time to get there
		}
		r.signed, r.secrets, err = c.checkBody(in)
	}
	return r, err
}

// keyName takes the names that WeChat's keys have.
func keyName(serial string) (string, error) {
	if number, isPublic := strings.CutPrefix(serial, wepay.PublicKeyPrefix); isPublic && number != "" && wepay.Digits(number) == nil {
		return serial, nil
	}
	name, err := wepay.ParseSerial(serial)
	if err != nil {
		return "", &wepay.FieldError{Field: headerSerial, Reason: "must name a certificate or a public key of WeChat Pay's"}
	}
	return name, nil
}

// inSegment are the characters, besides letters and digits, that may stand in a
// part of a path; | has to be escaped. There is no ; among them, behind which some
// servers read parameters of their own: /..;/ is /../ to those.
const inSegment = "-_~.*@|+=:,"

// checkPath takes WeChat's paths and nothing that anything on the way could read
// as another path: no empty part, none that begins with a dot, no escaped dot, and
// no escape of what could not stand there as a letter, a digit or one of inSegment.
// One slash may end it, as WeChat has it: /v3/applyment4sub/applyment/.
func checkPath(path string) error {
	rest, found := strings.CutPrefix(path, "/v3/")
	if !found {
		return errors.New("must be one of WeChat Pay's paths, which begin with /v3/")
	}
	for segment := range strings.SplitSeq(strings.TrimSuffix(rest, "/"), "/") {
		text, err := url.PathUnescape(segment)
		switch {
		case segment == "" || segment[0] == '.':
			return errors.New("must have no empty part but behind a slash at its end, and none that begins with a dot")
		case err != nil:
			return errors.New("has a % that begins no escape")
		case strings.ContainsFunc(segment, notRaw) || strings.ContainsFunc(text, notInPath) || strings.Count(segment, ".") < strings.Count(text, "."):
			return errors.New("may hold letters, digits and " + inSegment + " only, with no . escaped, and | and what is not ASCII escaped")
		}
	}
	return nil
}

// notRaw says whether a character has to be escaped.
func notRaw(c rune) bool { return c > '~' || c == '|' }

// notInPath says whether a character may stand in no part of a path. What is not
// ASCII may where it is a letter or a digit: of other characters some are read as
// a dot or a slash once they are normalized.
func notInPath(c rune) bool {
	return c <= '~' && wepay.Alphanumeric(string(c)) != nil && !strings.ContainsRune(inSegment, c) ||
		c > '~' && !unicode.IsLetter(c) && !unicode.IsMark(c) && !unicode.IsDigit(c)
}

// checkASCII takes what can stand in a request's query as it is.
func checkASCII(query string) error {
	for _, c := range []byte(query) {
		if c <= ' ' || c > '~' || c == '#' {
			return errors.New("may hold printable ASCII only, and no space or #")
		}
	}
	return nil
}

func (c *Client) checkQuery(query string, there bool) error {
	if !there {
		return nil
	}
	err := checkASCII(query)
	if err == nil && query == "" {
		err = errors.New("must not be empty")
	}
	if err != nil {
		return &wepay.FieldError{Field: "query", Reason: err.Error()}
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return &wepay.FieldError{Field: "query", Reason: "must be name=value, joined by &"}
	}
	for name, all := range values {
		if slices.Contains(whose, name) && len(all) > 1 {
			return &wepay.FieldError{Field: name, Reason: "stands there twice"}
		}
		for _, value := range append(all, name) {
			if !utf8.ValidString(value) {
				return &wepay.FieldError{Field: "query", Reason: "is not valid UTF-8"}
			}
		}
		for _, value := range all {
			if err := c.checkOwn(name, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkBody says what is signed of a body, nil for all of it, and what of it is to
// be encrypted. Of an upload nothing is: its meta is a file's name and hash.
func (c *Client) checkBody(in PassRequest) (signed []byte, secrets []secret, err error) {
	kind, boundary, err := bodyKind(in.ContentType)
	switch {
	case err == nil && kind == "application/json":
		secrets, err = c.checkMembers(in.Body)
		return nil, secrets, err
	case err == nil && kind == uploadKind:
		if signed, err = metaOf(in.Body, boundary); err != nil {
			return nil, nil, err
		}
		if secrets, err = c.checkMembers(signed); err == nil && len(secrets) > 0 {
			err = wrongAt(signed, secrets[0].begin, "does not go with uploads, in which WeChat Pay takes nothing encrypted")
		}
		return signed, nil, err
	default:
		return nil, nil, &wepay.FieldError{Field: "Content-Type", Reason: "must be application/json or multipart/form-data"}
	}
}

const uploadKind = "multipart/form-data"

// IsUpload says whether a body of a Content-Type is an upload, which may be larger
// than others.
func IsUpload(contentType string) bool {
	kind, _, err := bodyKind(contentType)
	return err == nil && kind == uploadKind
}

func bodyKind(contentType string) (kind, boundary string, err error) {
	if contentType == "" {
		return "application/json", "", nil
	}
	kind, parameters, err := mime.ParseMediaType(contentType)
	return kind, parameters["boundary"], err
}

// metaOf returns the part of an upload that is signed for all of it, which names
// the file's hash. There has to be one: which of two counts is not for us to
// guess.
// Source: WeChat Pay, 图片上传 and 视频上传.
func metaOf(body []byte, boundary string) (meta []byte, err error) {
	malformed := &wepay.FieldError{Field: "request", Reason: "must be a whole upload, with one part meta that is not empty"}
	parts := multipart.NewReader(bytes.NewReader(body), boundary)
	for {
		part, err := parts.NextRawPart()
		switch {
		case err == io.EOF && len(meta) > 0: // one that wraps it is of an upload that breaks off
			return meta, nil
		case err != nil:
			return nil, malformed
		case part.FormName() != "meta":
			continue
		}
		text, err := io.ReadAll(part)
		if err != nil || meta != nil || len(text) == 0 {
			return nil, malformed
		}
		meta = text
	}
}

package apiv3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

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
	Body   []byte // nil: none
}

// Passed is what WeChat answered to a PassRequest, a refusal as well.
type Passed struct {
	Status int
	Header http.Header // what of WeChat's headers is about the body or for its support
	Body   io.ReadCloser
}

// passedHeaders are those that a caller gets.
var passedHeaders = []string{"Content-Type", "Content-Disposition", "Request-Id", "Retry-After"}

// Pass sends any call of API v3, signed as the merchant, and returns what WeChat
// answers, as WeChat wrote it and with WeChat's status, once the signature on it
// is right. Files, which WeChat never signs, are read as they come. The Body has
// to be closed.
//
// Nothing but a GET is sent to a second endpoint. The error is a
// *wepay.FieldError for a request that is none or about another merchant, wraps
// wepay.ErrNotAble, or is a *wepay.Error: for an unsigned answer, too.
func (c *Client) Pass(ctx context.Context, in PassRequest) (*Passed, error) {
	r, err := c.passRequest(in)
	if err != nil {
		return nil, err
	}
	x := &exchange{client: c, op: Pass, merchant: c.merchant, call: call{Row: row.Row{Unknown: wepay.Query}}}
	if r.repeatable {
		x.call.Unknown = wepay.Again
	}
	file := r.repeatable && isFile(r.uri)
	if file {
		r.timeout = wepay.BillTimeout
	}
	var passed *Passed
	answer, err := c.sendAndRead(ctx, r, func(resp *http.Response) (*reply, error) {
		if file && resp.StatusCode == http.StatusOK {
			passed = &Passed{resp.StatusCode, passedHeader(resp.Header), resp.Body}
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
		return &Passed{answer.status, passedHeader(answer.header), io.NopCloser(bytes.NewReader(answer.body))}, nil
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
func (c *Client) passRequest(in PassRequest) (r request, err error) {
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
	r = request{method: in.Method, uri: in.Path, serial: c.keyRing.Serial(), repeatable: in.Method == http.MethodGet}
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
		r.signed, err = c.checkBody(in)
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
func checkPath(path string) error {
	rest, found := strings.CutPrefix(path, "/v3/")
	if !found {
		return errors.New("must be one of WeChat Pay's paths, which begin with /v3/")
	}
	for segment := range strings.SplitSeq(rest, "/") {
		text, err := url.PathUnescape(segment)
		switch {
		case segment == "" || segment[0] == '.':
			return errors.New("must have no empty part, and none that begins with a dot")
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

// checkBody says what is signed of a body, nil for all of it.
func (c *Client) checkBody(in PassRequest) (signed []byte, err error) {
	kind, boundary, err := bodyKind(in.ContentType)
	switch {
	case err == nil && kind == "application/json":
		return nil, c.checkMembers(in.Body)
	case err == nil && kind == uploadKind:
		if signed, err = metaOf(in.Body, boundary); err != nil {
			return nil, err
		}
		return signed, c.checkMembers(signed)
	default:
		return nil, &wepay.FieldError{Field: "Content-Type", Reason: "must be application/json or multipart/form-data"}
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

// checkMembers checks the members of a body that say who asks, and for whom. What
// names something twice, however deep, is none: which of the two counts is not
// for us to guess.
func (c *Client) checkMembers(body []byte) error {
	dec := jsontext.NewDecoder(bytes.NewReader(body))
	if dec.PeekKind() != '{' {
		return malformed(nil)
	}
	for open := true; open; open = dec.StackDepth() > 0 {
		token, err := dec.ReadToken()
		if err != nil {
			return malformed(err)
		}
		if in, read := dec.StackIndex(dec.StackDepth()); in != '{' || read%2 == 0 {
			continue // it is no name
		}
		name := token.String()
		if dec.StackDepth() > 1 && name != "sub_mchid" || !slices.Contains(whose, name) {
			continue
		}
		value, err := dec.ReadValue()
		if err != nil {
			return malformed(err)
		}
		text := string(value) // of a number, as it is written
		if value.Kind() == '"' {
			text = unquote(text)
		}
		if err := c.checkOwn(name, text); err != nil {
			return err
		}
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return malformed(nil)
	}
	return nil
}

// malformed says which member of a body it is that is wrong, where that is known.
func malformed(err error) error {
	reason := "must be one JSON object in UTF-8 that names nothing twice"
	var at *jsontext.SyntacticError
	if errors.As(err, &at) && at.JSONPointer != "" && len(at.JSONPointer) < 200 {
		reason += ": look at " + string(at.JSONPointer)
	}
	return &wepay.FieldError{Field: "request", Reason: reason}
}

// whose are the names of who asks, and for whom.
var whose = []string{"mchid", "sp_mchid", "combine_mchid", "sub_mchid"}

// checkOwn refuses what names another merchant, or a sub-merchant that the
// merchant may not act for: whoever may ask in one merchant's name asks in no
// other's. WeChat does not let one in any case, since the signature is the
// merchant's own; of a partner's sub-merchants the configuration may allow fewer
// than WeChat does. Within the body another mchid is no one who asks: the orders
// of a combined one are other merchants'. Of an unknown path no part is known to name
// a sub-merchant, so that passthrough does not hold a partner to some of its own
// there.
func (c *Client) checkOwn(name, value string) error {
	switch name {
	case "mchid", "sp_mchid", "combine_mchid":
		if value != c.merchant.MchID {
			return &wepay.FieldError{Field: name, Reason: "is not the merchant's"}
		}
	case "sub_mchid":
		if _, _, err := c.merchant.ActFor(wepay.Fields{{Name: "sub_mch_id", Value: value}}, true); err != nil {
			var field *wepay.FieldError
			if errors.As(err, &field) {
				field.Field = name
			}
			return fmt.Errorf("passing on: %w", err)
		}
	}
	return nil
}

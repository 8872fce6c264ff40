package apiv3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/endpoints"
)

// exchange is one call on its way to WeChat and back.
type exchange struct {
	client   *Client
	op       wepay.Operation
	call     call
	merchant *wepay.Merchant // as it acts for a sub-merchant
	in       wepay.Fields    // what the caller gave
}

// ask sends the request and returns the reply once it is believed and says that
// WeChat did what was asked.
func (x *exchange) ask(ctx context.Context) (*reply, error) {
	r, err := x.request(ctx)
	if err != nil {
		return nil, err
	}
	failed := x.failure()
	var answer *reply
	err = x.client.send(ctx, r, func(resp *http.Response) error {
		answer, err = x.client.read(ctx, resp, maxReply)
		return err
	})
	if err != nil {
		return nil, x.unanswered(failed, err)
	}
	if told, refused := answer.refusal(); refused {
		return nil, x.refused(failed, answer, told)
	}
	return answer, nil
}

func (x *exchange) failure() *wepay.Error {
	return &wepay.Error{Merchant: x.merchant.Name, Operation: x.op, Ask: x.call.ask}
}

// request makes what is sent of what the caller gave.
func (x *exchange) request(ctx context.Context) (request, error) {
	r := request{method: x.call.method, repeatable: x.call.repeatable, timeout: x.call.timeout, serial: x.client.platform.Serial()}
	var err error
	if r.uri, err = x.uri(); err != nil || x.call.body == nil {
		return r, err
	}
	body, err := x.call.body(x)
	if err != nil {
		return r, err
	}
	if len(x.call.encrypted) > 0 && body.has(x.call.encrypted) {
		if r.serial, err = x.encrypt(ctx, body); err != nil {
			return r, err
		}
	}
	r.body, err = encode(body)
	return r, err
}

var place = regexp.MustCompile(`\{[a-z_]+\}`)

// uri is path and query, as they are sent and signed.
func (x *exchange) uri() (string, error) {
	path := x.call.pathOf(x.merchant)
	if x.call.route != nil {
		path = x.call.route(x)
	}
	uri := place.ReplaceAllStringFunc(path, func(name string) string {
		return url.PathEscape(x.in.Get(name[1 : len(name)-1]))
	})
	if x.call.query == nil {
		return uri, nil
	}
	query, err := x.call.query(x)
	if err != nil || len(query) == 0 {
		return uri, err
	}
	return uri + "?" + query.encode(), nil
}

// encrypt has what only WeChat may read encrypted, and says with which key.
func (x *exchange) encrypt(ctx context.Context, body object) (serial string, err error) {
	serial, key, err := x.client.platform.encryption(ctx)
	if err != nil {
		return "", x.unanswered(x.failure(), fmt.Errorf("%w: %w", err, endpoints.ErrNotSent))
	}
	for _, path := range x.call.encrypted {
		if err := body.replace(path, func(plain string) (string, error) { return encrypt(key, plain) }); err != nil {
			return "", &wepay.FieldError{Field: path, Reason: err.Error()}
		}
	}
	return serial, nil
}

// read takes an answer for a reply once WeChat's signature on it is right, and
// otherwise only for a refusal that changes nothing.
func (c *Client) read(ctx context.Context, resp *http.Response, limit int) (*reply, error) {
	answer, err := readReply(resp, limit)
	if err != nil {
		return nil, err
	}
	s, err := readSignature(answer.header)
	if errors.Is(err, wepay.ErrUnsigned) && !IsSigned(answer.header) {
		if answer.succeeded() {
			return nil, fmt.Errorf("the reply has %w", wepay.ErrUnsigned)
		}
		answer.unsigned = true
		return answer, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the reply: %w", err)
	}
	key, err := c.platform.key(ctx, s.serial, askForReply)
	if err != nil {
		return nil, fmt.Errorf("the reply: %w", err)
	}
	if err := s.verify(key, answer.body, c.now()); err != nil {
		return nil, fmt.Errorf("the reply has: %w", err)
	}
	return answer, nil
}

// unanswered fills in why there is no answer to believe, and what that leaves
// open: nothing, where nothing was sent.
func (x *exchange) unanswered(failed *wepay.Error, err error) error {
	failed.Err, failed.Verdict = err, x.call.unknown
	if errors.Is(err, endpoints.ErrNotSent) {
		failed.Verdict = wepay.Again
	}
	return failed
}

// refused fills in what WeChat said. What it did not sign stops the call and
// proves nothing: that an order does not exist, say, or that it is closed.
func (x *exchange) refused(failed *wepay.Error, answer *reply, told refusal) error {
	verdict := x.call.verdict(answer.status, told.Code)
	if answer.unsigned && !provesItself(answer.status) {
		failed.Err = fmt.Errorf("%w: an unsigned refusal, HTTP status %d: %s %s", wepay.ErrNoAnswer, answer.status, told.Code, told.Message)
		failed.Verdict = x.call.unknown
		return failed
	}
	failed.Code, failed.V3Code, failed.Message, failed.Verdict = codeInV2(x.op, told.Code), told.Code, told.message(), verdict
	return failed
}

// provesItself says whether a refusal needs no signature: what WeChat does not
// know the sender of, or has too much of, it did not do.
func provesItself(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusTooManyRequests
}

// message is WeChat's text, with the field that it is about.
func (r refusal) message() string {
	if r.Detail.Field == "" && r.Detail.Issue == "" {
		return r.Message
	}
	return fmt.Sprintf("%s (%s)", r.Message, cmp.Or(r.Detail.Field, "-")+" "+r.Detail.Issue)
}

// translate returns a believed reply under API v2's names.
func (x *exchange) translate(answer *reply) (wepay.Fields, error) {
	fields, err := x.result(answer)
	if err != nil {
		return nil, x.unanswered(x.failure(), fmt.Errorf("%w: %w", wepay.ErrNoAnswer, err))
	}
	return fields, nil
}

func (x *exchange) result(answer *reply) (wepay.Fields, error) {
	body := object{}
	if len(answer.body) > 0 {
		if err := decode(answer.body, &body); err != nil {
			return nil, fmt.Errorf("%w: the reply is no JSON object", wepay.ErrMalformed)
		}
	}
	fields, err := x.call.result(x, body)
	if err != nil {
		return nil, err
	}
	for _, name := range x.call.answers {
		if fields.Get(name) == "" {
			return nil, fmt.Errorf("the reply lacks %s", name)
		}
	}
	return fields, x.checkEchoes(fields)
}

// checkEchoes refuses a reply about somebody or something else.
func (x *exchange) checkEchoes(fields wepay.Fields) error {
	for name, ours := range map[string]string{"mch_id": x.merchant.MchID, "sub_mch_id": x.merchant.SubMchID} {
		if theirs := fields.Get(name); theirs != "" && ours != "" && theirs != ours {
			return fmt.Errorf("%w: the reply has another %s", wepay.ErrForeign, name)
		}
	}
	for _, name := range x.call.echoes {
		ours, theirs := x.in.Get(name), fields.Get(name)
		if ours != "" && theirs != "" && ours != theirs && !(name == "out_trade_no" && x.in.Get("transaction_id") != "") {
			return fmt.Errorf("%w: the reply has another %s", wepay.ErrForeign, name)
		}
	}
	return nil
}

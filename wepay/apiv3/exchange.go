package apiv3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/endpoints"
)

// exchange is one call: request and reply.
type exchange struct {
	client   *Client
	op       wepay.Operation
	call     call
	merchant *wepay.Merchant // as it acts for a sub-merchant
	in       wepay.Fields    // the caller's, completed with the merchant's
	omitted  []string        // fields left out of the result, and why
	open     []error         // of attempts that may have been processed
}

// ask sends the request, and returns the verified reply if it reports success.
func (x *exchange) ask(ctx context.Context) (*reply, error) {
	r, err := x.request(ctx)
	if err != nil {
		return nil, err
	}
	if err := x.call.Announce(ctx, x.client.options.Sending, x.merchant, x.op, x.in.Clone); err != nil {
		return nil, err
	}
	r.open = func(err error) { x.open = append(x.open, x.client.quoter.QuoteError(err)) }
	answer, err := x.client.sendAndRead(ctx, r, func(resp *http.Response) (*reply, error) { return x.client.read(ctx, resp) })
	if err != nil {
		return nil, x.unanswered(err)
	}
	if told, refused := answer.refusal(); refused {
		return nil, x.refused(x.failure(), answer, told)
	}
	return answer, nil
}

// sendAndRead returns the reply that read accepts: a verified one, or an unsigned
// refusal. A query that one endpoint is too busy for goes to the next.
func (c *Client) sendAndRead(ctx context.Context, r request, read func(*http.Response) (*reply, error)) (*reply, error) {
	var answer, busy *reply
	err := c.send(ctx, r, func(resp *http.Response) (err error) {
		answer, err = read(resp)
		if err == nil && answer != nil && answer.isBusy() && r.method == http.MethodGet {
			busy = answer
			return fmt.Errorf("HTTP status %d", answer.status)
		}
		return err
	})
	if err != nil && busy != nil {
		return busy, nil // the others were no better
	}
	return answer, err
}

func (x *exchange) failure() *wepay.Error { return x.call.Failure(x.client.merchant, x.op) }

// request makes the request.
func (x *exchange) request(ctx context.Context) (request, error) {
	r := request{method: x.call.method, uri: x.path(), repeatable: x.call.Repeatable, serial: x.client.keyRing.Serial()}
	if x.call.method == http.MethodGet {
		query, err := x.query()
		if query != "" {
			r.uri += "?" + query
		}
		return r, err
	}
	body := object{}
	err := x.call.in.write(x.in, func(v3 string, value any) { body.put(x.expand(v3), value) })
	if err == nil && x.call.body != nil {
		err = x.call.body(x, body)
	}
	if err != nil || len(body) == 0 {
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

// path returns the request's path, as it is sent and signed.
func (x *exchange) path() string {
	for _, name := range place.FindAllStringSubmatch(x.call.preferred, -1) {
		if x.in.Get(name[1]) == "" {
			return x.expand(x.call.path)
		}
	}
	return x.expand(cmp.Or(x.call.preferred, x.call.path))
}

// query returns the query of a GET.
func (x *exchange) query() (string, error) {
	var query []string
	err := x.call.in.write(x.in, func(v3 string, value any) {
		query = append(query, url.QueryEscape(x.expand(v3))+"="+url.QueryEscape(fmt.Sprint(value)))
	})
	return strings.Join(query, "&"), err
}

var (
	place = regexp.MustCompile(`\{([a-z_]+)\}`)
	forA  = regexp.MustCompile(`\[([a-z_/]+)\]`)
)

// expand fills in the template of a path or of a member's name; see call.
func (x *exchange) expand(template string) string {
	part := ""
	if x.merchant.SubMchID != "" {
		part = "$1"
	}
	return place.ReplaceAllStringFunc(forA.ReplaceAllString(template, part), func(name string) string {
		value := x.in.Get(name[1 : len(name)-1])
		if name == "{trade_type}" {
			value = products[value]
		}
		return url.PathEscape(value)
	})
}

// encrypt encrypts what only WeChat may read, and returns the key's serial number.
func (x *exchange) encrypt(ctx context.Context, body object) (serial string, err error) {
	serial, key, err := x.client.keyRing.encryption(ctx)
	if err != nil {
		return "", x.noKey(err)
	}
	for _, path := range x.call.encrypted {
		if err := body.replace(path, func(plain string) (string, error) { return encrypt(key, plain) }); err != nil {
			return "", &wepay.FieldError{Field: path, Reason: err.Error()}
		}
	}
	return serial, nil
}

// noKey is the error of a call that could not be encrypted: nothing was sent.
func (x *exchange) noKey(err error) error {
	return x.unanswered(fmt.Errorf("%w: %w", err, endpoints.ErrNotSent))
}

// unanswered is the error of a call without a valid answer. A test has told what it is
// for where the keys are why.
func (x *exchange) unanswered(err error) error {
	failed := x.failure()
	_ = x.call.Unanswered(failed, err)
	if x.call.tests && slices.ContainsFunc(keyFaults, func(fault error) bool { return errors.Is(err, fault) }) {
		failed.Verdict = wepay.Fix
	}
	return failed
}

// keyFaults are the errors of what is verified, opened or signed with another key than
// WeChat has, which the same call meets again.
var keyFaults = []error{
	wepay.ErrAPIv3Key, wepay.ErrForeign, wepay.ErrMalformed, wepay.ErrNotAble, wepay.ErrSignature, wepay.ErrStale, wepay.ErrUnknownKey, wepay.ErrUnsigned,
	errEcho, errRefused,
}

// read accepts an answer with WeChat's signature, or an unsigned refusal.
func (c *Client) read(ctx context.Context, resp *http.Response) (*reply, error) {
	answer, err := readReply(resp)
	if err != nil {
		return nil, err
	}
	return answer, c.verify(ctx, answer)
}

// verify checks WeChat's signature, which a refusal may lack.
func (c *Client) verify(ctx context.Context, answer *reply) error {
	_, refused := answer.refusal()
	if refused && !IsSigned(answer.header) {
		answer.unsigned = true
		return nil
	}
	s, err := readSignature(answer.header)
	if err != nil {
		return fmt.Errorf("the reply: %w", err)
	}
	key, err := c.keyRing.key(ctx, s.serial, askForReply)
	if err != nil {
		return fmt.Errorf("the reply: %w", err)
	}
	err = s.verify(key, answer.body, c.options.Now())
	switch {
	case err == nil:
		return nil
	case errors.Is(err, wepay.ErrSignature) && s.serial == c.merchant.PublicKeyID:
		return fmt.Errorf("the reply: %w (is the file of public_key the one of %s?)", err, s.serial)
	default:
		return fmt.Errorf("the reply: %w", err)
	}
}

// refused fills in WeChat's reason. An unsigned refusal ends the call and proves
// nothing, such as that an order does not exist; that a query is wrong may be true, and
// to hold it for true moves nothing.
func (x *exchange) refused(failed *wepay.Error, answer *reply, told refusal) error {
	quote := x.client.quoter.Quote
	failed.Code, failed.V3Code, failed.Message = quote(codeInV2(x.op, told.code)), quote(told.code), quote(told.text())
	failed.Unsigned = answer.unsigned
	if answer.unsigned && !provesItself(answer.status) {
		failed.Err = fmt.Errorf("%w: an unsigned refusal, HTTP status %d", wepay.ErrNoAnswer, answer.status)
		failed.Verdict = x.call.Unknown
		wrong := x.call.method == http.MethodGet && answer.status != http.StatusNotFound && x.call.verdict(answer.status, told.code) == wepay.Fix
		if answer.status < http.StatusInternalServerError && (x.call.tests || wrong) {
			failed.Verdict = wepay.Fix
		}
		return failed
	}
	failed.Verdict = x.call.verdict(answer.status, told.code)
	if answer.status == http.StatusUnauthorized {
		failed.Err = x.client.skew(answer)
	}
	endpoints.Doubt(failed, x.call.Unknown, x.open)
	return failed
}

// skew returns an error if this machine's clock differs from WeChat's by so much
// that WeChat rejects its signatures, which WeChat only reports as wrong.
func (c *Client) skew(answer *reply) error {
	theirs, err := http.ParseTime(answer.header.Get("Date"))
	if err != nil {
		return nil
	}
	if ahead := c.options.Now().Sub(theirs).Round(time.Second); ahead.Abs() >= window {
		return fmt.Errorf("%w: this machine's clock is %s from WeChat Pay's (is NTP running?)", wepay.ErrStale, ahead)
	}
	return nil
}

// provesItself reports whether a refusal needs no signature: WeChat did nothing if
// it did not authenticate the sender, or if there were too many requests.
func provesItself(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusTooManyRequests
}

// translate returns a verified reply under API v2's names.
func (x *exchange) translate(answer *reply) (wepay.Fields, error) {
	fields, err := x.accept(answer)
	if err != nil {
		return nil, err
	}
	if report := x.client.options.Omitted; report != nil && len(x.omitted) > 0 {
		report(wepay.Omission{
			Merchant: x.merchant, Operation: x.op, Omitted: strings.Join(x.omitted, "; "),
			Number: cmp.Or(fields.Get("out_trade_no"), fields.Get("combine_out_trade_no"), fields.Get("partner_trade_no"), fields.Get("out_batch_no")),
		})
	}
	return fields, nil
}

// accept returns the fields of a reply if it is complete and about this call.
func (x *exchange) accept(answer *reply) (wepay.Fields, error) {
	fields, err := x.result(answer)
	if err != nil {
		return nil, x.unanswered(fmt.Errorf("%w: %w", wepay.ErrNoAnswer, err))
	}
	return fields, nil
}

// omit records fields that are left out; "": none.
func (x *exchange) omit(omitted string) {
	if omitted != "" {
		x.omitted = append(x.omitted, omitted)
	}
}

func (x *exchange) result(answer *reply) (wepay.Fields, error) {
	if answer.status == http.StatusAccepted && len(x.call.Answers) == 0 { // begun, but no number identifies it
		return nil, fmt.Errorf("HTTP status %d: accepted, but not done", answer.status)
	}
	body := object{}
	if len(answer.body) > 0 {
		if err := decode(answer.body, &body); err != nil {
			return nil, fmt.Errorf("%w: the reply is no JSON object", wepay.ErrMalformed)
		}
	}
	x.decrypt(body)
	fields := x.done()
	if err := x.call.out.read(body, &fields); err != nil {
		return nil, err
	}
	if x.call.result != nil {
		if err := x.call.result(x, body, &fields); err != nil {
			return nil, err
		}
	}
	if err := x.call.CheckAnswers(fields); err != nil {
		return nil, err
	}
	return fields, x.call.CheckEchoes(x.in, fields, "mch_id", "sub_mch_id")
}

// done returns the fields of every successful reply of API v2.
func (x *exchange) done() wepay.Fields {
	fields := wepay.NewFields(map[string]string{"return_code": "SUCCESS", "result_code": "SUCCESS"})
	addIDs(x.merchant, &fields)
	return fields
}

// decrypt decrypts what only the merchant may read. What was encrypted for an older
// certificate's key is left out: the rest of the reply is worth more.
func (x *exchange) decrypt(body object) {
	_, key := x.merchant.SigningKey()
	for _, path := range x.call.decrypted {
		_ = body.replace(path, func(sealed string) (string, error) { // which fails only where this does
			plain, err := decrypt(key, sealed)
			if err != nil {
				x.omit(path + ", as it is encrypted for another key than private_key's")
				return "", nil
			}
			return plain, nil
		})
	}
}

package apiv3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

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
	omitted  []string        // what is left out of the result, and why
	open     []error         // why attempts failed that may have been taken
}

// ask sends the request and returns the reply once it is believed and says that
// WeChat did what was asked.
func (x *exchange) ask(ctx context.Context) (*reply, error) {
	r, err := x.request(ctx)
	if err != nil {
		return nil, err
	}
	r.open = func(err error) { x.open = append(x.open, x.client.quoter.QuoteError(err)) }
	answer, err := x.client.sendAndRead(ctx, r, func(resp *http.Response) (*reply, error) { return x.client.read(ctx, resp) })
	if err != nil {
		return nil, x.unanswered(x.failure(), err)
	}
	if told, refused := answer.refusal(); refused {
		return nil, x.refused(x.failure(), answer, told)
	}
	return answer, nil
}

// sendAndRead returns the reply to a request, as it is read once it is believed,
// or is a refusal that nobody signed. A question that one endpoint is too busy for
// goes to the next.
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
		return busy, nil // no other endpoint did better
	}
	return answer, err
}

func (x *exchange) failure() *wepay.Error {
	return &wepay.Error{Merchant: x.merchant.Name, Operation: x.op, Ask: x.call.ask}
}

// request makes what is sent of what the caller gave.
func (x *exchange) request(ctx context.Context) (request, error) {
	r := request{method: x.call.method, repeatable: x.call.repeatable, serial: x.client.platform.Serial()}
	var err error
	if r.uri, err = x.uri(); err != nil || x.call.body == nil {
		return r, err
	}
	body, err := x.call.body(x)
	if err != nil || body == nil {
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
	if encoded := query.encode(); encoded != "" {
		uri += "?" + encoded
	}
	return uri, err
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
func (c *Client) read(ctx context.Context, resp *http.Response) (*reply, error) {
	answer, err := readReply(resp)
	if err != nil {
		return nil, err
	}
	return answer, c.believe(ctx, answer)
}

// believe checks WeChat's signature, which a refusal may lack, and nothing else.
func (c *Client) believe(ctx context.Context, answer *reply) error {
	_, refused := answer.refusal()
	if refused && !IsSigned(answer.header) {
		answer.unsigned = true
		return nil
	}
	s, err := readSignature(answer.header)
	if err != nil {
		return fmt.Errorf("the reply: %w", err)
	}
	key, err := c.platform.key(ctx, s.serial, askForReply)
	if err != nil {
		return fmt.Errorf("the reply: %w", err)
	}
	if err := s.verify(key, answer.body, c.now()); err != nil {
		return fmt.Errorf("the reply: %w", err)
	}
	return nil
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
	verdict, quote := x.call.verdict(answer.status, told.Code), x.client.quoter.Quote
	if answer.unsigned && !provesItself(answer.status) {
		failed.Err = fmt.Errorf("%w: an unsigned refusal, HTTP status %d: %s %s", wepay.ErrNoAnswer, answer.status, quote(told.Code), quote(told.Message))
		failed.Verdict = x.call.unknown
		return failed
	}
	failed.Code, failed.V3Code, failed.Message, failed.Verdict = quote(codeInV2(x.op, told.Code)), quote(told.Code), quote(told.message()), verdict
	if answer.status == http.StatusUnauthorized {
		failed.Err = x.client.skew(answer)
	}
	endpoints.Doubt(failed, x.call.unknown, x.open)
	return failed
}

// skew says by how much this machine's clock is away from WeChat's where that is
// enough for WeChat to refuse what is signed here, which it says no more of than
// that the signature is wrong.
func (c *Client) skew(answer *reply) error {
	theirs, err := http.ParseTime(answer.header.Get("Date"))
	if err != nil {
		return nil
	}
	if ahead := c.now().Sub(theirs).Round(time.Second); ahead.Abs() >= window {
		return fmt.Errorf("%w: this machine's clock is %s from WeChat Pay's (is NTP running?)", wepay.ErrStale, ahead)
	}
	return nil
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
	fields, err := x.believed(answer)
	if err != nil {
		return nil, err
	}
	if report := x.client.omission; report != nil && len(x.omitted) > 0 {
		report(Omission{
			Merchant: x.merchant, Operation: x.op, Omitted: strings.Join(x.omitted, "; "),
			Number: cmp.Or(fields.Get("out_trade_no"), fields.Get("combine_out_trade_no"), fields.Get("partner_trade_no"), fields.Get("out_batch_no")),
		})
	}
	return fields, nil
}

// believed returns what a reply says, unless that is nothing to be believed.
func (x *exchange) believed(answer *reply) (wepay.Fields, error) {
	fields, err := x.result(answer)
	if err != nil {
		return nil, x.unanswered(x.failure(), fmt.Errorf("%w: %w", wepay.ErrNoAnswer, err))
	}
	return fields, nil
}

// omit notes what is left out; "": nothing.
func (x *exchange) omit(omitted string) {
	if omitted != "" {
		x.omitted = append(x.omitted, omitted)
	}
}

func (x *exchange) result(answer *reply) (wepay.Fields, error) {
	if answer.status == http.StatusAccepted && len(x.call.answers) == 0 { // no number tells what was begun
		return nil, fmt.Errorf("HTTP status %d: it is begun and not finished", answer.status)
	}
	body := object{}
	if len(answer.body) > 0 {
		if err := decode(answer.body, &body); err != nil {
			return nil, fmt.Errorf("%w: the reply is no JSON object", wepay.ErrMalformed)
		}
	}
	x.decrypt(body)
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

// decrypt has what only the merchant may read decrypted. What was encrypted for
// an older certificate's key is left out: the rest of the reply is worth more.
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

// checkEchoes refuses a reply about somebody or something else.
func (x *exchange) checkEchoes(fields wepay.Fields) error {
	for name, ours := range map[string]string{"mch_id": x.merchant.MchID, "sub_mch_id": x.merchant.SubMchID} {
		if theirs := fields.Get(name); theirs != "" && ours != "" && theirs != ours {
			return fmt.Errorf("%w: the reply has another %s", wepay.ErrForeign, name)
		}
	}
	for _, name := range x.call.echoes {
		ours, theirs := x.in.Get(name), cmp.Or(fields.Get(name), fields.Get(name+"_0"))
		if ours != "" && theirs != "" && ours != theirs && !(name == "out_trade_no" && x.in.Get("transaction_id") != "") {
			return fmt.Errorf("%w: the reply has another %s", wepay.ErrForeign, name)
		}
	}
	return nil
}

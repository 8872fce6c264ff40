package apiv3

import (
	"cmp"
	"context"
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
	in       wepay.Fields    // what the caller gave, with what follows from the merchant
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
	r.open = func(err error) { x.open = append(x.open, err) }
	answer, err := x.client.sendAndRead(ctx, r, func(resp *http.Response) (*reply, error) { return x.client.read(ctx, resp) })
	if err != nil {
		return nil, x.call.Unanswered(x.failure(), err)
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

func (x *exchange) failure() *wepay.Error { return x.call.Failure(x.client.merchant, x.op) }

// request makes what is sent of what the caller gave.
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

// path is where the request goes, as it is sent and signed.
func (x *exchange) path() string {
	for _, name := range place.FindAllStringSubmatch(x.call.preferred, -1) {
		if x.in.Get(name[1]) == "" {
			return x.expand(x.call.path)
		}
	}
	return x.expand(cmp.Or(x.call.preferred, x.call.path))
}

// query is the query of a GET.
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

// expand fills in the template of a path or of a member's name: see call.
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

// encrypt has what only WeChat may read encrypted, and says with which key.
func (x *exchange) encrypt(ctx context.Context, body object) (serial string, err error) {
	serial, key, err := x.client.keyRing.encryption(ctx)
	if err != nil {
		return "", x.call.Unanswered(x.failure(), fmt.Errorf("%w: %w", err, endpoints.ErrNotSent))
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
	key, err := c.keyRing.key(ctx, s.serial, askForReply)
	if err != nil {
		return fmt.Errorf("the reply: %w", err)
	}
	if err := s.verify(key, answer.body, c.options.Now()); err != nil {
		return fmt.Errorf("the reply: %w", err)
	}
	return nil
}

// refused fills in what WeChat said. What it did not sign stops the call and
// proves nothing: that an order does not exist, say, or that it is closed.
func (x *exchange) refused(failed *wepay.Error, answer *reply, told refusal) error {
	failed.Code, failed.V3Code, failed.Message = codeInV2(x.op, told.code), told.code, told.text()
	failed.Unsigned = answer.unsigned
	if answer.unsigned && !provesItself(answer.status) {
		failed.Err = fmt.Errorf("%w: an unsigned refusal, HTTP status %d", wepay.ErrNoAnswer, answer.status)
		failed.Verdict = x.call.Unknown
		return failed
	}
	failed.Verdict = x.call.verdict(answer.status, told.code)
	if answer.status == http.StatusUnauthorized {
		failed.Err = x.client.skew(answer)
	}
	endpoints.Doubt(failed, x.call.Unknown, x.open)
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
	if ahead := c.options.Now().Sub(theirs).Round(time.Second); ahead.Abs() >= window {
		return fmt.Errorf("%w: this machine's clock is %s from WeChat Pay's (is NTP running?)", wepay.ErrStale, ahead)
	}
	return nil
}

// provesItself says whether a refusal needs no signature: what WeChat does not
// know the sender of, or has too much of, it did not do.
func provesItself(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusTooManyRequests
}

// translate returns a believed reply under API v2's names.
func (x *exchange) translate(answer *reply) (wepay.Fields, error) {
	fields, err := x.believed(answer)
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

// believed returns what a reply says, unless that is nothing to be believed.
func (x *exchange) believed(answer *reply) (wepay.Fields, error) {
	fields, err := x.result(answer)
	if err != nil {
		return nil, x.call.Unanswered(x.failure(), fmt.Errorf("%w: %w", wepay.ErrNoAnswer, err))
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
	if answer.status == http.StatusAccepted && len(x.call.Answers) == 0 { // no number tells what was begun
		return nil, fmt.Errorf("HTTP status %d: it is begun and not finished", answer.status)
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

// done is what API v2 says of what succeeded, and for whom.
func (x *exchange) done() wepay.Fields {
	fields := wepay.NewFields(map[string]string{"return_code": "SUCCESS", "result_code": "SUCCESS"})
	addIDs(x.merchant, &fields)
	return fields
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

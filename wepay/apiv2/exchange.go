package apiv2

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/endpoints"
)

// signing is how one call is signed.
type signing struct {
	signType wepay.SignType
	key      string
}

// signing says how a call is signed. sign_type takes part in the signature when
// it is sent, and WeChat takes MD5 for granted without it.
func (c *Client) signing(ctx context.Context, op wepay.Operation, call call) (signing, error) {
	if c.merchant.Sandbox && op != wepay.SandboxKey {
		key, err := c.sandboxKey(ctx, 0)
		return signing{wepay.MD5, key}, err
	}
	return signing{cmp.Or(call.signType, c.merchant.SignType), c.merchant.PartnerKey}, nil
}

// ask signs and sends a request and returns the reply once it is believed and
// says that WeChat did what was asked.
func (c *Client) ask(ctx context.Context, op wepay.Operation, call call, s signing, request wepay.Fields) (wepay.Fields, error) {
	failed := &wepay.Error{Merchant: c.merchant.Name, Operation: op, Ask: call.ask}
	body, err := call.seal(request, s)
	if err != nil {
		return nil, err
	}
	var reply wepay.Fields
	var open []error
	err = c.send(ctx, call, body, func(err error) { open = append(open, c.quoteError(err)) }, func(resp *http.Response) (err error) {
		defer resp.Body.Close()
		reply, err = call.readReply(resp)
		return err
	})
	if err != nil {
		return nil, call.unanswered(failed, err)
	}
	refused := func() error {
		c.refusal(failed, call, reply)
		endpoints.Doubt(failed, call.unknown, open)
		return failed
	}
	if reply.Get("return_code") != "SUCCESS" {
		return nil, refused()
	}
	if err := call.believe(request, reply, s.key); err != nil {
		return nil, call.unanswered(failed, fmt.Errorf("%w: %w", wepay.ErrNoAnswer, err))
	}
	// Some unsigned replies have no second layer; those of payouts do.
	if code, found := reply.Lookup("result_code"); found && code != "SUCCESS" || !found && (call.payout || !call.unsigned) {
		return nil, refused()
	}
	for _, name := range call.answers {
		if reply.Get(name) == "" {
			return nil, call.unanswered(failed, fmt.Errorf("%w: the reply lacks %s", wepay.ErrNoAnswer, name))
		}
	}
	return reply, nil
}

// seal adds nonce and signature and writes the request's XML.
func (c call) seal(request wepay.Fields, s signing) ([]byte, error) {
	sealed := make(wepay.Fields, 0, len(request)+3)
	for _, field := range request {
		if field.Value != "" {
			sealed = append(sealed, field)
		}
	}
	sealed.Set("nonce_str", nonce())
	if s.signType != wepay.MD5 || c.saysMD5 {
		sealed.Set("sign_type", string(s.signType))
	}
	sealed.Set("sign", Sign(sealed, s.signType, s.key))
	for _, name := range c.escaped {
		if value := sealed.Get(name); value != "" {
			sealed.Set(name, url.QueryEscape(value))
		}
	}
	return Encode("xml", sealed)
}

// believe says why a reply cannot be believed: it is not signed with our key,
// or about somebody or something else. A reply without a signature passes only
// where WeChat never signs.
func (c call) believe(request, reply wepay.Fields, key string) error {
	if !c.unsigned {
		if err := Verify(reply, key); err != nil {
			return fmt.Errorf("the reply has %w", err)
		}
		if reply.Get("mch_id") == "" {
			return fmt.Errorf("%w: the reply has no mch_id", wepay.ErrForeign)
		}
	}
	for _, name := range append([]string{"mch_id", "appid", "sub_mch_id", "mchid", "mch_appid", "wxappid"}, c.echoes...) {
		if name == "out_trade_no" && request.Get("transaction_id") != "" {
			continue // WeChat goes by transaction_id alone
		}
		ours, theirs := request.Get(name), reply.Get(name)
		if ours != "" && theirs != "" && ours != theirs {
			return fmt.Errorf("%w: the reply has another %s", wepay.ErrForeign, name)
		}
	}
	return nil
}

// unanswered fills in why there is no answer to believe, and what that leaves
// open: nothing, where nothing was sent.
func (c call) unanswered(failed *wepay.Error, err error) error {
	failed.Err, failed.Verdict = err, c.unknown
	if errors.Is(err, endpoints.ErrNotSent) {
		failed.Verdict = wepay.Again
	}
	return failed
}

// refusal fills in what WeChat said. Without an err_code WeChat could not read
// the request or trust its signature, unless it says that it is the one in
// trouble.
func (c *Client) refusal(failed *wepay.Error, call call, reply wepay.Fields) {
	// The risk server and bills have names of their own for the same.
	failed.Code = cmp.Or(reply.Get("err_code"), reply.Get("error_code"))
	failed.Message = cmp.Or(reply.Get("err_code_des"), reply.Get("error_code_des"), reply.Get("return_msg"))
	// Bills have their code in the message. An unlisted code leaves the outcome
	// as open as no answer does.
	verdict, known := call.verdict(failed.Code)
	if !known {
		verdict, known = call.verdict(failed.Message)
	}
	if !known && strings.Contains(failed.Message, "系统繁忙") {
		verdict, known = call.verdict("SYSTEMERROR")
	}
	switch {
	case known:
		failed.Verdict = verdict
	// Nobody signed that refusal, and where money leaves the account it proves
	// nothing of what happened to it.
	case failed.Code != "", call.payout && call.unknown == wepay.Query:
		failed.Verdict = call.unknown
	default:
		failed.Verdict = wepay.Fix
	}
	if failed.Operation == wepay.PayBank && codeSpelling.Replace(failed.Code) == "PARAMERROR" {
		// WeChat does not say how it refuses what was encrypted with a key that it
		// has replaced; if it was that, the same call will do with the new one.
		c.bank.forget()
		if strings.Contains(failed.Message, "enc_") {
			failed.Verdict = wepay.Again
		}
	}
	refusedSandboxKey := c.merchant.Sandbox && strings.Contains(failed.Message, "验证签名失败")
	failed.Code, failed.Message = c.quote(failed.Code), c.quote(failed.Message)
	if refusedSandboxKey {
		c.sandbox.forget()
		failed.Verdict = wepay.Again
	}
}

// nonce returns 26 random letters and digits, more than 128 bits of chance.
func nonce() string { return rand.Text() }

package apiv2

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/endpoints"
	"github.com/windsome/caddy-wepay/wepay/internal/row"
)

// signing is how one call is signed.
type signing struct {
	signType wepay.SignType
	key      string
}

// signing returns how a call is signed. sign_type is signed if it is sent; without
// it WeChat assumes MD5.
func (c *Client) signing(ctx context.Context, op wepay.Operation, call call) (signing, error) {
	if c.merchant.Sandbox && op != wepay.SandboxKey {
		key, err := c.sandboxKey(ctx, 0)
		return signing{wepay.MD5, key}, err
	}
	return signing{cmp.Or(call.signType, c.merchant.SignType), c.merchant.PartnerKey}, nil
}

// ask sends a request, and returns the verified reply if it reports success, without
// its signature.
func (c *Client) ask(ctx context.Context, op wepay.Operation, call call, p prepared) (wepay.Fields, error) {
	failed := call.Failure(c.merchant, op)
	var reply wepay.Fields
	var open []error
	err := c.send(ctx, call, p.body, func(err error) { open = append(open, c.quoteError(err)) }, func(resp *http.Response) (err error) {
		defer resp.Body.Close()
		reply, err = call.readReply(resp.StatusCode, resp.Body)
		return err
	})
	if err != nil {
		return nil, call.Unanswered(failed, err)
	}
	refused := func() error {
		c.refusal(failed, call, reply)
		endpoints.Doubt(failed, call.Unknown, open)
		return failed
	}
	if reply.Get("return_code") != "SUCCESS" {
		err := refused()
		failed.Unsigned = failed.Code != "" && !call.unsigned // WeChat signs what has a code
		return nil, err
	}
	if err := call.checkReply(p.request, reply, p.key); err != nil {
		return nil, call.Unanswered(failed, fmt.Errorf("%w: %w", wepay.ErrNoAnswer, err))
	}
	// Some unsigned replies have no second layer; those of payouts do.
	if code, found := reply.Lookup("result_code"); found && code != "SUCCESS" || !found && (call.Payout || !call.unsigned) {
		return nil, refused()
	}
	if err := call.CheckAnswers(reply); err != nil {
		return nil, call.Unanswered(failed, fmt.Errorf("%w: %w", wepay.ErrNoAnswer, err))
	}
	// With its signature a reply could be sent to whoever takes notifications.
	reply.Delete("sign")
	reply.Delete("nonce_str")
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
	if !c.nonceless {
		sealed.Set("nonce_str", nonce())
	}
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

// checkReply rejects a reply that is not signed with the merchant's key, or is about
// another merchant or request. Unsigned replies pass only where WeChat never signs.
func (c call) checkReply(request, reply wepay.Fields, key string) error {
	if !c.unsigned {
		if err := Verify(reply, key); err != nil {
			return fmt.Errorf("the reply has %w", err)
		}
		if reply.Get("mch_id") == "" {
			return fmt.Errorf("%w: the reply has no mch_id", wepay.ErrForeign)
		}
	}
	return c.CheckEchoes(request, reply, "mch_id", "appid", "sub_mch_id", "mchid", "mch_appid", "wxappid")
}

// refusal fills in WeChat's reason, and what it means.
func (c *Client) refusal(failed *wepay.Error, call call, reply wepay.Fields) {
	// The risk server and bills have names of their own for the same.
	failed.Code = cmp.Or(reply.Get("err_code"), reply.Get("error_code"))
	failed.Message = cmp.Or(reply.Get("err_code_des"), reply.Get("error_code_des"), reply.Get("return_msg"))
	failed.Verdict = call.refusalVerdict(failed.Code, failed.Message)
	if call.encrypted != nil && row.Plain(failed.Code) == "PARAMERROR" {
		// WeChat does not document how it refuses fields that are encrypted with a
		// replaced key. If that was it, the same call succeeds with the new one.
		c.bank.Forget()
		if strings.Contains(failed.Message, "enc_") {
			failed.Verdict = wepay.Again
		}
	}
	refusedSandboxKey := c.merchant.Sandbox && strings.Contains(failed.Message, "验证签名失败")
	failed.Code, failed.Message = c.quote(failed.Code), c.quote(failed.Message)
	if refusedSandboxKey {
		c.sandbox.Forget()
		failed.Verdict = wepay.Again
	}
}

// nonce returns 26 random letters and digits, more than 128 bits of entropy.
func nonce() string { return rand.Text() }

package caddymodule

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
)

const (
	// maxPassBody bounds what a caller may have passed on, in bytes.
	maxPassBody = 1 << 20
	// maxUpload bounds an upload, in bytes: WeChat takes videos of 5 MB, to which
	// come the parts' heads. It has pictures of 2 MB refused itself.
	// Source: WeChat Pay, 图片上传 and 视频上传.
	maxUpload = 5<<20 + 64<<10
)

// passMethods are those that WeChat has calls of.
var passMethods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// servePass passes a call of API v3 on, and WeChat's answer back, as it comes.
func (h *Handler) servePass(w http.ResponseWriter, r *http.Request) error {
	o, passed, err := h.pass(w, r)
	defer func() { inFlight.done(o.call) }()
	if err != nil {
		return h.fail(w, r, o, err)
	}
	defer passed.Body.Close()
	h.app.metrics.operation(o.merchant, apiv3.Pass, 0)
	h.logUndelivered(r, o)
	maps.Copy(w.Header(), passed.Header)
	if len(passed.NotDecrypted) > 0 {
		h.logger.Warn("members of a reply do not decrypt with private_key, and are passed on as they came",
			o.logged(zap.Strings("members", passed.NotDecrypted))...)
		w.Header().Set("Wepay-Not-Decrypted", strings.Join(passed.NotDecrypted, ","))
	}
	w.Header().Set("Cache-Control", "no-store")
	boundReading(w)
	w.WriteHeader(passed.Status)
	if _, err := io.Copy(w, passed.Body); err != nil {
		h.logger.Log(brokenLevel(r), "what is passed on broke off", zap.String("merchant", o.merchant.Name), zap.Error(o.merchant.Quoter().QuoteError(err)))
		panic(http.ErrAbortHandler) // the way that net/http has to end an answer short of its end
	}
	return nil
}

// pass asks WeChat for what a request says, if it may.
func (h *Handler) pass(w http.ResponseWriter, r *http.Request) (operation, *apiv3.Passed, error) {
	o := operation{op: apiv3.Pass}
	path, found := h.escapedRoute(r.URL)
	switch {
	case !found:
		return o, nil, errNoRoute
	case r.Header.Get("Wechatpay-Signature") != "": // Wechatpay-Serial alone is a caller's that encrypts by itself
		return o, nil, errMisdirected
	case !slices.Contains(passMethods, r.Method):
		w.Header().Set("Allow", strings.Join(passMethods, ", "))
		return o, nil, statusError{http.StatusMethodNotAllowed, codeNoSuchAPI, fmt.Errorf("WeChat Pay has no calls of %s", r.Method)}
	}
	if err := h.access.check(r); err != nil {
		return o, nil, refuseAccess(w, err)
	}
	upload := apiv3.IsUpload(r.Header.Get("Content-Type"))
	body, err := readPassed(w, r, upload)
	if err != nil {
		return o, nil, err
	}
	query, err := splitQuery(r.URL.RawQuery)
	if err != nil {
		return o, nil, err
	}
	if o.merchant, err = h.merchants.Select(query.selector); err != nil {
		return o, nil, err
	}
	account := h.app.accounts[o.merchant]
	switch {
	case !o.merchant.Passthrough:
		return o, nil, o.merchant.NotAble("passthrough")
	case account.v3 == nil:
		return o, nil, o.merchant.RequireV3()
	}
	if query.rest != "" {
		path += "?" + query.rest
	}
	ctx := r.Context()
	if r.Method != http.MethodGet && !upload {
		o.fields = passedNumbers(body)
		if o.call, err = inFlight.begin(ctx, o, h); err != nil {
			return o, nil, err
		}
		ctx = o.call.ctx
	}
	var passed *apiv3.Passed
	err = h.guard(o, func() (err error) {
		passed, err = account.v3.Pass(ctx, apiv3.PassRequest{
			Method: r.Method, Path: path, ContentType: r.Header.Get("Content-Type"),
			Serial: r.Header.Get("Wechatpay-Serial"), Body: body, Decrypt: query.decrypt,
		})
		return err
	})
	return o, passed, err
}

// readPassed reads the body of a call that is to be passed on.
func readPassed(w http.ResponseWriter, r *http.Request, upload bool) ([]byte, error) {
	if upload { // which is no text
		return readAsked(w, r, maxUpload)
	}
	body, err := readAsked(w, r, maxPassBody)
	switch {
	case err != nil:
		return nil, err
	case looksLikeNotification(body):
		return nil, errMisdirected
	default:
		return body, checkCharset(r.Header.Get("Content-Type"), body)
	}
}

// escapedRoute returns what stands behind the path prefix as the caller escaped
// it, which WeChat is to get, and the signature is over. False: the prefix is
// escaped in some other way than ours.
func (h *Handler) escapedRoute(u *url.URL) (string, bool) {
	prefix := url.URL{Path: h.prefix}
	route, found := strings.CutPrefix(u.EscapedPath(), prefix.EscapedPath())
	return route, found && strings.HasPrefix(route, "/"+string(apiv3.Pass)+"/")
}

// passQuery is the query of a call that is passed on.
type passQuery struct {
	selector wepay.Selector
	decrypt  []string // members of the reply
	rest     string   // which goes to WeChat
}

// splitQuery takes out of a query what is for us. The rest stays what it was, byte
// for byte.
func splitQuery(query string) (q passQuery, err error) {
	env, decrypt := "", ""
	ours := map[string]*string{
		"merchant": &q.selector.Name, "mchId": &q.selector.MchID, "appId": &q.selector.AppID, "env": &env, "decrypt": &decrypt,
	}
	var theirs []string
	for pair := range strings.SplitSeq(query, "&") {
		escaped, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(escaped)
		place := ours[name]
		if err == nil {
			if err := checkSpelling(name, append(slices.Concat(selectorNames, passedNames), "decrypt")...); err != nil {
				return q, err
			}
		}
		if err != nil || place == nil {
			theirs = append(theirs, pair)
			continue
		}
		text, err := url.QueryUnescape(value)
		switch {
		case err != nil:
			return q, &wepay.FieldError{Field: name, Reason: "is not escaped as a query is"}
		case *place != "":
			return q, &wepay.FieldError{Field: name, Reason: "stands there twice"}
		}
		*place = text
	}
	q.selector.Env, q.rest = wepay.Env(env), strings.Join(theirs, "&")
	if decrypt != "" {
		q.decrypt = strings.Split(decrypt, ",")
	}
	return q, nil
}

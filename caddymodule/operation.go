package caddymodule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
)

// serveOperation answers a request for an operation. Path is what stands behind
// its name.
func (h *Handler) serveOperation(w http.ResponseWriter, r *http.Request, op wepay.Operation, path string) error {
	o, result, err := h.operate(w, r, op, path)
	defer func() { inFlight.done(o.call) }()
	if err == nil {
		h.app.metrics.operation(o.merchant, op, 0)
		h.logUndelivered(r, o)
		if bill, isBill := result.(*billAnswer); isBill {
			return h.streamBill(w, r, bill)
		}
		return writeJSON(w, http.StatusOK, success{Result: result})
	}
	return h.fail(w, r, o, err)
}

// fail says why an operation was not done.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, o operation, err error) error {
	if errors.Is(err, errNoRoute) || errors.Is(err, errMisdirected) {
		err = h.noRoute(r, err)
	}
	failed := newFailure(err)
	if failed.Errcode != codeNoSuchAPI {
		h.app.metrics.operation(o.merchant, o.op, failed.Errcode)
	}
	h.logFailure(o, failed, err)
	return writeJSON(w, failed.status, failed)
}

// operate asks WeChat Pay for what a request says, if it may.
func (h *Handler) operate(w http.ResponseWriter, r *http.Request, op wepay.Operation, path string) (operation, any, error) {
	o := operation{op: op, path: "/" + path}
	route, found := routeOf(op)
	switch {
	case !found || route.path != (path != "") || route.path && r.URL.RawPath != "":
		return o, nil, errNoRoute
	case apiv3.IsSigned(r.Header):
		return o, nil, errMisdirected
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		return o, nil, statusError{http.StatusMethodNotAllowed, codeNoSuchAPI, fmt.Errorf("%s is asked for with POST", op)}
	}
	if err := h.access.check(r); err != nil {
		return o, nil, refuseAccess(w, err)
	}
	request, err := readRequest(w, r)
	if err != nil {
		return o, nil, err
	}
	if !route.path { // WeChat's calls of no route may have other fields that hold JSON
		if err := request.checkStructured(); err != nil {
			return o, nil, err
		}
	}
	if err := route.checkSpelling(request.values); err != nil {
		return o, nil, err
	}
	if o.merchant, err = h.merchants.Select(request.selector); err != nil {
		return o, nil, err
	}
	native, err := takeSwitch(request, "native")
	if err != nil {
		return o, nil, err
	}
	if route.bill {
		o.format = cmp.Or(request.take("format"), r.URL.Query().Get("format"))
	}
	if o.fields, err = route.fields(r, request.values); err != nil {
		return o, nil, err
	}
	ask := route.ask
	switch {
	case native && route.bill:
		return o, nil, &wepay.FieldError{Field: "native", Reason: "does not go with bills"}
	case native:
		ask = askNative
	case ask == nil:
		ask = askGateway
	}
	ctx := r.Context()
	if movesMoney[op] {
		if o.call, err = inFlight.begin(ctx, o, h); err != nil {
			return o, nil, err
		}
		ctx = o.call.ctx
	}
	var recorded *recording
	if o.call != nil && h.app.store != nil {
		recorded = &recording{header: r.Header}
		ctx = context.WithValue(ctx, recordingKey{}, recorded)
	}
	var result any
	err = h.guard(o, func() (err error) {
		result, err = ask(ctx, h, o)
		return err
	})
	if recorded != nil {
		h.app.recordAnswer(ctx, recorded, o, result, err)
	}
	return o, result, route.rename(err)
}

// takeSwitch returns what a request says about us and not about WeChat.
func takeSwitch(request *request, name string) (bool, error) {
	switch request.take(name) {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return false, &wepay.FieldError{Field: name, Reason: "must be true or false"}
	}
}

// refuseAccess tells what a better token or another try helps from a refusal
// that nothing in the request helps.
func refuseAccess(w http.ResponseWriter, err error) error {
	status := http.StatusForbidden
	switch {
	case errors.Is(err, errBadToken):
		w.Header().Set("WWW-Authenticate", "Bearer")
		status = http.StatusUnauthorized
	case errors.Is(err, errEarly):
		status = http.StatusTooEarly
	}
	return statusError{status, codeUnauthorized, err}
}

// checkSpelling refuses names that are almost one of ours, or of what the route takes.
func (route route) checkSpelling(values map[string]string) error {
	known := slices.Concat(selectorNames, []string{"native"}, slices.Collect(maps.Keys(route.names)))
	switch {
	case route.bill:
		known = append(known, "format")
	case route.path:
		known = append(known, passedNames...)
	}
	for _, rule := range route.only {
		known = append(known, rule.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if err := checkSpelling(name, known...); err != nil {
			return err
		}
	}
	return nil
}

// fields gives WeChat's names to what a request says.
func (route route) fields(r *http.Request, values map[string]string) (wepay.Fields, error) {
	var fields wepay.Fields
	for _, name := range slices.Sorted(maps.Keys(values)) {
		wechat, renamed := route.names[name]
		if !renamed {
			wechat = name
		}
		if route.only != nil && !slices.ContainsFunc(route.only, func(rule wepay.Rule) bool { return rule.Name == wechat }) {
			continue
		}
		if _, twice := fields.Lookup(wechat); twice {
			return nil, &wepay.FieldError{Field: name, Reason: "stands there under two names"}
		}
		fields.Set(wechat, values[name])
	}
	// The Node service took the order's id from the query as well.
	ids := r.URL.Query()["id"]
	if len(ids) > 1 {
		return nil, &wepay.FieldError{Field: "id", Reason: "stands there twice"}
	}
	if len(ids) == 1 && ids[0] != "" && route.names["id"] != "" && fields.Get(route.names["id"]) == "" {
		fields.Set(route.names["id"], ids[0])
	}
	if route.clientIP && fields.Get("spbill_create_ip") == "" {
		ip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
		fields.Set("spbill_create_ip", ip)
	}
	return fields, nil
}

// rename puts the JSON's name of a field into an error about it.
func (route route) rename(err error) error {
	var field *wepay.FieldError
	if errors.As(err, &field) {
		for name, wechat := range route.names {
			if field.Field == wechat {
				field.Field = name
				return field
			}
		}
	}
	return err
}

// operation counts an operation that was asked for.
func (m *metrics) operation(merchant *wepay.Merchant, op wepay.Operation, errcode int) {
	name := ""
	if merchant != nil {
		name = merchant.Name
	}
	m.operations.WithLabelValues(name, string(op), strconv.Itoa(errcode)).Inc()
}

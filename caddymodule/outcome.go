package caddymodule

import (
	"errors"
	"net/http"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/windsome/caddy-wepay/caddymodule/delivery"
	"github.com/windsome/caddy-wepay/wepay"
)

// Reasons why a notification cannot be read that are the configuration's.
var (
	errNoPartnerKey = errors.New("a notification of API v2")
	errNoAPIv3Key   = errors.New("a notification of API v3")
)

// errNotStored says that a notification is not durable.
var errNotStored = errors.New("not stored")

// outcome is what came of a notification.
type outcome struct {
	// result is a word for it, for metrics, logs and WeChat. A stranger learns
	// nothing from it that the signature did not decide.
	result string
	// status is what a notification of API v3 is answered with: 4xx where nothing
	// here can make it right, 5xx where something here is wrong.
	status int
}

// outcomes are what can come of a notification that is refused; what stands
// first counts.
var outcomes = []struct {
	err error
	outcome
}{
	{wepay.ErrBusy, outcome{"busy", http.StatusServiceUnavailable}},
	{wepay.ErrTooLarge, outcome{"too_large", http.StatusRequestEntityTooLarge}},
	{errNoPartnerKey, outcome{"no_partner_key", http.StatusInternalServerError}},
	{errNoAPIv3Key, outcome{"no_apiv3_key", http.StatusInternalServerError}},
	{wepay.ErrUnconfirmed, outcome{"not_confirmed", http.StatusServiceUnavailable}}, // whatever was wrong with the confirmation
	{wepay.ErrForeign, outcome{"foreign", http.StatusNotFound}},
	{wepay.ErrUnsigned, outcome{"unsigned", http.StatusUnauthorized}},
	{wepay.ErrProbe, outcome{"probe", http.StatusUnauthorized}},
	{wepay.ErrSignature, outcome{"wrong_signature", http.StatusUnauthorized}},
	{wepay.ErrStale, outcome{"stale", http.StatusUnauthorized}},
	{wepay.ErrUnknownKey, outcome{"unknown_key", http.StatusUnauthorized}},
	{wepay.ErrAPIv3Key, outcome{"apiv3_key", http.StatusInternalServerError}},
	{wepay.ErrAmbiguous, outcome{"ambiguous", http.StatusBadRequest}},
	{wepay.ErrNotPayment, outcome{"not_a_payment", http.StatusBadRequest}},
	{wepay.ErrUnreadable, outcome{"unreadable", http.StatusBadRequest}}, // WeChat's, so that the operator has to look
	{wepay.ErrMalformed, outcome{"malformed", http.StatusBadRequest}},
	{delivery.ErrNoURL, outcome{"no_cb_notify_url", http.StatusInternalServerError}},
	{delivery.ErrNoEventURL, outcome{"no_cb_event_url", http.StatusInternalServerError}},
	{delivery.ErrNotTaken, outcome{"not_taken", http.StatusServiceUnavailable}},
	{errNotStored, outcome{"not_stored", http.StatusServiceUnavailable}},
	{wepay.ErrNoAnswer, outcome{"no_sandbox_key", http.StatusServiceUnavailable}},
}

// echoed is what came of WeChat's own test of the way, which is about nothing.
var echoed = outcome{"echo", http.StatusNoContent}

// outcomeOf says what came of a notification of an API.
func outcomeOf(api wepay.API, err error) outcome {
	switch {
	case err == nil:
		return outcome{"taken", http.StatusNoContent}
	case errors.Is(err, wepay.ErrNoAnswer) && api == wepay.V3: // whatever was wrong with the certificates
		return outcome{"no_certificates", http.StatusServiceUnavailable}
	}
	for _, known := range outcomes {
		if errors.Is(err, known.err) {
			return known.outcome
		}
	}
	return outcome{"failed", http.StatusInternalServerError}
}

// level is how loudly a refusal is logged: a probe is WeChat's own, and raises
// no alarm.
func (o outcome) level() zapcore.Level {
	if o.result == "probe" {
		return zap.InfoLevel
	}
	return zap.WarnLevel
}

// statusV2 is what a refused notification of API v2 is answered with, whose XML
// says the rest: a proxy in between may count on 503.
func (o outcome) statusV2() int {
	if o.result == "busy" {
		return o.status
	}
	return http.StatusOK
}

// acknowledge answers WeChat in the API of its notification. Over API v3 the
// status alone decides whether it is sent again.
func acknowledge(w http.ResponseWriter, api wepay.API, o outcome, taken bool) error {
	switch {
	case api == wepay.V3 && taken:
		w.WriteHeader(o.status)
		return nil
	case api == wepay.V3:
		return writeJSON(w, o.status, acknowledgementV3{"FAIL", o.result})
	case taken:
		return writeXML(w, http.StatusOK, "SUCCESS", "OK")
	default:
		return writeXML(w, o.statusV2(), "FAIL", o.result)
	}
}

// acknowledgementV3 is the answer to a notification of API v3 that is to be sent again.
// Source: WeChat Pay, 支付通知 (API v3).
type acknowledgementV3 struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

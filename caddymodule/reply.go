package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"go.uber.org/zap/zapcore"

	"github.com/windsome/caddy-wepay/wepay"
)

// The numbers of failures, those of the Node service that this module
// succeeds.
const (
	codeUnknown      = -1
	codeUnauthorized = 401
	codeWeChat       = 40000
	codeParameter    = 40003
	codeNoMerchant   = 40004
	codeMissing      = 40008
	codeNotAble      = 40010
	codeNoSuchAPI    = 40011
)

var codeMessages = map[int]string{
	codeUnknown:      "未知错误",
	codeUnauthorized: "未登录",
	codeWeChat:       "第三方API调用失败",
	codeParameter:    "参数错误",
	codeNoMerchant:   "没有该实体",
	codeMissing:      "缺少必填项",
	codeNotAble:      "模块没有初始化",
	codeNoSuchAPI:    "没有此API",
}

// success is the envelope of what was done.
type success struct {
	Errcode int `json:"errcode"`
	Result  any `json:"result"`
}

// failure is the envelope of what was not.
type failure struct {
	Errcode    int           `json:"errcode"`
	Message    string        `json:"message"`
	XOrigMsg   string        `json:"xOrigMsg"`
	ErrCode    string        `json:"err_code,omitempty"`     // WeChat's, where WeChat refused
	ErrCodeDes string        `json:"err_code_des,omitempty"` // WeChat's, where WeChat refused
	Unsigned   bool          `json:"unsigned,omitempty"`     // WeChat's refusal is not signed
	Verdict    wepay.Verdict `json:"verdict,omitempty"`      // whether the same call may be sent again
	// Ask is the route that tells what became of a call whose outcome is open.
	Ask wepay.Operation `json:"ask,omitempty"`

	status int
}

// newFailure puts an error of an operation into its envelope. What the caller
// or WeChat could do better is HTTP 200, as it was in the Node service.
func newFailure(err error) failure {
	f := failure{Errcode: codeUnknown, XOrigMsg: err.Error(), status: http.StatusOK}
	var field *wepay.FieldError
	var wechat *wepay.Error
	var status statusError
	switch {
	case errors.As(err, &status):
		f.Errcode, f.status = status.errcode, status.status
	case errors.As(err, &wechat):
		f.Errcode = codeWeChat
		f.ErrCode, f.ErrCodeDes, f.Unsigned, f.Verdict = wechat.Code, wechat.Message, wechat.Unsigned, wechat.Verdict
		if wechat.Verdict == wepay.Query {
			f.Ask = wechat.Ask
		}
		if wechat.Err != nil {
			f.status = http.StatusBadGateway
		}
	case errors.Is(err, wepay.ErrNoAnswer):
		f.Errcode, f.status = codeWeChat, http.StatusBadGateway
	case errors.Is(err, wepay.ErrNoMerchant):
		f.Errcode = codeNoMerchant
	case errors.Is(err, wepay.ErrNotAble):
		f.Errcode = codeNotAble
	case errors.As(err, &field) && field.Missing:
		f.Errcode = codeMissing
	case errors.As(err, &field):
		f.Errcode = codeParameter
	default:
		f.status = http.StatusInternalServerError
	}
	f.Message = codeMessages[f.Errcode]
	return f
}

// level is how loudly a failure is logged: WeChat's and access are the
// operator's business, the rest the caller's.
func (f failure) level() zapcore.Level {
	switch f.Errcode {
	case codeWeChat, codeUnauthorized, codeNotAble:
		return zapcore.WarnLevel
	case codeUnknown:
		return zapcore.ErrorLevel
	default:
		return zapcore.DebugLevel
	}
}

// statusError is a failure whose HTTP status says something of its own.
type statusError struct {
	status  int
	errcode int
	err     error
}

func (e statusError) Error() string { return e.err.Error() }
func (e statusError) Unwrap() error { return e.err }

func writeJSON(w http.ResponseWriter, status int, envelope any) error {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(envelope); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	return write(w, status, body.Bytes())
}

// writeXML answers WeChat's notification. WeChat takes the answer only when
// nothing stands before or after it; the fields stand in the order of WeChat's
// own example.
func writeXML(w http.ResponseWriter, status int, returnCode, returnMsg string) error {
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	return write(w, status, []byte("<xml><return_code><![CDATA["+returnCode+"]]></return_code><return_msg><![CDATA["+returnMsg+"]]></return_msg></xml>"))
}

func write(w http.ResponseWriter, status int, body []byte) error {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, err := w.Write(body)
	return err
}

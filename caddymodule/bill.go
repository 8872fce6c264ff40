package caddymodule

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/windsome/caddy-wepay/wepay"
)

// billAnswer is a bill on its way to who asked for it.
type billAnswer struct {
	operation
	bill *wepay.Bill
}

// streamBill passes a bill on as it comes. One that breaks off, or that does
// not add up, breaks our answer off as well, so that it is not taken for whole;
// as JSON its last line says why.
func (h *Handler) streamBill(w http.ResponseWriter, r *http.Request, answer *billAnswer) error {
	defer answer.bill.Close()
	asJSON := answer.format == "json"
	contentType := "text/csv; charset=utf-8"
	switch {
	case asJSON:
		contentType = "application/x-ndjson"
	case answer.bill.Gzip:
		contentType = "application/gzip"
	}
	boundReading(w)
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	var err error
	if asJSON {
		err = answer.bill.WriteJSON(w)
	} else {
		_, err = io.Copy(w, answer.bill)
	}
	if err == nil {
		return nil
	}
	err = answer.merchant.Quoter().QuoteError(err)
	h.logger.Log(brokenLevel(r), "bill broke off", zap.String("merchant", answer.merchant.Name), zap.Error(err))
	if asJSON {
		verdict := wepay.Again
		if errors.Is(err, wepay.ErrBillForm) {
			verdict = wepay.Never
		}
		failed := newFailure(&wepay.Error{Merchant: answer.merchant.Name, Operation: answer.op, Verdict: verdict, Err: err})
		err = errors.Join(json.NewEncoder(w).Encode(failed), http.NewResponseController(w).Flush())
		if err != nil {
			h.logger.Debug("saying so", zap.Error(err))
		}
	}
	// The way that net/http has to end an answer short of its end.
	panic(http.ErrAbortHandler)
}

// boundReading has who asked for a stream read it in the time that WeChat has to
// send it. For the next request net/http takes the deadline back.
func boundReading(w http.ResponseWriter) {
	// What has no deadlines (HTTP/3) ends with its connection.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(wepay.BillTimeout))
}

// brokenLevel is how loudly an answer that broke off is logged.
func brokenLevel(r *http.Request) zapcore.Level {
	if r.Context().Err() != nil {
		return zap.DebugLevel // who asked for it has left
	}
	return zap.ErrorLevel
}

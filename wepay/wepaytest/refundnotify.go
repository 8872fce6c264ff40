package wepaytest

import (
	"crypto/aes"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/windsome/caddy-wepay/wepay"
)

// Reasons that a refund or a payout cannot end, for errors.Is.
var (
	ErrNoRefund = errors.New("no such refund")
	ErrFinished = errors.New("it has ended already")
	ErrStatus   = errors.New("not a final state")
)

// FinishRefund ends a refund as RefundSuccess, RefundClosed or RefundChanged, and
// notifies the merchant, at the refund's notify_url or else the account's, over the API
// that requested the refund. A closed refund returns the money to the merchant; a stuck
// one can still succeed or be closed. The options are those of Pay for notifications:
// Held, Duplicated, WithField, which changes the encrypted content, WithWrongSignature,
// which encrypts with a foreign key, and InSandbox.
//
// It returns as Pay does, and a nil Delivery if there is no URL. The error wraps
// wepay.ErrNoMerchant, ErrNoRefund, ErrStatus, ErrFinished, ErrNoAPIv3Key or ErrClosed.
func (s *Server) FinishRefund(mchID, outRefundNo, status string, options ...PayOption) (*Delivery, error) {
	return notifying(options, fmt.Sprintf("ending refund %q of %q", outRefundNo, mchID), func(p payment) (*Delivery, error) {
		return s.finishRefund(mchID, outRefundNo, status, p)
	})
}

func (s *Server) finishRefund(mchID, number, status string, p payment) (*Delivery, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	a, found := s.accounts[mchID]
	if !found {
		return nil, wepay.ErrNoMerchant
	}
	books, key := a.side(p.inSandbox, now)
	r, found := books.refunds[number]
	switch {
	case !found:
		return nil, ErrNoRefund
	case !slices.Contains([]string{RefundSuccess, RefundClosed, RefundChanged}, status):
		return nil, fmt.Errorf("%w: %q", ErrStatus, status)
	case r.status == RefundSuccess || r.status == RefundClosed:
		return nil, fmt.Errorf("%w: its refund_status is %s", ErrFinished, r.status)
	}
	to := r.request.Get("notify_url")
	if to == "" {
		to = a.RefundNotifyURL
	}
	if r.json != "" && to != "" && a.APIv3Key == "" {
		return nil, ErrNoAPIv3Key
	}
	r.status = status
	switch status {
	case RefundSuccess:
		r.finished = now
	case RefundClosed:
		books.move(s, movement{number: r.id, kind: "退款退回", fee: r.settled(), voucher: r.number})
	}
	switch {
	case to == "":
		return nil, nil
	case r.json != "":
		return s.deliveryV3(a, r.event(to), p)
	}
	body, err := r.notification(p, key)
	if err != nil {
		return nil, err
	}
	return s.delivery(to, body, p), nil
}

// notification returns the notification, which is not signed.
func (r *refund) notification(p payment, key string) ([]byte, error) {
	if p.wrongSignature {
		key = wrongKey
	}
	info, err := encrypt(encode("root", r.content(p.extra), ""), key)
	if err != nil {
		return nil, err
	}
	fields := wepay.NewFields(map[string]string{
		"return_code": "SUCCESS", "nonce_str": rand.Text(), "req_info": info,
	})
	for _, name := range common.names() {
		if value := r.of.request.Get(name); value != "" {
			fields.Set(name, value)
		}
	}
	return encode("xml", fields, ""), nil
}

// content is what a notification encrypts.
func (r *refund) content(extra wepay.Fields) wepay.Fields {
	fields := wepay.NewFields(map[string]string{
		"transaction_id":        r.of.transactionID(),
		"out_trade_no":          r.of.number(),
		"refund_id":             r.id,
		"out_refund_no":         r.number,
		"total_fee":             text(r.of.total()),
		"settlement_total_fee":  text(r.of.settled()),
		"refund_fee":            text(r.fee),
		"settlement_refund_fee": text(r.settled()),
		"refund_status":         r.status,
		"success_time":          "",
		"refund_recv_accout":    refundReceiver,
		"refund_account":        r.account(),
		"refund_request_source": "API",
	})
	if r.status == RefundSuccess {
		fields.Set("success_time", r.finished.In(beijing).Format(dateTimeFormat))
	}
	for _, field := range extra {
		fields.Set(field.Name, field.Value)
	}
	return fields
}

// encrypt is AES-256-ECB with PKCS #7 under the hex digits of the key's MD5.
// ECB is what the protocol says; the standard library rightly has no mode for
// it.
func encrypt(plain []byte, key string) (string, error) {
	digest := md5.Sum([]byte(key))
	block, err := aes.NewCipher([]byte(hex.EncodeToString(digest[:])))
	if err != nil {
		return "", fmt.Errorf("encrypting a refund's notification: %w", err)
	}
	padding := aes.BlockSize - len(plain)%aes.BlockSize
	out := slices.Clone(plain)
	for range padding {
		out = append(out, byte(padding))
	}
	for i := 0; i < len(out); i += aes.BlockSize {
		block.Encrypt(out[i:i+aes.BlockSize], out[i:i+aes.BlockSize])
	}
	return base64.StdEncoding.EncodeToString(out), nil
}

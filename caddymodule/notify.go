package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// maxNotificationTime is how long WeChat may be kept waiting: it waits 5
// seconds in all.
const maxNotificationTime = 4 * time.Second

// serveNotification takes a notification of WeChat's. WeChat hears SUCCESS only
// when the order service has taken it or it is durable in the outbox; on
// anything else it sends again. A name admits only that merchant's.
func (h *Handler) serveNotification(w http.ResponseWriter, r *http.Request, name string) error {
	// WeChat's patience begins with the request, so ours does. It goes on when
	// WeChat hangs up: the event is real, and would only be sent again.
	limit := time.Duration(h.app.CallbackTimeout)
	if h.app.outbox != nil {
		limit = maxNotificationTime
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), limit)
	defer cancel()
	receiver, notification, err := h.readNotification(ctx, w, r, name)
	if err == nil {
		err = h.app.take(ctx, notification, r.Header)
	}
	merchant, result := "", notificationResult(err)
	if receiver != nil {
		merchant = receiver.Name
	}
	h.app.metrics.notifications.WithLabelValues(merchant, result).Inc()
	if err != nil {
		h.logger.Warn("notification refused",
			zap.String("merchant", merchant), zap.String("reason", result), zap.Error(err))
		return writeXML(w, "FAIL", result)
	}
	if c := h.logger.Check(zap.DebugLevel, "notification taken"); c != nil {
		c.Write(zap.String("merchant", merchant), zap.String("event", notification.EventID()))
	}
	return writeXML(w, "SUCCESS", "OK")
}

// take has a notification that came with a header handed over: now, or once it
// is in the outbox.
func (a *App) take(ctx context.Context, n *wepay.Notification, header http.Header) error {
	event, err := newEvent(n, header, time.Now())
	if err != nil {
		return err
	}
	callback := a.accounts[n.Merchant].callback
	if a.outbox == nil {
		return callback.deliver(ctx, event)
	}
	if callback.urlOf(n.Kind) == "" {
		return errNoCallback
	}
	if err := a.outbox.Put(ctx, event); err != nil {
		return fmt.Errorf("%w: %w", errNotStored, err)
	}
	return nil
}

// readNotification reads and verifies a notification. Before it is verified
// nothing of it is used but whom it says it is for. That merchant, once found,
// is returned with an error as well: a wrong signature may be its wrong key.
func (h *Handler) readNotification(ctx context.Context, w http.ResponseWriter, r *http.Request, name string) (*wepay.Merchant, *wepay.Notification, error) {
	body, err := readBody(w, r)
	if err != nil {
		return nil, nil, err
	}
	unverified, err := apiv2.ReadNotification(body)
	if err != nil {
		return nil, nil, err
	}
	receiver, err := h.merchants.Receiver(name, unverified.Recipient())
	if err != nil {
		return nil, nil, err
	}
	key, err := h.app.accounts[receiver].client.NotificationKey(ctx)
	if err != nil {
		return receiver, nil, err
	}
	notification, err := unverified.Verify(receiver, key)
	return receiver, notification, err
}

// notificationResult is a word for what came of a notification, for metrics,
// logs and WeChat. A stranger learns nothing from it that the signature did not
// decide.
func notificationResult(err error) string {
	for _, known := range []struct {
		err    error
		result string
	}{
		{wepay.ErrTooLarge, "too_large"},
		{wepay.ErrMalformed, "malformed"},
		{wepay.ErrForeign, "foreign"},
		{wepay.ErrUnsigned, "unsigned"},
		{wepay.ErrSignature, "wrong_signature"},
		{wepay.ErrNotPayment, "not_a_payment"},
		{errNoCallback, "no_cb_notify_url"},
		{errNotTaken, "not_taken"},
		{errNotStored, "not_stored"},
		{wepay.ErrNoAnswer, "no_sandbox_key"},
	} {
		if errors.Is(err, known.err) {
			return known.result
		}
	}
	if err != nil {
		return "failed"
	}
	return "taken"
}

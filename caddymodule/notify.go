package caddymodule

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/recovery"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
)

const (
	// weChatPatience is how long WeChat waits for an answer, in all.
	weChatPatience = 5 * time.Second
	// maxNotificationTime is how long it may be kept waiting.
	maxNotificationTime = 4 * time.Second
)

// serveNotification takes a notification of WeChat's. WeChat hears that it was
// taken only when the order service has it or it is durable in the store; on
// anything else it sends again. A name admits only that merchant's.
func (h *Handler) serveNotification(w http.ResponseWriter, r *http.Request, name string) error {
	// WeChat's patience begins with the request, so ours does. It goes on when
	// WeChat hangs up: the event is real, and would only be sent again.
	limit := time.Duration(h.app.CallbackTimeout)
	if h.app.store != nil {
		limit = maxNotificationTime
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), limit)
	defer cancel()
	body := &intake{ReadCloser: r.Body}
	defer body.release()
	r.Body = body
	in, err := h.readNotification(ctx, w, r, name)
	echo := err == nil && in.api == wepay.V3 && in.notification.EventType == wepay.SecurityEchoed
	if err == nil && !echo {
		err = h.app.take(ctx, in.notification, r.Header)
	}
	merchant, outcome := "", outcomeOf(in.api, err)
	if echo {
		outcome = echoed
	}
	if in.merchant != nil {
		merchant = in.merchant.Name
	}
	h.app.metrics.notifications.WithLabelValues(merchant, outcome.result).Inc()
	if err != nil {
		h.logRefused(merchant, outcome, in.notification != nil, err)
	} else {
		h.logTaken(in.notification)
	}
	if errors.Is(err, wepay.ErrBusy) {
		body.release()
		holdOff(ctx, w)
	}
	return acknowledge(w, in.api, outcome, err == nil)
}

// logRefused says why a notification was not taken. What is refused before it is
// verified anyone can send: the first in a minute is logged, the others counted.
func (h *Handler) logRefused(merchant string, o outcome, verified bool, err error) {
	level := o.level()
	if !verified && !h.app.refused.Log(strings.TrimPrefix(merchant+": "+o.result, ": ")) {
		level = zap.DebugLevel
	}
	if c := h.logger.Check(level, "notification refused"); c != nil {
		c.Write(zap.String("merchant", merchant), zap.String("reason", o.result), zap.Error(err))
	}
}

// logTaken is quiet, unless the order service misses something that WeChat may
// have wanted it to know, or the operator waits for WeChat's test.
func (h *Handler) logTaken(n *wepay.Notification) {
	level, more := zap.DebugLevel, zap.Skip()
	switch {
	case n.EventType == wepay.SecurityEchoed:
		level = zap.InfoLevel
	case n.Omitted != "":
		level, more = zap.WarnLevel, zap.String("omitted", n.Omitted)
	case n.Misfit != "":
		level, more = zap.WarnLevel, zap.String("handed_over_as_it_is", n.Misfit)
	}
	if c := h.logger.Check(level, "notification taken"); c != nil {
		c.Write(zap.String("merchant", n.Merchant.Name), zap.String("event", n.EventID()), zap.String("event_type", n.EventType), more)
	}
}

// incoming is a notification on its way in.
type incoming struct {
	api wepay.API // that it is one of, and that WeChat is answered in
	// merchant is whom it is for, or seems to be for where it is refused: a wrong
	// signature may be that merchant's wrong key. Nil: unknown.
	merchant     *wepay.Merchant
	notification *wepay.Notification // nil: it is refused
}

// readNotification reads and verifies a notification of either API, told apart
// by what they are. What fails as one of them is never tried as the other.
func (h *Handler) readNotification(ctx context.Context, w http.ResponseWriter, r *http.Request, name string) (in incoming, err error) {
	in.api = wepay.V2
	signed := apiv3.IsSigned(r.Header)
	if signed || strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		in.api = wepay.V3 // to which 2xx means that it was taken, whatever became of it on the way
	}
	body, err := readBody(w, r, maxBody)
	if err != nil {
		return in, err
	}
	switch start := bytes.TrimLeft(body, " \t\r\n"); {
	case bytes.HasPrefix(start, []byte("{")):
		in.api = wepay.V3
	case bytes.HasPrefix(start, []byte("<")) && !signed:
		in.api = wepay.V2
	}
	if in.api == wepay.V3 {
		in.merchant, in.notification, err = h.openNotification(ctx, r.Header, body, name)
	} else {
		in.merchant, in.notification, err = h.verifyNotification(ctx, body, name)
	}
	return in, err
}

// take has a notification that came with a header handed over: now, or once it
// is in the store.
func (a *App) take(ctx context.Context, n *wepay.Notification, header http.Header) error {
	event, err := store.NewEvent(n, store.SourceNotify, header, steady.Now())
	if err != nil {
		return err
	}
	endpoint := a.accounts[n.Merchant].endpoint
	if err := endpoint.Takes(n.Kind); err != nil {
		if n.Misfit != "" {
			return fmt.Errorf("%w: event_type %s, but %s", err, n.EventType, n.Misfit)
		}
		return fmt.Errorf("%w: event_type %s", err, n.EventType)
	}
	if a.store == nil {
		return endpoint.Deliver(ctx, event)
	}
	var taken recovery.Taken
	err = a.inStore(ctx, func(live *App) (err error) {
		taken, err = live.ledger.Notified(ctx, n, event)
		return err
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errNotStored, err)
	}
	a.alert(taken)
	return nil
}

// verifyNotification reads and verifies a notification of API v2. Before it is
// verified nothing of it is used but whom it says it is for, who is returned
// with an error as well.
func (h *Handler) verifyNotification(ctx context.Context, body []byte, name string) (*wepay.Merchant, *wepay.Notification, error) {
	unverified, err := apiv2.ReadNotification(body)
	if err != nil {
		return nil, nil, err
	}
	receiver, err := h.merchants.Receiver(name, unverified.Recipient())
	if err != nil {
		if keyless := h.merchants.Keyless(name, unverified.Recipient()); keyless != nil {
			return keyless, nil, fmt.Errorf("%w: %w", errNoPartnerKey, keyless.NotAble("partner_key"))
		}
		return nil, nil, err
	}
	notification, err := h.app.accounts[receiver].v2.Verify(ctx, unverified)
	return receiver, notification, err
}

package demo

import (
	"context"
	"errors"
	"fmt"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// stepsWithoutNotifications are the steps while WeChat's notifications are lost.
func (d *demo) stepsWithoutNotifications() []step {
	var paid *wepaytest.Delivery
	return []step{
		{"下单: the site places an order", func(ctx context.Context) error { return d.showOrder(ctx, firstOrder) }},
		{"掉单: the customer pays, and nobody tells us", func(context.Context) (err error) {
			paid, err = d.showLost(shopMchID, firstOrder)
			return err
		}},
		{"查单: Caddy asks WeChat, and the order service hears of it", func(ctx context.Context) error {
			return d.showFound(ctx, firstOrder, "1200")
		}},
		{"迟到: the notification comes after all, and changes nothing", func(ctx context.Context) error {
			return d.showLate(ctx, paid)
		}},
		{"退款: the site gives some of it back", func(ctx context.Context) error { return d.showRefund(ctx, firstOrder) }},
		{"第二个商户: another merchant, whose orders go over API v3", d.showSecondLost},
		{"伪造: a forger is refused", func(ctx context.Context) error { return d.showForgery(ctx, paid) }},
		{"陌生人: a stranger cannot refund", d.showStranger},
	}
}

// showLost has a customer pay, and the notification be lost.
func (d *demo) showLost(mchID, order string) (*wepaytest.Delivery, error) {
	delivery, err := d.wechat.Pay(mchID, order)
	if err != nil {
		return nil, err
	}
	say("The customer has paid. WeChat's notification is lost on its way, and would be each time that it is sent again:")
	for _, attempt := range delivery.Attempts() {
		if !errors.Is(attempt.Err, wepaytest.ErrLost) {
			return nil, errors.New("the notification arrived")
		}
		show(attempt.Err.Error())
	}
	return delivery, nil
}

// showFound shows how the order service hears of a payment all the same.
func (d *demo) showFound(ctx context.Context, order, totalFee string) error {
	say("Caddy recorded the order before it called WeChat. Nothing is heard of it, so Caddy asks: in this demo after 1 s, then every 2 s; else after 15 s, 30 s, 1 m …")
	delivered, err := d.orders.awaitOf(ctx, order)
	if err != nil {
		return err
	}
	found := delivered[0]
	say("WeChat says that it is paid. The order service gets what it would have got of the notification, with the same webhook-id; the header wepay-source says how it was found:")
	show("wepay-source: " + found.source + "\nwebhook-id: " + found.id + "\n" + string(found.body))
	if found.source != "query" || found.payment["total_fee"] != totalFee {
		return fmt.Errorf("the order service got of %s fen, known from %s", found.payment["total_fee"], found.source)
	}
	return nil
}

// showLate has WeChat's notification arrive when its payment was found already.
func (d *demo) showLate(ctx context.Context, paid *wepaytest.Delivery) error {
	header, err := paid.Header()
	if err != nil {
		return err
	}
	say("WeChat's notification arrives at last. Caddy answers that it has it:")
	answer, err := d.post(ctx, "pay_notify/shop", header, paid.Body())
	if err != nil {
		return err
	}
	show(answer.String())
	if answer.status >= 300 || len(d.orders.deliveredOf(firstOrder)) != 1 {
		return errors.New("a late notification was not taken as a repeat")
	}
	say("It has the webhook-id of what was found, so the order service is not told again.")
	return nil
}

// showSecondLost is showSecondMerchant with a notification that is lost.
func (d *demo) showSecondLost(ctx context.Context) error {
	if _, err := d.ask(ctx, "get_pay_request_params", secondRequest); err != nil {
		return err
	}
	if _, err := d.showLost(miniMchID, secondOrder); err != nil {
		return err
	}
	return d.showFound(ctx, secondOrder, "1")
}

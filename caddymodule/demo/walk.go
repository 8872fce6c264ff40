package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// step is one thing that the demo shows. It returns an error when what it
// shows did not happen.
type step struct {
	title string
	show  func(context.Context) error
}

// firstOrder is the number of the order that most of the walk is about.
const firstOrder = "demo-1001"

// walk goes through the steps, and stops at the first that fails.
func (d *demo) walk(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	steps := d.steps()
	if d.lose {
		steps = d.stepsWithoutNotifications()
	}
	for i, step := range steps {
		fmt.Printf("\n── %d. %s\n\n", i+1, step.title)
		if err := step.show(ctx); err != nil {
			return fmt.Errorf("step %d (%s): %w", i+1, step.title, err)
		}
	}
	fmt.Print("\n✓ 全部步骤正常。Every step did what it should.\n")
	return nil
}

// steps are the steps while WeChat's notifications arrive.
func (d *demo) steps() []step {
	var paid *wepaytest.Delivery
	return []step{
		{"下单: the site places an order", func(ctx context.Context) error { return d.showOrder(ctx, firstOrder) }},
		{"付款: the customer pays, and WeChat tells us", func(context.Context) (err error) {
			paid, err = d.showPayment(firstOrder)
			return err
		}},
		{"转交: the order service hears of it, once", func(ctx context.Context) error { return d.showHandOver(ctx, firstOrder, paid) }},
		{"退款: the site gives some of it back", func(ctx context.Context) error { return d.showRefund(ctx, firstOrder) }},
		{"第二个商户: another merchant, with keys of its own", d.showSecondMerchant},
		{"投诉: WeChat tells of what is no payment", d.showComplaint},
		{"存储: the order service is away, and nothing is lost", d.showStore},
		{"伪造: a forger is refused", func(ctx context.Context) error { return d.showForgery(ctx, paid) }},
		{"陌生人: a stranger cannot refund", d.showStranger},
	}
}

func (d *demo) showOrder(ctx context.Context, order string) error {
	say("The site's order service asks Caddy, in JSON, on this machine:")
	reply, err := d.ask(ctx, "get_pay_request_params", map[string]any{
		"merchant": "shop", "id": order, "fee": 1200, "body": "袜子 & 手套 🧦", "openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o",
	})
	if err != nil {
		return err
	}
	say("Caddy signed it with the merchant's key, and WeChat got this:")
	if err := d.showLastRequest(d.paths().order); err != nil {
		return err
	}
	if !strings.HasPrefix(reply["package"], "prepay_id=") {
		return errors.New("the reply has no prepay_id")
	}
	say("The reply above is what the page passes to WeixinJSBridge to call up the payment.")
	return nil
}

func (d *demo) showPayment(order string) (*wepaytest.Delivery, error) {
	delivery, err := d.wechat.Pay(shopMchID, order)
	if err != nil {
		return nil, err
	}
	say("The customer has paid. WeChat posts this to %s/apis/v1/wepay/pay_notify/shop:", d.site)
	show(string(delivery.Body()))
	say("Caddy checked the signature, found the merchant, put it into its store on disk, and answered:")
	showAnswers(delivery)
	if !delivery.Taken() {
		return nil, errors.New("WeChat did not hear SUCCESS")
	}
	return delivery, nil
}

func (d *demo) showHandOver(ctx context.Context, order string, paid *wepaytest.Delivery) error {
	if err := paid.Repeat(); err != nil {
		return err
	}
	delivered, err := d.orders.awaitOf(ctx, order)
	if err != nil {
		return err
	}
	if len(delivered) != 1 {
		return fmt.Errorf("the order service got %d times of one payment", len(delivered))
	}
	say("At its cb_notify_url the order service got it as JSON, in the same words whichever API WeChat spoke, signed by Caddy (Standard Webhooks).")
	say("WeChat has just sent the notification again, as it does when in doubt: the same webhook-id, so it counts once.")
	show("webhook-id: " + delivered[0].id + "\n" + string(delivered[0].body))
	if delivered[0].payment["total_fee"] != "1200" {
		return errors.New("the order service got of another amount")
	}
	return nil
}

func (d *demo) showRefund(ctx context.Context, order string) error {
	reply, err := d.ask(ctx, "refund", map[string]any{
		"merchant": "shop", "out_trade_no": order, "out_refund_no": "demo-refund-1", "total_fee": 1200, "refund_fee": 200,
	})
	if err != nil {
		return err
	}
	requests := d.wechat.Requests(d.paths().refund)
	last := requests[len(requests)-1]
	say("WeChat saw the certificate of %s, serial %s, which Caddy presents on a connection of that merchant's own.", last.CommonName(), last.Serial())
	if last.CommonName() != shopMchID || reply["refund_fee"] != "200" {
		return errors.New("the refund is not the one that was asked for")
	}
	return nil
}

// secondOrder is the order of the second merchant, and secondRequest places it.
const secondOrder = "demo-2001"

var secondRequest = map[string]any{
	"merchant": "mini", "id": secondOrder, "fee": 1, "body": "a sticker", "openid": "orM1B5QURRH3PAqNItiFpY-HAAAA",
}

func (d *demo) showSecondMerchant(ctx context.Context) error {
	say("A mini program of a new account, which has API v3 alone and knows WeChat by WeChat Pay's public key. It is asked for in the same words:")
	reply, err := d.ask(ctx, "get_pay_request_params", secondRequest)
	if err != nil {
		return err
	}
	if reply["signType"] != "RSA" {
		return errors.New("the order did not go through API v3")
	}
	delivery, err := d.wechat.Pay(miniMchID, secondOrder)
	if err != nil {
		return err
	}
	say("Paid. WeChat's notification is JSON, encrypted for the merchant and signed in its header:")
	show(string(delivery.Body()))
	say("Caddy verified it, opened it, and answered:")
	showAnswers(delivery)
	if !delivery.Taken() {
		return errors.New("WeChat did not hear SUCCESS")
	}
	delivered, err := d.orders.awaitOf(ctx, secondOrder)
	if err != nil {
		return err
	}
	say("And the order service got what it knows:")
	show("webhook-id: " + delivered[0].id + "\n" + string(delivered[0].body))
	if delivered[0].payment["total_fee"] != "1" || delivered[0].payment["result_code"] != "SUCCESS" {
		return errors.New("the order service did not hear of it in API v2's names")
	}
	return nil
}

func (d *demo) showComplaint(ctx context.Context) error {
	delivery, err := d.wechat.Notify(miniMchID, wepaytest.Event{
		URL: d.site + "/apis/v1/wepay/pay_notify/mini", Type: "COMPLAINT.CREATE", OriginalType: "complaint", Summary: "产生新投诉",
		Resource: map[string]string{"complaint_id": "200201820200101080076610000", "action_type": "CREATE_COMPLAINT"},
	})
	if err != nil {
		return err
	}
	say("A customer complains. Whatever else WeChat tells, signed, goes to cb_event_url, as WeChat wrote it:")
	if !delivery.Taken() {
		return errors.New("WeChat did not hear SUCCESS")
	}
	told, err := d.orders.awaitEvent(ctx, "COMPLAINT.CREATE")
	if err != nil {
		return err
	}
	show("wepay-event: " + told.event + "\nwebhook-id: " + told.id + "\n" + string(told.body))
	return nil
}

func (d *demo) showStore(ctx context.Context) error {
	const order = "demo-1002"
	if _, err := d.ask(ctx, "get_pay_request_params", map[string]any{
		"merchant": "shop", "id": order, "fee": 300, "body": "茶", "openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o",
	}); err != nil {
		return err
	}
	if err := d.orders.stop(); err != nil {
		return err
	}
	say("The order service has just been stopped. The customer pays all the same, and WeChat hears:")
	delivery, err := d.wechat.Pay(shopMchID, order)
	if err != nil {
		return err
	}
	showAnswers(delivery)
	if !delivery.Taken() || len(d.orders.deliveredOf(order)) != 0 {
		return errors.New("the payment is not in the store")
	}
	say("It is in the store, on disk, and is tried again and again. Now the order service is back:")
	if err := d.orders.start(d.orders.address); err != nil {
		return err
	}
	delivered, err := d.orders.awaitOf(ctx, order)
	if err != nil {
		return err
	}
	show("webhook-id: " + delivered[0].id + "\n" + string(delivered[0].body))
	return nil
}

func (d *demo) showForgery(ctx context.Context, paid *wepaytest.Delivery) error {
	header, err := paid.Header()
	if err != nil {
		return err
	}
	say("Somebody posts the notification of step 2 with one thing in it changed:")
	answer, err := d.post(ctx, "pay_notify", header, d.paths().forge(paid.Body()))
	if err != nil {
		return err
	}
	show(answer.String())
	if !bytes.Contains(answer.body, []byte("FAIL")) || d.api == wepay.V3 && answer.status < 400 || len(d.orders.deliveredOf("demo-9999")) != 0 {
		return errors.New("a forged notification was taken")
	}
	say("The signature is not over that: refused, and the order service got nothing.")
	return nil
}

func (d *demo) showStranger(ctx context.Context) error {
	say("Somebody who does not have the token asks for a refund:")
	answer, err := d.post(ctx, "refund", http.Header{"Content-Type": {"application/json"}},
		[]byte(`{"out_trade_no":"demo-1001","out_refund_no":"r9","total_fee":1200,"refund_fee":1000}`))
	if err != nil {
		return err
	}
	show(answer.String())
	if !bytes.Contains(answer.body, []byte(`"errcode":401`)) || len(d.wechat.Requests(d.paths().refund)) != 1 {
		return errors.New("a stranger was let in")
	}
	return nil
}

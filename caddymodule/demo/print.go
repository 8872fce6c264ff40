package demo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// say prints a sentence.
func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// show prints what went over the wire, set in.
func show(wire string) {
	fmt.Println("    " + strings.ReplaceAll(strings.TrimSpace(wire), "\n", "\n    ") + "\n")
}

// showAnswers prints what WeChat was answered.
func showAnswers(delivery *wepaytest.Delivery) {
	for _, attempt := range delivery.Attempts() {
		show(fmt.Sprintf("HTTP %d\n%s", attempt.Status, attempt.Answer))
	}
}

// marshal writes JSON as people read it.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return b.Bytes(), err
}

// introduce says what is running.
func (d *demo) introduce(config string) {
	say("微信支付演示: 模拟的微信支付、带 wepay 模块的 Caddy、一个订单服务, 都在这台机器上, 不涉及真实资金。")
	say("A WeChat Pay, a Caddy with the wepay module and an order service, all on this machine; no real money.\n")
	say("  WeChat Pay     %s", d.wechat.URL)
	say("  Caddy          %s", d.site)
	say("  order service  %s\n", d.orders.url)
	say("Caddy runs with this Caddyfile:")
	show(config)
}

// invite prints the lines to go on with.
func (d *demo) invite() {
	say("\n── 自己试试: try it yourself (Ctrl-C ends it)\n")
	say("Place an order:")
	show(fmt.Sprintf(`curl %s/apis/v1/wepay/get_pay_request_params -H 'Authorization: Bearer %s' \
  -d '{"id":"my-order-1","fee":100,"body":"test","openid":"oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"}'`, d.site, d.token))
	say("Be the customer and pay it; shows the notification and Caddy's answer:")
	show(fmt.Sprintf(`curl %s/customer_pays -d out_trade_no=my-order-1`, d.orders.url))
	say("See what became of an order, with all times (the second order is yours):")
	for _, order := range []string{firstOrder, "my-order-1"} {
		show(fmt.Sprintf(`%s wepay order %s --address %s`, os.Args[0], order, d.admin()))
	}
	say("Ask how it stands:")
	show(fmt.Sprintf(`curl %s/apis/v1/wepay/order_query -H 'Authorization: Bearer %s' -d '{"out_trade_no":"my-order-1"}'`, d.site, d.token))
	say("Give it back:")
	show(fmt.Sprintf(`curl %s/apis/v1/wepay/refund -H 'Authorization: Bearer %s' \
  -d '{"out_trade_no":"my-order-1","out_refund_no":"my-refund-1","total_fee":100,"refund_fee":100}'`, d.site, d.token))
	say("Forge a notification:")
	show(fmt.Sprintf(`curl %s/apis/v1/wepay/pay_notify -d '<xml><return_code>SUCCESS</return_code><mch_id>%s</mch_id><appid>%s</appid></xml>'`, d.site, shopMchID, shopAppID))
	say("Caddy's log: %s/caddy.log", d.dir)
}

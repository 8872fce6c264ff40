package wepaytest_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// An order is placed, paid and refunded; the reply to the refund is lost, and
// asking for it again does no harm.
func Example() {
	wechat, err := wepaytest.NewServer()
	if err != nil {
		log.Fatal(err)
	}
	defer wechat.Close()
	account := wepaytest.Merchant{MchID: "1900000109", AppIDs: []string{"wx00112233445566aa"}, Key: "0123456789abcdef0123456789abcdef"}
	if err := wechat.AddMerchant(account); err != nil {
		log.Fatal(err)
	}
	credential, err := wechat.Issue(account.MchID)
	if err != nil {
		log.Fatal(err)
	}
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<xml><return_code>SUCCESS</return_code></xml>")
	}))
	defer site.Close()

	merchant := &wepay.Merchant{
		Name: "shop", Env: wepay.NATIVE, Type: wepay.Direct,
		AppID: account.AppIDs[0], MchID: account.MchID, PartnerKey: account.Key,
		SignType: wepay.MD5, Certificate: &credential.Certificate,
		NotifyURL: site.URL, Endpoints: []string{wechat.URL},
	}
	transport := wepay.NewTransport(merchant)
	transport.TLSClientConfig.RootCAs = wechat.RootCAs()
	defer transport.CloseIdleConnections()
	client := apiv2.NewClient(merchant, wepay.ClientOptions{Transport: transport})

	ctx := context.Background()
	if _, err := client.Do(ctx, wepay.PlaceOrder, wepay.NewFields(map[string]string{
		"out_trade_no": "20260101-0001", "total_fee": "1200", "body": "socks", "spbill_create_ip": "203.0.113.9",
	})); err != nil {
		log.Fatal(err)
	}
	delivery, err := wechat.Pay(account.MchID, "20260101-0001")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("notification taken:", delivery.Taken())

	refund := wepay.NewFields(map[string]string{
		"out_trade_no": "20260101-0001", "out_refund_no": "R-0001", "total_fee": "1200", "refund_fee": "500",
	})
	wechat.Misbehave("/secapi/pay/refund", wepaytest.Fault{Kind: wepaytest.CutOff})
	_, err = client.Do(ctx, wepay.Refund, refund)
	fmt.Println("refund answered:", err == nil)
	_, err = client.Do(ctx, wepay.Refund, refund)
	fmt.Println("refund answered:", err == nil)

	order, _ := wechat.Order(account.MchID, "20260101-0001")
	fmt.Println("refunded:", order.Refunded, "fen in", order.Refunds, "refund")
	// Output:
	// notification taken: true
	// refund answered: false
	// refund answered: true
	// refunded: 500 fen in 1 refund
}

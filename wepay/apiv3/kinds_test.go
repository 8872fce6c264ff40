package apiv3

import (
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// customer is a merchant of wepaytest's WeChat that asks by hand, so that these
// tests need nothing of the client.
type customer struct {
	tb        testing.TB
	wechat    *wepaytest.Server
	clock     *wepaytest.FakeClock
	merchant  *wepay.Merchant
	merchants *wepay.Merchants
	client    *http.Client
}

const other = "1900000110" // a second merchant, who gets money

func newCustomer(tb testing.TB) *customer {
	tb.Helper()
	clock := wepaytest.NewFakeClock(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC))
	wechat, err := wepaytest.NewServer(wepaytest.WithClock(clock))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(wechat.Close)
	c := &customer{tb: tb, wechat: wechat, clock: clock, merchant: &wepay.Merchant{
		Name: "shop", MchID: "1900000109", AppID: "wx00112233445566aa", APIv3Key: "v3v3v3v3v3v3v3v3v3v3v3v3v3v3v3v3", Env: wepay.H5,
	}}
	for _, m := range []wepaytest.Merchant{
		{MchID: c.merchant.MchID, AppIDs: []string{c.merchant.AppID}, APIv3Key: c.merchant.APIv3Key, Mode: wepaytest.ByPublicKey},
		{MchID: other, APIv3Key: c.merchant.APIv3Key},
	} {
		if err := wechat.AddMerchant(m); err != nil {
			tb.Fatal(err)
		}
	}
	credential, err := wechat.Issue(c.merchant.MchID)
	if err != nil {
		tb.Fatal(err)
	}
	c.merchant.MchSerial, c.merchant.PrivateKey = credential.Serial, credential.Certificate.PrivateKey.(*rsa.PrivateKey)
	id, text, err := wechat.PublicKey(c.merchant.MchID)
	if err != nil {
		tb.Fatal(err)
	}
	c.merchant.PublicKeyID, c.merchant.PublicKey = id, publicKey(tb, string(text))
	if c.merchants, err = wepay.NewMerchants(c.merchant); err != nil {
		tb.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: wechat.RootCAs(), MinVersion: tls.VersionTLS12}}
	tb.Cleanup(transport.CloseIdleConnections)
	c.client = &http.Client{Transport: transport}
	return c
}

// ask posts what WeChat has to grant.
func (c *customer) ask(path string, body object) object {
	c.tb.Helper()
	text, err := encode(body)
	if err != nil {
		c.tb.Fatal(err)
	}
	auth, err := authorization(c.merchant, http.MethodPost, path, string(text), c.clock.Now())
	if err != nil {
		c.tb.Fatal(err)
	}
	r, err := http.NewRequestWithContext(c.tb.Context(), http.MethodPost, c.wechat.URL+path, strings.NewReader(string(text)))
	if err != nil {
		c.tb.Fatal(err)
	}
	r.Header = http.Header{
		"Authorization": {auth}, "Content-Type": {"application/json"}, "Accept": {"application/json"}, "User-Agent": {"customer"},
		headerSerial: {c.merchant.PublicKeyID},
	}
	resp, err := c.client.Do(r)
	if err != nil {
		c.tb.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		c.tb.Fatalf("%s: %d %s, %v", path, resp.StatusCode, answer, err)
	}
	told := object{}
	if err := decode(answer, &told); err != nil {
		c.tb.Fatal(err)
	}
	return told
}

// take takes what WeChat sends, all the way to the merchant that it is for.
func (c *customer) take(d *wepaytest.Delivery, err error) (*wepay.Notification, error) {
	c.tb.Helper()
	if err != nil {
		c.tb.Fatal(err)
	}
	header, err := d.Header()
	if err != nil {
		c.tb.Fatal(err)
	}
	u, err := ReadNotification(header, d.Body())
	if err != nil {
		return nil, err
	}
	key, err := NewKeyRing(c.merchant, nil, wepay.ClientOptions{}).Key(c.tb.Context(), u)
	if err != nil {
		return nil, err
	}
	s, err := u.Verify(key, c.clock.Now())
	if err != nil {
		return nil, err
	}
	o, err := s.Open(c.merchant.APIv3Key)
	if err != nil {
		return nil, err
	}
	merchant, err := c.merchants.Receiver("", o.Recipient())
	if err != nil {
		return nil, err
	}
	return o.Notification(merchant, c.merchants.AppID("", o.Recipient())), nil
}

// told is take of what is right.
func (c *customer) told(d *wepaytest.Delivery, err error) *wepay.Notification {
	c.tb.Helper()
	n, err := c.take(d, err)
	if err != nil {
		c.tb.Fatal(err)
	}
	return n
}

func (c *customer) order(number string, total int) {
	c.tb.Helper()
	c.ask("/v3/pay/transactions/jsapi", object{
		"appid": c.merchant.AppID, "mchid": c.merchant.MchID, "description": "袜子", "out_trade_no": number, "notify_url": "https://127.0.0.1:1/",
		"attach": "shelf <7>", "amount": object{"total": total, "currency": "CNY"}, "payer": object{"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},
	})
}

// same checks a notification's fields but those that WeChat numbers.
func (c *customer) same(n *wepay.Notification, kind wepay.Kind, want map[string]string, numbers ...string) {
	c.tb.Helper()
	if n.Kind != kind || n.Merchant != c.merchant || n.Omitted != "" {
		c.tb.Errorf("it is a %s for %v, omitted %q", n.Kind, n.Merchant, n.Omitted)
	}
	fields := n.Fields.Clone()
	for _, name := range numbers {
		if fields.Get(name) == "" {
			c.tb.Errorf("it has no %s", name)
		}
		fields.Delete(name)
	}
	differ(c.tb, fields, want, map[string]string{"return_code": "SUCCESS", "mch_id": c.merchant.MchID})
}

func TestPaymentAndRefundFromWeChat(t *testing.T) {
	c := newCustomer(t)
	c.order("ORDER-0001", 1000)
	paid := c.told(c.wechat.Pay(c.merchant.MchID, "ORDER-0001", wepaytest.Held(), wepaytest.WithCoupons(
		wepaytest.Coupon{Type: wepaytest.Cash, ID: "10001", Fee: 60}, wepaytest.Coupon{Type: wepaytest.NoCash, ID: "10002", Fee: 40},
	)))
	c.same(paid, wepay.Payment, map[string]string{
		"result_code": "SUCCESS", "appid": c.merchant.AppID, "openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", "trade_type": "JSAPI", "attach": "shelf <7>",
		"out_trade_no": "ORDER-0001", "total_fee": "1000", "cash_fee": "900", "fee_type": "CNY", "cash_fee_type": "CNY", "time_end": "20260101200000",
		"coupon_fee": "100", "coupon_count": "2", "coupon_id_0": "10001", "coupon_fee_0": "60", "coupon_type_0": "CASH",
		"coupon_id_1": "10002", "coupon_fee_1": "40", "coupon_type_1": "NO_CASH", "settlement_total_fee": "960",
	}, "transaction_id", "bank_type")

	c.order("ORDER-0002", 500)
	paid = c.told(c.wechat.Pay(c.merchant.MchID, "ORDER-0002", wepaytest.Held()))
	c.ask("/v3/refund/domestic/refunds", object{
		"out_trade_no": "ORDER-0002", "out_refund_no": "R-1", "notify_url": "https://127.0.0.1:1/",
		"amount": object{"refund": 200, "total": 500, "currency": "CNY"},
	})
	refund := c.told(c.wechat.FinishRefund(c.merchant.MchID, "R-1", wepaytest.RefundSuccess, wepaytest.Held()))
	c.same(refund, wepay.Refunded, map[string]string{
		"appid": c.merchant.AppID, "out_trade_no": "ORDER-0002", "out_refund_no": "R-1", "refund_status": "SUCCESS", "success_time": "2026-01-01 20:00:00",
		"total_fee": "500", "refund_fee": "200", "settlement_refund_fee": "200",
	}, "transaction_id", "refund_id", "refund_recv_accout")
	if refund.PrecedingID() != paid.EventID() {
		t.Error("the refund does not know its payment")
	}
}

func TestTransfersFromWeChat(t *testing.T) {
	c := newCustomer(t)
	if err := c.wechat.Deposit(c.merchant.MchID, 2000); err != nil {
		t.Fatal(err)
	}
	c.ask("/v3/fund-app/mch-transfer/transfer-bills", object{
		"appid": c.merchant.AppID, "out_bill_no": "T1", "transfer_scene_id": "1000", "openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", "transfer_amount": 300,
		"transfer_remark": "活动奖励", "notify_url": "https://127.0.0.1:1/",
		"transfer_scene_report_infos": []object{{"info_type": "活动名称", "info_content": "新会员有礼"}},
	})
	bill := c.told(c.wechat.ConfirmTransfer(c.merchant.MchID, "T1", wepaytest.Held()))
	c.same(bill, wepay.Transferred, map[string]string{
		"out_bill_no": "T1", "state": "SUCCESS", "transfer_amount": "300", "openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o",
		"create_time": "2026-01-01 20:00:00", "update_time": "2026-01-01 20:00:00",
	}, "transfer_bill_no")

	c.ask("/v3/transfer/batches", object{
		"appid": c.merchant.AppID, "out_batch_no": "B1", "batch_name": "奖励", "batch_remark": "一月", "total_amount": 700, "total_num": 2, "notify_url": "https://127.0.0.1:1/",
		"transfer_detail_list": []object{
			{"out_detail_no": "D1", "transfer_amount": 300, "transfer_remark": "奖励", "openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},
			{"out_detail_no": "D2", "transfer_amount": 400, "transfer_remark": "奖励", "openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},
		},
	})
	batch := c.told(c.wechat.FinishBatch(c.merchant.MchID, "B1", map[string]string{"D2": "ACCOUNT_FROZEN"}, wepaytest.Held()))
	c.same(batch, wepay.Transferred, map[string]string{
		"out_batch_no": "B1", "batch_status": "FINISHED", "total_amount": "700", "total_num": "2", "success_amount": "300", "success_num": "1",
		"fail_amount": "400", "fail_num": "1", "update_time": "2026-01-01 20:00:00",
	}, "batch_id")
	if bill.EventID() == batch.EventID() {
		t.Error("a transfer and a batch are one event")
	}
}

func TestCombinedFromWeChat(t *testing.T) {
	c := newCustomer(t)
	part := func(of, number string, total int) object {
		return object{"mchid": of, "out_trade_no": number, "attach": "a", "description": "袜子", "amount": object{"total_amount": total, "currency": "CNY"}}
	}
	c.ask("/v3/combine-transactions/jsapi", object{
		"combine_appid": c.merchant.AppID, "combine_mchid": c.merchant.MchID, "combine_out_trade_no": "COMBINE-1", "notify_url": "https://127.0.0.1:1/",
		"combine_payer_info": object{"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},
		"sub_orders":         []object{part(c.merchant.MchID, "COMBINE-1-1", 100), part(other, "COMBINE-1-2", 250)},
	})
	n := c.told(c.wechat.PayCombined(c.merchant.MchID, "COMBINE-1", wepaytest.Held()))
	want := map[string]string{
		"result_code": "SUCCESS", "appid": c.merchant.AppID, "openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", "combine_out_trade_no": "COMBINE-1", "sub_order_count": "2",
		"mch_id_0": c.merchant.MchID, "out_trade_no_0": "COMBINE-1-1", "total_fee_0": "100", "cash_fee_0": "100",
		"mch_id_1": other, "out_trade_no_1": "COMBINE-1-2", "total_fee_1": "250", "cash_fee_1": "250",
	}
	for _, i := range []string{"_0", "_1"} {
		want["attach"+i], want["fee_type"+i], want["cash_fee_type"+i], want["trade_type"+i], want["time_end"+i] = "a", "CNY", "CNY", "JSAPI", "20260101200000"
	}
	c.same(n, wepay.CombinedPayment, want, "transaction_id_0", "transaction_id_1", "bank_type_0", "bank_type_1")
}

// WeChat is known to tell of profit sharing as of a payment.
func TestProfitSharingFromWeChat(t *testing.T) {
	c := newCustomer(t)
	resource := object{
		"mchid": c.merchant.MchID, "transaction_id": "4200000000000000000000000001", "order_id": "3008450740201411110007820472", "out_order_no": "P20150806125346",
		"receiver":     object{"type": "MERCHANT_ID", "account": other, "amount": 888, "description": "运费/交易分账"},
		"success_time": "2018-06-08T10:34:56+08:00",
	}
	ids := map[string]bool{}
	for event, original := range map[string]string{
		"PROFITSHARING.SUCCESS": "profitsharing", "PROFITSHARING.RETURN": "profitsharing", "TRANSACTION.SUCCESS": "transaction",
		"PROFITSHARING": "profitsharing", "PROFITSHARING_RETURN": "profitsharing",
	} {
		n := c.told(c.wechat.Notify(c.merchant.MchID, wepaytest.Event{Type: event, OriginalType: original, Summary: "分账", Resource: resource}, wepaytest.Held()))
		c.same(n, wepay.ProfitShared, map[string]string{
			"event_type": event, "summary": "分账", "transaction_id": "4200000000000000000000000001", "order_id": "3008450740201411110007820472", "out_order_no": "P20150806125346",
			"receiver_type": "MERCHANT_ID", "receiver_account": other, "receiver_amount": "888", "receiver_description": "运费/交易分账", "success_time": "2018-06-08 10:34:56",
		})
		ids[n.EventID()] = true
	}
	if len(ids) != 5 {
		t.Errorf("%d events, want 5", len(ids))
	}
	for _, returned := range []object{{}, {"out_return_no": "R1"}, {"out_return_no": "R2"}, {"return_no": "3"}, {"return_no": "4"}, {"return_id": "4"}, {"out_return_no": "4"}} {
		changed := maps.Clone(resource)
		maps.Copy(changed, returned)
		n := c.told(c.wechat.Notify(c.merchant.MchID, wepaytest.Event{Type: "TRANSACTION.SUCCESS", OriginalType: "transaction", Summary: "分账回退", Resource: changed}, wepaytest.Held()))
		for name, value := range returned {
			if n.Fields.Get(name) != value {
				t.Errorf("%s is %q, want %q", name, n.Fields.Get(name), value)
			}
		}
		ids[n.EventID()] = true
	}
	if len(ids) != 12 {
		t.Errorf("%d events, want 12", len(ids))
	}
	resource["receiver"].(object)["description"] = "另"
	n := c.told(c.wechat.Notify(c.merchant.MchID, wepaytest.Event{Type: "TRANSACTION.SUCCESS", OriginalType: "transaction", Summary: "分账", Resource: resource}, wepaytest.Held()))
	if ids[n.EventID()] {
		t.Error("with another description it is the same event")
	}
}

func TestFaultsFromWeChat(t *testing.T) {
	c, orders := newCustomer(t), 0
	changed := func(name, value string) wepaytest.Fault {
		return wepaytest.Fault{Kind: wepaytest.HeaderChanged, Header: name, Message: value}
	}
	with := func(f wepaytest.Fault) []wepaytest.PayOption {
		return []wepaytest.PayOption{wepaytest.Held(), wepaytest.WithFault(f)}
	}
	member := func(path string, value any) []wepaytest.PayOption {
		return []wepaytest.PayOption{wepaytest.Held(), wepaytest.WithMember(path, value)}
	}
	for name, test := range map[string]struct {
		options []wepaytest.PayOption
		want    error
	}{
		"a probe":               {with(wepaytest.Fault{Kind: wepaytest.Probe}), wepay.ErrProbe},
		"a wrong signature":     {with(wepaytest.Fault{Kind: wepaytest.WrongSignature}), wepay.ErrSignature},
		"no signature":          {with(wepaytest.Fault{Kind: wepaytest.NoSignature}), wepay.ErrUnsigned},
		"late":                  {with(wepaytest.Fault{Kind: wepaytest.Skewed, Delay: -301 * time.Second}), wepay.ErrStale},
		"early":                 {with(wepaytest.Fault{Kind: wepaytest.Skewed, Delay: 301 * time.Second}), wepay.ErrStale},
		"a header missing":      {with(wepaytest.Fault{Kind: wepaytest.HeaderMissing, Header: headerNonce}), wepay.ErrUnsigned},
		"a header doubled":      {with(wepaytest.Fault{Kind: wepaytest.HeaderDoubled, Header: headerSerial}), wepay.ErrMalformed},
		"another APIv3 key":     {with(wepaytest.Fault{Kind: wepaytest.WrongKey}), wepay.ErrAPIv3Key},
		"the merchant's serial": {with(changed(headerSerial, c.merchant.MchSerial)), wepay.ErrUnknownKey},
		"another public key":    {with(changed(headerSerial, "PUB_KEY_ID_9")), wepay.ErrUnknownKey},
		"a serial that is none": {with(changed(headerSerial, "0")), wepay.ErrUnknownKey},
		"of another merchant":   {member("mchid", other), wepay.ErrForeign},
		"of another app":        {member("appid", "wx0000000000000000"), wepay.ErrForeign},
		"of a sub-merchant":     {member("sub_mchid", "1900000209"), wepay.ErrForeign},
		"as it is":              {member("attach", "b"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			orders++
			number := "ORDER-" + strconv.Itoa(orders)
			c.order(number, 1000)
			n, err := c.take(c.wechat.Pay(c.merchant.MchID, number, test.options...))
			if !errors.Is(err, test.want) || (err == nil) != (n != nil) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

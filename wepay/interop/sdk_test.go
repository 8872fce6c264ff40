package interop

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/wechatpay-apiv3/wechatpay-go/core"
	"github.com/wechatpay-apiv3/wechatpay-go/core/consts"
	"github.com/wechatpay-apiv3/wechatpay-go/core/option"
	"github.com/wechatpay-apiv3/wechatpay-go/services/payments"
	"github.com/wechatpay-apiv3/wechatpay-go/services/payments/app"
	"github.com/wechatpay-apiv3/wechatpay-go/services/payments/h5"
	"github.com/wechatpay-apiv3/wechatpay-go/services/payments/jsapi"
	"github.com/wechatpay-apiv3/wechatpay-go/services/payments/native"
	"github.com/wechatpay-apiv3/wechatpay-go/services/profitsharing"
	"github.com/wechatpay-apiv3/wechatpay-go/services/refunddomestic"
	"github.com/wechatpay-apiv3/wechatpay-go/services/transferbatch"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

func (s *shop) prepay(number string, total int64, shared bool) jsapi.PrepayRequest {
	return jsapi.PrepayRequest{
		Appid: core.String(appID), Mchid: core.String(mchID), Description: core.String("福州路店 - 袜子"),
		OutTradeNo: core.String(number), Attach: core.String("shelf <7>"), NotifyUrl: core.String(s.site.URL),
		TimeExpire: core.Time(time.Now().Add(time.Hour)),
		Amount:     &jsapi.Amount{Total: core.Int64(total), Currency: core.String("CNY")},
		Payer:      &jsapi.Payer{Openid: core.String(openID)}, SettleInfo: &jsapi.SettleInfo{ProfitSharing: core.Bool(shared)},
	}
}

// pay places an order and has it paid, and returns its transaction_id.
func (s *shop) pay(number string, total int64, shared bool) string {
	s.t.Helper()
	orders := jsapi.JsapiApiService{Client: s.client}
	must2(orders.Prepay(s.t.Context(), s.prepay(number, total, shared)))(s.t)
	if d := must(s.wechat.Pay(mchID, number))(s.t); !d.Taken() {
		s.t.Fatalf("the SDK refuses the notification: %+v", d.Attempts())
	}
	o, _ := s.wechat.Order(mchID, number)
	return o.TransactionID
}

func TestOrders(t *testing.T) {
	inBothModes(t, func(t *testing.T, s *shop) {
		id := s.pay("ORDER-0001", 1200, false)
		var told payments.Transaction
		if r := s.read(&told); r.EventType != "TRANSACTION.SUCCESS" || *told.TransactionId != id || *told.Amount.PayerTotal != 1200 || *told.Payer.Openid != openID {
			t.Errorf("the SDK reads %v: %v", r, told)
		}
		orders := jsapi.JsapiApiService{Client: s.client}
		byNumber := must2(orders.QueryOrderByOutTradeNo(t.Context(), jsapi.QueryOrderByOutTradeNoRequest{OutTradeNo: core.String("ORDER-0001"), Mchid: core.String(mchID)}))(t)
		byID := must2(orders.QueryOrderById(t.Context(), jsapi.QueryOrderByIdRequest{TransactionId: core.String(id), Mchid: core.String(mchID)}))(t)
		if *byNumber.TradeState != "SUCCESS" || *byID.OutTradeNo != "ORDER-0001" || *byID.Attach != "shelf <7>" {
			t.Errorf("the SDK is told %v and %v", byNumber, byID)
		}
		parameters, _, err := orders.PrepayWithRequestPayment(t.Context(), s.prepay("ORDER-0002", 100, false))
		if err != nil || *parameters.SignType != "RSA" {
			t.Errorf("the client's parameters are %v, error %v", parameters, err)
		}
		if _, err := orders.CloseOrder(t.Context(), jsapi.CloseOrderRequest{OutTradeNo: core.String("ORDER-0002"), Mchid: core.String(mchID)}); err != nil {
			t.Error(err)
		}
		_, err = orders.CloseOrder(t.Context(), jsapi.CloseOrderRequest{OutTradeNo: core.String("ORDER-0001"), Mchid: core.String(mchID)})
		if !core.IsAPIError(err, "ORDERPAID") {
			t.Errorf("closing a paid order gives %v", err)
		}
	})
}

func TestProducts(t *testing.T) {
	inBothModes(t, func(t *testing.T, s *shop) {
		text := core.String
		a := must2((&app.AppApiService{Client: s.client}).Prepay(t.Context(), app.PrepayRequest{
			Appid: text(appID), Mchid: text(mchID), Description: text("袜子"), OutTradeNo: text("ORDER-APP"), NotifyUrl: text(s.site.URL),
			Amount: &app.Amount{Total: core.Int64(1)},
		}))(t)
		h := must2((&h5.H5ApiService{Client: s.client}).Prepay(t.Context(), h5.PrepayRequest{
			Appid: text(appID), Mchid: text(mchID), Description: text("袜子"), OutTradeNo: text("ORDER-H5"), NotifyUrl: text(s.site.URL),
			Amount:    &h5.Amount{Total: core.Int64(1)},
			SceneInfo: &h5.SceneInfo{PayerClientIp: text("203.0.113.9"), H5Info: &h5.H5Info{Type: text("Wap")}},
		}))(t)
		n := must2((&native.NativeApiService{Client: s.client}).Prepay(t.Context(), native.PrepayRequest{
			Appid: text(appID), Mchid: text(mchID), Description: text("袜子"), OutTradeNo: text("ORDER-NATIVE"), NotifyUrl: text(s.site.URL),
			Amount: &native.Amount{Total: core.Int64(1)},
		}))(t)
		if a.PrepayId == nil || h.H5Url == nil || n.CodeUrl == nil {
			t.Errorf("the SDK is told %v, %v and %v", a, h, n)
		}
	})
}

func TestRefunds(t *testing.T) {
	inBothModes(t, func(t *testing.T, s *shop) {
		s.pay("ORDER-0001", 1000, false)
		refunds := refunddomestic.RefundsApiService{Client: s.client}
		request := refunddomestic.CreateRequest{
			OutTradeNo: core.String("ORDER-0001"), OutRefundNo: core.String("R-1@x"), NotifyUrl: core.String(s.site.URL),
			Amount: &refunddomestic.AmountReq{Refund: core.Int64(300), Total: core.Int64(1000), Currency: core.String("CNY")},
		}
		made := must2(refunds.Create(t.Context(), request))(t)
		if d, err := s.wechat.FinishRefund(mchID, "R-1@x", wepaytest.RefundSuccess); err != nil || !d.Taken() {
			t.Errorf("the SDK refuses the notification, error %v", err)
		}
		var told map[string]any
		if r := s.read(&told); r.EventType != "REFUND.SUCCESS" || told["refund_id"] != *made.RefundId || told["refund_status"] != "SUCCESS" {
			t.Errorf("the SDK reads %v: %v", r, told)
		}
		found := must2(refunds.QueryByOutRefundNo(t.Context(), refunddomestic.QueryByOutRefundNoRequest{OutRefundNo: core.String("R-1@x")}))(t)
		if *made.Status != refunddomestic.STATUS_PROCESSING || *found.Status != refunddomestic.STATUS_SUCCESS || *found.Amount.SettlementRefund != 300 {
			t.Errorf("the SDK is told %v, then %v", made, found)
		}
		request.OutRefundNo, request.Amount.Refund = core.String("R-2"), core.Int64(701)
		if _, _, err := refunds.Create(t.Context(), request); !core.IsAPIError(err, "INVALID_REQUEST") {
			t.Errorf("more than the rest gives %v", err)
		}
	})
}

// complain has a customer complain, whereof the SDK has to take the notification.
func (s *shop) complain() {
	s.t.Helper()
	d := must(s.wechat.Notify(mchID, wepaytest.Event{
		URL: s.site.URL, Type: "COMPLAINT.CREATE", OriginalType: "complaint", Summary: "产生新投诉",
		Resource: map[string]string{"complaint_id": "1", "action_type": "CREATE_COMPLAINT"},
	}))(s.t)
	if !d.Taken() {
		s.t.Error("the SDK refuses the notification")
	}
}

// Events of any kind, and payments from abroad, are as the SDK reads them.
func TestEvents(t *testing.T) {
	inBothModes(t, func(t *testing.T, s *shop) {
		s.complain()
		var complaint map[string]string
		if r := s.read(&complaint); r.EventType != "COMPLAINT.CREATE" || r.Summary != "产生新投诉" || complaint["complaint_id"] != "1" {
			t.Errorf("the SDK reads %v: %v", r, complaint)
		}
		must(s.wechat.Notify(mchID, wepaytest.Event{
			URL: s.site.URL, Type: "SECURITY_ECHO.SUCCESS", OriginalType: "security", Resource: map[string]string{"echo_message": "hello"},
		}))(t)
		var echo map[string]string
		if r := s.read(&echo); r.EventType != "SECURITY_ECHO.SUCCESS" || echo["echo_message"] != "hello" {
			t.Errorf("the SDK reads %v: %v", r, echo)
		}
		must2((&jsapi.JsapiApiService{Client: s.client}).Prepay(t.Context(), s.prepay("ORDER-0001", 1000, false)))(t)
		must(s.wechat.Pay(mchID, "ORDER-0001", wepaytest.Abroad("HKD", 92_000_000)))(t)
		var paid payments.Transaction
		if s.read(&paid); *paid.Amount.Currency != "HKD" || *paid.Amount.PayerTotal != 920 || paid.TransactionId != nil {
			t.Errorf("the SDK reads %v", paid)
		}
	})
}

// The SDK has no service for bills, but signs and verifies what is asked by hand.
func TestBill(t *testing.T) {
	inBothModes(t, func(t *testing.T, s *shop) {
		s.clock.turn(-48 * time.Hour)
		day := s.clock.Now().In(time.FixedZone("", 8*60*60)).Format("2006-01-02")
		fill := s.clock.Now().In(time.FixedZone("", 8*60*60)).Format("20060102")
		if err := s.wechat.FillBill(mchID, fill, 100); err != nil {
			t.Fatal(err)
		}
		s.clock.turn(0)
		result := must(s.client.Get(t.Context(), consts.WechatPayAPIServer+"/v3/bill/tradebill?bill_date="+day))(t)
		var offer struct {
			Hash string `json:"hash_value"`
			URL  string `json:"download_url"`
		}
		if err := json.NewDecoder(result.Response.Body).Decode(&offer); err != nil {
			t.Fatal(err)
		}
		files := must(core.NewClient(t.Context(), option.WithMerchantCredential(mchID, s.serial, s.key), option.WithoutValidator(), option.WithHTTPClient(s.http)))(t)
		file := must(files.Get(t.Context(), offer.URL))(t)
		content := must(io.ReadAll(file.Response.Body))(t)
		if sum := sha1.Sum(content); hex.EncodeToString(sum[:]) != offer.Hash || bytes.Count(content, []byte("\n")) != 103 {
			t.Errorf("the bill has %d lines, and the digest %x for %s", bytes.Count(content, []byte("\n")), sum, offer.Hash)
		}
		if _, err := s.client.Get(t.Context(), offer.URL); err == nil {
			t.Error("the SDK verified a file that nobody signs")
		}
	})
}

func TestTransfers(t *testing.T) {
	inBothModes(t, func(t *testing.T, s *shop) {
		if err := s.wechat.Deposit(mchID, 500_000); err != nil {
			t.Fatal(err)
		}
		text := core.String
		batches := transferbatch.TransferBatchApiService{Client: s.client}
		made := must2(batches.InitiateBatchTransfer(t.Context(), transferbatch.InitiateBatchTransferRequest{
			Appid: text(appID), OutBatchNo: text("B1"), BatchName: text("奖励"), BatchRemark: text("一月"), NotifyUrl: text(s.site.URL),
			TotalAmount: core.Int64(300_000), TotalNum: core.Int64(1),
			TransferDetailList: []transferbatch.TransferDetailInput{{
				OutDetailNo: text("D1"), TransferAmount: core.Int64(300_000), TransferRemark: text("奖励"), Openid: text(openID), UserName: text("张三"),
			}},
		}))(t)
		if d, err := s.wechat.FinishBatch(mchID, "B1", nil); err != nil || !d.Taken() {
			t.Errorf("the SDK refuses the notification, error %v", err)
		}
		found := must2(batches.GetTransferBatchByOutNo(t.Context(), transferbatch.GetTransferBatchByOutNoRequest{
			OutBatchNo: text("B1"), NeedQueryDetail: core.Bool(true), Offset: core.Int64(0), Limit: core.Int64(20), DetailStatus: text("ALL"),
		}))(t)
		if *made.OutBatchNo != "B1" || *found.TransferBatch.BatchStatus != "FINISHED" || *found.TransferDetailList[0].DetailStatus != "SUCCESS" {
			t.Errorf("the SDK is told %v, then %v", made, found)
		}
		details := transferbatch.TransferDetailApiService{Client: s.client}
		detail := must2(details.GetTransferDetailByOutNo(t.Context(), transferbatch.GetTransferDetailByOutNoRequest{OutDetailNo: text("D1"), OutBatchNo: text("B1")}))(t)
		if *detail.TransferAmount != 300_000 {
			t.Errorf("the SDK is told %v", detail)
		}
		s.confirm()
	})
}

// confirm makes a transfer of the new kind, which the SDK has no service for.
func (s *shop) confirm() {
	s.t.Helper()
	must(s.client.Post(s.t.Context(), consts.WechatPayAPIServer+"/v3/fund-app/mch-transfer/transfer-bills", map[string]any{
		"appid": appID, "out_bill_no": "T1", "transfer_scene_id": "1000", "openid": openID, "transfer_amount": 100,
		"transfer_remark": "奖励", "notify_url": s.site.URL, "user_recv_style": map[string]string{"type": "RED_PACKET"},
		"transfer_scene_report_infos": []any{map[string]string{"info_type": "活动名称", "info_content": "新会员有礼"}},
	}))(s.t)
	if d := must(s.wechat.ConfirmTransfer(mchID, "T1"))(s.t); !d.Taken() {
		s.t.Error("the SDK refuses the notification")
	}
	var told map[string]any
	if r := s.read(&told); r.EventType != "MCHTRANSFER.BILL.FINISHED" || told["state"] != "SUCCESS" {
		s.t.Errorf("the SDK reads %v: %v", r, told)
	}
}

func TestProfitSharing(t *testing.T) {
	inBothModes(t, func(t *testing.T, s *shop) {
		id := s.pay("ORDER-0001", 1000, true)
		text := core.String
		must2((&profitsharing.ReceiversApiService{Client: s.client}).AddReceiver(t.Context(), profitsharing.AddReceiverRequest{
			Appid: text(appID), Type: profitsharing.RECEIVERTYPE_MERCHANT_ID.Ptr(), Account: text(otherID), Name: text("另一家店"),
			RelationType: profitsharing.RECEIVERRELATIONTYPE_STORE.Ptr(),
		}))(t)
		orders := profitsharing.OrdersApiService{Client: s.client}
		must2(orders.CreateOrder(t.Context(), profitsharing.CreateOrderRequest{
			Appid: text(appID), TransactionId: text(id), OutOrderNo: text("SHARE-1"), UnfreezeUnsplit: core.Bool(false),
			Receivers: []profitsharing.CreateOrderReceiver{{
				Type: text("MERCHANT_ID"), Account: text(otherID), Name: text("另一家店"), Amount: core.Int64(200), Description: text("分给店铺"),
			}},
		}))(t)
		found := must2(orders.QueryOrder(t.Context(), profitsharing.QueryOrderRequest{TransactionId: text(id), OutOrderNo: text("SHARE-1")}))(t)
		if *found.State != profitsharing.ORDERSTATUS_FINISHED || *found.Receivers[0].Amount != 200 {
			t.Errorf("the SDK is told %v", found)
		}
		rest := must2((&profitsharing.TransactionsApiService{Client: s.client}).QueryOrderAmount(t.Context(), profitsharing.QueryOrderAmountRequest{TransactionId: text(id)}))(t)
		returns := profitsharing.ReturnOrdersApiService{Client: s.client}
		must2(returns.CreateReturnOrder(t.Context(), profitsharing.CreateReturnOrderRequest{
			OutOrderNo: text("SHARE-1"), OutReturnNo: text("BACK-1"), ReturnMchid: text(otherID), Amount: core.Int64(50), Description: text("退货"),
		}))(t)
		back := must2(returns.QueryReturnOrder(t.Context(), profitsharing.QueryReturnOrderRequest{OutOrderNo: text("SHARE-1"), OutReturnNo: text("BACK-1")}))(t)
		if *rest.UnsplitAmount != 800 || *back.Amount != 50 {
			t.Errorf("the SDK is told %v and %v", rest, back)
		}
		must2(orders.UnfreezeOrder(t.Context(), profitsharing.UnfreezeOrderRequest{TransactionId: text(id), OutOrderNo: text("SHARE-2"), Description: text("解冻")}))(t)
		if funds, _ := s.wechat.Funds(mchID); funds != (wepaytest.Funds{Available: 850}) {
			t.Errorf("the merchant has %+v", funds)
		}
	})
}

// The SDK's downloader follows a rotation, and its verifier with it.
func TestRotation(t *testing.T) {
	s := newShop(t, wepaytest.ByCertificate)
	certificates := s.download()
	serial := must(s.wechat.RotateCertificate(mchID))(t)
	if err := certificates.DownloadCertificates(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all := certificates.GetAll(t.Context()); len(all) != 2 || all[serial] == nil {
		t.Errorf("the SDK has %d certificates", len(all))
	}
	if _, err := s.client.Get(t.Context(), consts.WechatPayAPIServer+"/v3/certificates"); err != nil {
		t.Errorf("the old certificate, which the SDK names: %v", err)
	}
	none := newShop(t, wepaytest.ByPublicKey)
	_, err := none.client.Get(t.Context(), consts.WechatPayAPIServer+"/v3/certificates")
	if !core.IsAPIError(err, "RESOURCE_NOT_EXISTS") {
		t.Errorf("a merchant without certificates: %v", err)
	}
}

// What is spoilt the SDK refuses, and takes when it comes again.
func TestProbes(t *testing.T) {
	inBothModes(t, func(t *testing.T, s *shop) {
		for _, kind := range []wepaytest.FaultKind{wepaytest.Probe, wepaytest.WrongSignature, wepaytest.NoSignature, wepaytest.WrongKey} {
			number := "ORDER-000" + string(rune('0'+kind%10))
			orders := jsapi.JsapiApiService{Client: s.client}
			must2(orders.Prepay(t.Context(), s.prepay(number, 100, false)))(t)
			d := must(s.wechat.Pay(mchID, number, wepaytest.WithFault(wepaytest.Fault{Kind: kind})))(t)
			if d.Taken() {
				t.Errorf("the SDK takes fault %d", kind)
			}
			if err := d.Repeat(); err != nil || d.Taken() == (kind == wepaytest.WrongKey) {
				t.Errorf("fault %d: taken when it comes again is %t, error %v", kind, d.Taken(), err)
			}
		}
		s.wechat.Misbehave("/v3/pay/transactions/jsapi", wepaytest.Fault{Kind: wepaytest.Probe})
		orders := jsapi.JsapiApiService{Client: s.client}
		if _, _, err := orders.Prepay(t.Context(), s.prepay("ORDER-0100", 100, false)); err == nil {
			t.Error("the SDK accepts a probe")
		}
	})
}

func TestWrongSigner(t *testing.T) {
	s := newShop(t, wepaytest.ByPublicKey)
	client := must(core.NewClient(t.Context(),
		option.WithMerchantCredential(otherID, s.serial, s.key), option.WithVerifier(s.verifier), option.WithHTTPClient(s.http)))(t)
	_, err := client.Get(t.Context(), consts.WechatPayAPIServer+"/v3/certificates")
	var refused *core.APIError
	if !errors.As(err, &refused) || refused.StatusCode != http.StatusUnauthorized || refused.Code != "SIGN_ERROR" {
		t.Errorf("another merchant's certificate gives %v", err)
	}
}

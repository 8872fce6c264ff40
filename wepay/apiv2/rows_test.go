package apiv2_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// row is what WeChat's documents say of one operation.
type row struct {
	path        string
	ids         string         // the names of who calls, of a partner with a sub-merchant
	sign        wepay.SignType // "": the merchant's
	certificate bool
	payout      bool
	unsigned    bool // WeChat never signs the reply

	in    map[string]string // the smallest request
	adds  string            // the names of what is sent beyond it
	takes string            // the names of what is not sent of it
	reply map[string]string // what a good reply holds beyond what every reply does

	repeats string // a number that the reply repeats
	holds   string // a field without which the reply is none

	unanswered wepay.Verdict // no valid answer, or an unknown code
	system     wepay.Verdict // SYSTEMERROR
}

const (
	commonIDs   = "appid mch_id sub_appid sub_mch_id"
	transaction = "4200000000202001010000000001"
	someone     = `{"type":"MERCHANT_ID","account":"1900000110","relation_type":"STORE"}`
	sharers     = `[{"type":"MERCHANT_ID","account":"1900000110","amount":100,"description":"分到商户"}]`
)

// rows are all operations that send something.
var rows = map[wepay.Operation]row{
	wepay.PlaceOrder: {
		path: "/pay/unifiedorder", ids: commonIDs,
		in:    map[string]string{"out_trade_no": "A1", "total_fee": "1", "body": "x", "spbill_create_ip": "203.0.113.7"},
		adds:  "notify_url product_id trade_type",
		reply: map[string]string{"prepay_id": "wx1"}, holds: "prepay_id",
		unanswered: wepay.Query, system: wepay.Again,
	},
	wepay.QueryOrder: {
		path: "/pay/orderquery", ids: commonIDs,
		in:    map[string]string{"out_trade_no": "A1"},
		reply: map[string]string{"trade_state": "NOTPAY", "out_trade_no": "A1"}, repeats: "out_trade_no", holds: "trade_state",
		unanswered: wepay.Again, system: wepay.Again,
	},
	wepay.CloseOrder: {
		path: "/pay/closeorder", ids: commonIDs,
		in:    map[string]string{"out_trade_no": "A1"},
		reply: map[string]string{"out_trade_no": "A1"}, repeats: "out_trade_no",
		unanswered: wepay.Again, system: wepay.Again,
	},
	wepay.Refund: {
		path: "/secapi/pay/refund", ids: commonIDs, certificate: true,
		in:    map[string]string{"out_trade_no": "A1", "out_refund_no": "R1", "total_fee": "2", "refund_fee": "1"},
		reply: map[string]string{"out_refund_no": "R1"}, repeats: "out_refund_no",
		unanswered: wepay.Query, system: wepay.Again,
	},
	wepay.QueryRefund: {
		path: "/pay/refundquery", ids: commonIDs,
		in:    map[string]string{"transaction_id": transaction},
		reply: map[string]string{"refund_count": "1", "transaction_id": transaction}, repeats: "transaction_id", holds: "refund_count",
		unanswered: wepay.Again, system: wepay.Again,
	},
	wepay.Micropay: {
		path: "/pay/micropay", ids: commonIDs,
		in:    map[string]string{"auth_code": "134567890123456789", "out_trade_no": "A1", "total_fee": "1", "body": "x", "spbill_create_ip": "203.0.113.7"},
		reply: map[string]string{"transaction_id": transaction, "out_trade_no": "A1"}, repeats: "out_trade_no", holds: "transaction_id",
		unanswered: wepay.Query, system: wepay.Query,
	},
	wepay.Reverse: {
		path: "/secapi/pay/reverse", ids: commonIDs, certificate: true,
		in:    map[string]string{"out_trade_no": "A1"},
		reply: map[string]string{"recall": "N", "out_trade_no": "A1"}, repeats: "out_trade_no", holds: "recall",
		unanswered: wepay.Again, system: wepay.Again,
	},
	wepay.AuthCodeToOpenID: {
		path: "/tools/authcodetoopenid", ids: commonIDs,
		in:    map[string]string{"auth_code": "134567890123456789"},
		reply: map[string]string{"openid": "o1"}, holds: "openid",
		unanswered: wepay.Again, system: wepay.Again,
	},
	wepay.ShortURL: {
		path: "/tools/shorturl", ids: commonIDs,
		in:    map[string]string{"long_url": "weixin:wxpay"},
		reply: map[string]string{"short_url": "weixin://wxpay/s/x"}, holds: "short_url",
		unanswered: wepay.Again, system: wepay.Again,
	},
	wepay.SandboxKey: {
		path: "/xdc/apiv2getsignkey/sign/getsignkey", ids: "mch_id", sign: wepay.MD5, unsigned: true,
		reply: map[string]string{"sandbox_signkey": otherKey}, holds: "sandbox_signkey",
		unanswered: wepay.Again, system: wepay.Again,
	},
	wepay.SendRedPacket: {
		path: "/mmpaymkttransfers/sendredpack", ids: "wxappid mch_id sub_mch_id", sign: wepay.MD5, certificate: true, payout: true, unsigned: true,
		in: map[string]string{
			"mch_billno": "B1", "send_name": "x", "re_openid": "o1", "total_amount": "100",
			"wishing": "x", "act_name": "x", "remark": "x",
		},
		adds:  "client_ip total_num",
		reply: map[string]string{"mch_billno": "B1", "send_listid": "5"}, repeats: "mch_billno",
		unanswered: wepay.Query, system: wepay.Query,
	},
	wepay.SendGroupRedPacket: {
		path: "/mmpaymkttransfers/sendgroupredpack", ids: "wxappid mch_id sub_mch_id", sign: wepay.MD5, certificate: true, payout: true, unsigned: true,
		in: map[string]string{
			"mch_billno": "B1", "send_name": "x", "re_openid": "o1", "total_amount": "300", "total_num": "3",
			"wishing": "x", "act_name": "x", "remark": "x",
		},
		adds:  "amt_type",
		reply: map[string]string{"mch_billno": "B1", "send_listid": "5"}, repeats: "mch_billno",
		unanswered: wepay.Query, system: wepay.Query,
	},
	wepay.QueryRedPacket: {
		path: "/mmpaymkttransfers/gethbinfo", ids: "appid mch_id", sign: wepay.MD5, certificate: true, payout: true, unsigned: true,
		in:    map[string]string{"mch_billno": "B1"},
		adds:  "bill_type",
		reply: map[string]string{"mch_billno": "B1", "status": "RECEIVED"}, repeats: "mch_billno", holds: "status",
		unanswered: wepay.Again, system: wepay.Again,
	},
	wepay.Transfer: {
		path: "/mmpaymkttransfers/promotion/transfers", ids: "mch_appid mchid", sign: wepay.MD5, certificate: true, payout: true, unsigned: true,
		in:    map[string]string{"partner_trade_no": "T1", "openid": "o1", "check_name": "NO_CHECK", "amount": "100", "desc": "x"},
		reply: map[string]string{"partner_trade_no": "T1", "payment_no": "5"}, repeats: "partner_trade_no", holds: "payment_no",
		unanswered: wepay.Query, system: wepay.Query,
	},
	wepay.QueryTransfer: {
		path: "/mmpaymkttransfers/gettransferinfo", ids: "appid mch_id", sign: wepay.MD5, certificate: true, payout: true, unsigned: true,
		in:    map[string]string{"partner_trade_no": "T1"},
		reply: map[string]string{"partner_trade_no": "T1", "status": "SUCCESS"}, repeats: "partner_trade_no", holds: "status",
		unanswered: wepay.Again, system: wepay.Again,
	},
	wepay.PayBank: {
		path: "/mmpaysptrans/pay_bank", ids: "mch_id", sign: wepay.MD5, certificate: true, payout: true, unsigned: true,
		in:   map[string]string{"partner_trade_no": "T1234567", "bank_no": "6225881234567890", "true_name": "张三丰", "bank_code": "1001", "amount": "100"},
		adds: "enc_bank_no enc_true_name", takes: "bank_no true_name",
		reply: map[string]string{"partner_trade_no": "T1234567", "payment_no": "5"}, repeats: "partner_trade_no", holds: "payment_no",
		unanswered: wepay.Query, system: wepay.Query,
	},
	wepay.QueryBank: {
		path: "/mmpaysptrans/query_bank", ids: "mch_id", sign: wepay.MD5, certificate: true, payout: true, unsigned: true,
		in:    map[string]string{"partner_trade_no": "T1234567"},
		reply: map[string]string{"partner_trade_no": "T1234567", "status": "SUCCESS"}, repeats: "partner_trade_no", holds: "status",
		unanswered: wepay.Again, system: wepay.Again,
	},
	wepay.ProfitShare:      sharing("/secapi/pay/profitsharing"),
	wepay.ProfitShareMulti: sharing("/secapi/pay/multiprofitsharing"),
	wepay.ProfitShareFinish: {
		path: "/secapi/pay/profitsharingfinish", ids: commonIDs, sign: wepay.HMACSHA256, certificate: true,
		in:    map[string]string{"transaction_id": transaction, "out_order_no": "P1", "description": "x"},
		reply: map[string]string{"out_order_no": "P1"}, repeats: "out_order_no",
		unanswered: wepay.Query, system: wepay.Query,
	},
	wepay.ProfitShareQuery: {
		path: "/pay/profitsharingquery", ids: "mch_id sub_mch_id", sign: wepay.HMACSHA256,
		in:    map[string]string{"transaction_id": transaction, "out_order_no": "P1"},
		reply: map[string]string{"out_order_no": "P1", "status": "FINISHED"}, repeats: "out_order_no", holds: "status",
		unanswered: wepay.Again, system: wepay.Again,
	},
	wepay.ProfitShareReturn: {
		path: "/secapi/pay/profitsharingreturn", ids: commonIDs, sign: wepay.HMACSHA256, certificate: true,
		in: map[string]string{
			"out_order_no": "P1", "out_return_no": "Q1",
			"return_account": "1900000110", "return_amount": "1", "description": "x",
		},
		adds:  "return_account_type",
		reply: map[string]string{"out_return_no": "Q1", "result": "SUCCESS"}, repeats: "out_return_no", holds: "result",
		unanswered: wepay.Query, system: wepay.Query,
	},
	wepay.ProfitShareReturnQuery: {
		path: "/pay/profitsharingreturnquery", ids: commonIDs, sign: wepay.HMACSHA256,
		in:    map[string]string{"out_order_no": "P1", "out_return_no": "Q1"},
		reply: map[string]string{"out_return_no": "Q1", "result": "SUCCESS"}, repeats: "out_return_no", holds: "result",
		unanswered: wepay.Again, system: wepay.Again,
	},
	wepay.ProfitShareAddReceiver: {
		path: "/pay/profitsharingaddreceiver", ids: commonIDs, sign: wepay.HMACSHA256,
		in:         map[string]string{"receiver": someone},
		unanswered: wepay.Again, system: wepay.Again,
	},
	wepay.ProfitShareRemoveReceiver: {
		path: "/pay/profitsharingremovereceiver", ids: commonIDs, sign: wepay.HMACSHA256,
		in:         map[string]string{"receiver": someone},
		unanswered: wepay.Again, system: wepay.Again,
	},
	wepay.DownloadBill: {
		path: "/pay/downloadbill", ids: commonIDs, unsigned: true,
		in:         map[string]string{"bill_date": "20260101"},
		unanswered: wepay.Again, system: wepay.Again,
	},
	wepay.DownloadFundFlow: {
		path: "/pay/downloadfundflow", ids: "appid mch_id", sign: wepay.HMACSHA256, certificate: true, unsigned: true,
		in:         map[string]string{"bill_date": "20260101", "account_type": "Basic"},
		unanswered: wepay.Again, system: wepay.Again,
	},
}

func sharing(path string) row {
	return row{
		path: path, ids: commonIDs, sign: wepay.HMACSHA256, certificate: true,
		in:    map[string]string{"transaction_id": transaction, "out_order_no": "P1", "receivers": sharers},
		reply: map[string]string{"out_order_no": "P1", "order_id": "5"}, repeats: "out_order_no", holds: "order_id",
		unanswered: wepay.Query, system: wepay.Query,
	}
}

func isBill(op wepay.Operation) bool {
	return op == wepay.DownloadBill || op == wepay.DownloadFundFlow
}

// answered is a good reply to a row's request with some changes, signed or not
// as WeChat does; an empty value takes a field out.
func (r row) answered(changes map[string]string) wepay.Fields {
	fields := reply(r.reply)
	for _, name := range []string{"appid", "mch_id"} {
		if !strings.Contains(" "+r.ids, " "+name) {
			fields.Delete(name)
		}
	}
	if !r.unsigned {
		fields.Set("mch_id", "1900000109") // though the question was without
	}
	for name, value := range changes {
		fields.Set(name, value)
		if value == "" {
			fields.Delete(name)
		}
	}
	return fields
}

// text is a reply as it goes over the wire.
func (r row) text(fields wepay.Fields) string {
	if r.unsigned {
		return document(fields)
	}
	return signed(fields, wepay.MD5, key)
}

// good answers a row's request as WeChat does when all is well.
func (r row) good(op wepay.Operation) answer {
	if isBill(op) {
		return says("a\r\n`1\r\nb\r\n`2\r\n")
	}
	return says(r.text(r.answered(nil)))
}

// bankPrivateKey is the key that belongs to what withBankKey hands out.
var bankPrivateKey = sync.OnceValue(func() *rsa.PrivateKey {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return private
})

func bankKeyPEM() string {
	block := &pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&bankPrivateKey().PublicKey)}
	return string(pem.EncodeToMemory(block))
}

// withBankKey answers as the risk server does, and lets another answer what is
// not asked of that.
func withBankKey(then answer) answer {
	return func(w http.ResponseWriter, r asked) {
		if r.URL.Path != "/risk/getpublickey" {
			then(w, r)
			return
		}
		fields := reply(map[string]string{"pub_key": bankKeyPEM()})
		fields.Delete("appid")
		says(document(fields))(w, r)
	}
}

// able returns a merchant that can do everything.
func able(t *testing.T, endpoints ...string) *wepay.Merchant {
	t.Helper()
	m := withCertificate(t, merchant(endpoints...), "wechat.p12")
	m.Env, m.Payouts, m.Passthrough = wepay.NATIVE, true, true
	return m
}

// calls makes the smallest request of an operation, with some changes.
func calls(t *testing.T, m *wepay.Merchant, op wepay.Operation, changes map[string]string) (wepay.Fields, error) {
	t.Helper()
	in := maps.Clone(rows[op].in)
	if in == nil {
		in = make(map[string]string)
	}
	maps.Copy(in, changes)
	// No pause lasts, and no flow goes beyond its first request.
	stop := func(context.Context, time.Duration) error { return context.Canceled }
	c := client(t, m, wepay.ClientOptions{RiskEndpoint: m.Endpoints[0], Pause: stop})
	if !isBill(op) {
		return c.Do(t.Context(), op, wepay.NewFields(in))
	}
	bill, err := c.Download(t.Context(), op, wepay.NewFields(in))
	if err != nil {
		return nil, err
	}
	defer bill.Close()
	text, err := io.ReadAll(bill)
	return wepay.Fields{{Name: "bill", Value: string(text)}}, err
}

// of returns what was asked for under a path.
func (s *wechat) of(path string) (all []asked) {
	for _, r := range s.asked() {
		if r.URL.Path == path {
			all = append(all, r)
		}
	}
	return all
}

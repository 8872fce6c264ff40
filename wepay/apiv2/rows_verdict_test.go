package apiv2_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

// refusal is what WeChat answers with an err_code.
func (r row) refusal(code string) string {
	return r.text(r.answered(map[string]string{"result_code": "FAIL", "err_code": code, "err_code_des": "说明"}))
}

func TestRowsNoAnswer(t *testing.T) {
	for op, row := range rows {
		t.Run(string(op), func(t *testing.T) {
			server := serve(t, withBankKey(status(502, "")))
			got, err := calls(t, able(t, server.URL), op, nil)
			wantError(t, err, row.unanswered)
			if !errors.Is(err, wepay.ErrNoAnswer) || got != nil {
				t.Errorf("got %v, %v, want ErrNoAnswer", got, err)
			}
		})
		t.Run(string(op)+", nothing sent", func(t *testing.T) {
			_, err := calls(t, able(t, refusedAddress(t)), op, nil)
			wantError(t, err, wepay.Again)
		})
	}
}

// Until the money is known not to have gone, nothing that WeChat says of its
// own trouble is a failure.
func TestRowsInTrouble(t *testing.T) {
	for op, row := range rows {
		for name, text := range map[string]string{
			"SYSTEMERROR":         row.refusal("SYSTEMERROR"),
			"SYSTEM_ERROR":        row.refusal("SYSTEM_ERROR"),
			"in talk":             "<xml><return_code>FAIL</return_code><return_msg>SYSTEMERROR</return_msg></xml>",
			"in talk, in Chinese": "<xml><return_code>FAIL</return_code><return_msg>系统繁忙,请稍后再试.</return_msg></xml>",
			"as mmpay says it":    "<xml><return_code>FAIL</return_code><return_msg>x</return_msg><result_code>FAIL</result_code><err_code>SYSTEMERROR</err_code></xml>",
		} {
			t.Run(string(op)+" "+name, func(t *testing.T) {
				server := serve(t, withBankKey(says(text)))
				_, err := calls(t, able(t, server.URL), op, nil)
				wantError(t, err, row.system)
			})
		}
	}
}

// A code that is not listed passes through. Of what changes something it leaves
// the outcome open; a question is not asked again and again.
func TestRowsUnknownCode(t *testing.T) {
	for op, row := range rows {
		want := row.unanswered
		if want == wepay.Again {
			want = wepay.Fix
		}
		if op == wepay.CloseOrder || op == wepay.Reverse {
			want = wepay.Query
		}
		t.Run(string(op), func(t *testing.T) {
			server := serve(t, withBankKey(says(row.refusal("A_CODE_OF_2031"))))
			_, err := calls(t, able(t, server.URL), op, nil)
			failed := wantError(t, err, want)
			if failed.Code != "A_CODE_OF_2031" || failed.Message != "说明" || failed.Operation != op {
				t.Errorf("got %+v", failed)
			}
		})
	}
}

// A refusal without a code is the caller's to correct where its words are known, but
// no proof that no money left. With words that no table knows, it may be about what
// an earlier request did: of what changes something it leaves the outcome open.
func TestRowsRefusedWithoutCode(t *testing.T) {
	for op, row := range rows {
		known, unknown := wepay.Fix, wepay.Fix
		if row.payout && row.unanswered == wepay.Query {
			known = wepay.Query
		}
		if row.unanswered == wepay.Query || op == wepay.CloseOrder || op == wepay.Reverse {
			unknown = wepay.Query
		}
		for text, want := range map[string]struct {
			words   string
			verdict wepay.Verdict
		}{
			"<xml><return_code>FAIL</return_code><return_msg>签名错误</return_msg></xml>": {"签名错误", known},
			"<xml><return_code>FAIL</return_code><return_msg>原因不明</return_msg></xml>": {"原因不明", unknown},
			row.refusal(""): {"说明", unknown},
		} {
			t.Run(string(op)+" "+want.words, func(t *testing.T) {
				server := serve(t, withBankKey(says(text)))
				_, err := calls(t, able(t, server.URL), op, nil)
				if failed := wantError(t, err, want.verdict); failed.Message != want.words {
					t.Errorf("the message is %q", failed.Message)
				}
			})
		}
	}
}

// listed are the codes of each call in WeChat's documents by what they mean,
// as far as they are no call's alike. That a number has other parameters is to be
// asked about: under them it may be paid, and a new number would pay twice.
var listed = map[wepay.Operation]map[wepay.Verdict]string{
	wepay.CloseOrder: {
		wepay.Done:  "ORDERPAID ORDERCLOSED ORDERNOTEXIST",
		wepay.Query: "TRADE_STATE_ERROR",
		wepay.Fix:   "SIGNERROR REQUIRE_POST_METHOD XML_FORMAT_ERROR",
	},
	wepay.QueryRefund: {
		wepay.Again: "REFUNDNOTEXIST",
		wepay.Fix:   "INVALID_TRANSACTIONID PARAM_ERROR",
	},
	wepay.Micropay: {
		wepay.Query: "BANKERROR USERPAYING OUT_TRADE_NO_USED",
		wepay.Done:  "ORDERPAID",
		wepay.Never: "AUTHCODEEXPIRE AUTH_CODE_INVALID AUTH_CODE_ERROR NOTENOUGH NOTSUPORTCARD BUYER_MISMATCH TRADE_ERROR RULELIMIT ORDERCLOSED ORDERREVERSED",
		wepay.Fix:   "NOAUTH PARAM_ERROR LACK_PARAMS INVALID_REQUEST",
	},
	wepay.Reverse: {
		wepay.Query: "USERPAYING TRADE_ERROR INVALID_REQUEST",
		wepay.Fix:   "INVALID_TRANSACTIONID PARAM_ERROR SIGNERROR REQUIRE_POST_METHOD",
		wepay.Never: "REVERSE_EXPIRE",
	},
	wepay.AuthCodeToOpenID: {
		wepay.Never: "AUTHCODEEXPIRE AUTH_CODE_ERROR AUTH_CODE_INVALID",
	},
	wepay.ShortURL: {
		wepay.Fix: "SIGNERROR REQUIRE_POST_METHOD APPID_NOT_EXIST MCHID_NOT_EXIST APPID_MCHID_NOT_MATCH LACK_PARAMS XML_FORMAT_ERROR POST_DATA_EMPTY",
	},
	wepay.SendRedPacket: redPacketCodes, wepay.SendGroupRedPacket: redPacketCodes,
	wepay.QueryRedPacket: {
		wepay.Again: "NOT_FOUND",
		wepay.Fix:   "CA_ERROR SIGN_ERROR NO_AUTH XML_ERROR PARAM_ERROR",
		wepay.Later: "FREQ_LIMIT",
	},
	wepay.Transfer: {
		wepay.Query: "SEND_FAILED",
		wepay.Fix:   "FATAL_ERROR NAME_MISMATCH OPENID_ERROR PARAM_ERROR SIGN_ERROR XML_ERROR PARAM_IS_NOT_UTF8 CA_ERROR AMOUNT_LIMIT NO_AUTH PAY_CHANNEL_NOT_ALLOWED",
		wepay.Later: "NOTENOUGH FREQ_LIMIT MONEY_LIMIT SEND_MONEY_LIMIT RECEIVED_MONEY_LIMIT SENDNUM_LIMIT",
		wepay.Never: "V2_ACCOUNT_SIMPLE_BAN RECV_ACCOUNT_NOT_ALLOWED",
	},
	wepay.QueryTransfer: {
		wepay.Again: "NOT_FOUND",
		wepay.Fix:   "CA_ERROR SIGN_ERROR NO_AUTH XML_ERROR PARAM_ERROR",
		wepay.Later: "FREQ_LIMIT",
	},
	wepay.PayBank: {
		wepay.Again: "INVALID_REQUEST",
		wepay.Query: "ORDERPAID",
		wepay.Fix:   "FATAL_ERROR PARAM_ERROR SIGNERROR RECV_ACCOUNT_NOT_ALLOWED PAY_CHANNEL_NOT_ALLOWED NO_AUTH",
		wepay.Later: "AMOUNT_LIMIT NOTENOUGH SENDNUM_LIMIT FREQUENCY_LIMITED",
	},
	wepay.ProfitShare: sharingCodes, wepay.ProfitShareMulti: sharingCodes,
	wepay.ProfitShareFinish: sharingCodes, wepay.ProfitShareReturn: sharingCodes,
	wepay.ProfitShareAddReceiver: sharingCodes, wepay.ProfitShareRemoveReceiver: sharingCodes,
	wepay.ProfitShareQuery: sharingQueryCodes, wepay.ProfitShareReturnQuery: sharingQueryCodes,
	wepay.DownloadFundFlow: {
		wepay.Done:  "NO_BILL_EXIST",
		wepay.Later: "BILL_CREATING",
		wepay.Fix:   "PARAM_ERROR",
	},
}

var (
	redPacketCodes = map[wepay.Verdict]string{
		wepay.Query: "PROCESSING",
		wepay.Never: "SEND_FAILED NO_AUTH",
		wepay.Fix:   "FATAL_ERROR MONEY_LIMIT OPENID_ERROR ILLEGAL_APPID PARAM_ERROR SIGN_ERROR XML_ERROR CA_ERROR",
		wepay.Later: "NOTENOUGH SENDNUM_LIMIT SECOND_OVER_LIMITED DAY_OVER_LIMITED FREQ_LIMIT SENDAMOUNT_LIMIT",
	}
	sharingCodes = map[wepay.Verdict]string{
		wepay.Later: "ORDER_NOT_READY FREQUENCY_LIMITED NOTENOUGH",
		wepay.Fix:   "OUT_ORDER_NO_USED INVALID_REQUEST PARAM_ERROR RECEIVER_INVALID NOT_SHARE_ORDER AMOUNT_OVERDUE AMOUNT_LIMIT INVALID_TRANSACTIONID SIGNERROR NO_AUTH",
		wepay.Never: "RECEIVER_HIGH_RISK ACCOUNT_ABNORMAL",
	}
	sharingQueryCodes = map[wepay.Verdict]string{
		wepay.Again: "ORDERNOTEXIST RESOURCE_NOT_EXISTS",
		wepay.Later: "FREQUENCY_LIMITED",
		wepay.Fix:   "INVALID_TRANSACTIONID NOT_SHARE_ORDER PARAM_ERROR SIGNERROR",
	}
)

func TestRowsListedCodes(t *testing.T) {
	for _, op := range slices.Sorted(maps.Keys(listed)) {
		for verdict, codes := range listed[op] {
			for code := range strings.FieldsSeq(codes) {
				t.Run(string(op)+" "+code, func(t *testing.T) {
					server := serve(t, withBankKey(says(rows[op].refusal(code))))
					_, err := calls(t, able(t, server.URL), op, nil)
					if failed := wantError(t, err, verdict); failed.Code != code {
						t.Errorf("the code is %q", failed.Code)
					}
				})
			}
		}
	}
}

// Red packets and transfers break WeChat's layers: return_code FAIL comes with
// an err_code, which counts.
func TestPayoutsRefusedInTalk(t *testing.T) {
	for op, row := range rows {
		if !row.payout {
			continue
		}
		for verdict, codes := range listed[op] {
			for code := range strings.FieldsSeq(codes) {
				t.Run(string(op)+" "+code, func(t *testing.T) {
					server := serve(t, withBankKey(says("<xml><return_code>FAIL</return_code><return_msg>参数错误</return_msg><result_code>FAIL</result_code>"+
						"<err_code>"+code+"</err_code><err_code_des>说明</err_code_des></xml>")))
					_, err := calls(t, able(t, server.URL), op, nil)
					if failed := wantError(t, err, verdict); failed.Code != code || failed.Message != "说明" {
						t.Errorf("got %+v", failed)
					}
				})
			}
		}
	}
}

// The risk server has names of its own for code and reason; nothing of the
// payout was sent when it refuses.
func TestBankKeyRefused(t *testing.T) {
	for text, want := range map[string]wepay.Verdict{
		"<xml><return_code>SUCCESS</return_code><result_code>FAIL</result_code><error_code>SIGN_ERROR</error_code><error_code_des>说明</error_code_des></xml>":        wepay.Fix,
		"<xml><return_code>SUCCESS</return_code><result_code>FAIL</result_code><error_code>FREQUENCY_LIMITED</error_code><error_code_des>说明</error_code_des></xml>": wepay.Later,
	} {
		server := serve(t, says(text))
		_, err := calls(t, able(t, server.URL), wepay.PayBank, nil)
		if failed := wantError(t, err, want); failed.Message != "说明" {
			t.Errorf("got %+v", failed)
		}
		if n := len(server.of("/mmpaysptrans/pay_bank")); n != 0 {
			t.Errorf("%d payouts were sent without a key", n)
		}
	}
}

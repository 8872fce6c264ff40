package main

import (
	"github.com/windsome/caddy-wepay/wepay"
)

// contract is what WeChat tells of a contract that was signed: without appid, nonce_str
// and return_code, as it is mostly.
func contract(pairs ...string) wepay.Fields {
	return fields(map[string]string{
		"change_type": "ADD", "contract_code": "100001256", "contract_expired_time": "2030-07-01 10:00:00", "contract_id": "Wx15463511252015071056489715",
		"mch_id": mchID, "openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", "operate_time": "2026-07-01 10:00:00", "plan_id": "123", "request_serial": "1695",
	}, pairs...)
}

// vehicle is what WeChat tells of a car that may not pay by itself any more.
func vehicle(pairs ...string) wepay.Fields {
	return fields(map[string]string{
		"appid": appID, "mch_id": mchID, "nonce_str": "1", "plate_number": "粤A00000", "sign_type": "HMAC-SHA256",
		"vehicle_event_createtime": "20180101100000", "vehicle_event_des": "OVERDUE", "vehicle_event_type": "BLOCKED",
	}, pairs...)
}

// notices are those of what is neither a payment nor a refund, and what is read as
// one of them.
func notices() {
	const no = "not_a_payment"
	add("a contract that is signed", "taken", contract())
	add("a contract that is signed, with all that newer ones have", "taken", contract(
		"appid", appID, "return_code", "SUCCESS", "result_code", "SUCCESS", "nonce_str", "1", "contract_display_account", "R&D = 张三", "contract_state", "0",
		"contract_signed_time", "1438141845"))
	add("a contract that is ended", "taken", contract("change_type", "DELETE", "contract_termination_mode", "2", "contract_termination_remark", "不要了", "of_tomorrow", "x"))
	add("a car that may not pay by itself", "taken", vehicle())
	add("a transaction at risk", "taken", fields(map[string]string{
		"return_code": "SUCCESS", "sign_type": "HMAC-SHA256", "nonce_str": "1", "event_code": "E1", "risk_level": "HIGH", "risk_level_desc": "高风险",
		"mch_id": mchID, "transaction_id_list": `{"data":{"transaction_id":["4200000000202001010000000001"]}}`,
	}))
	add("a room that was booked without a deposit", "taken", fields(map[string]string{
		"mch_id": mchID, "app_id": appID, "event_id": "EV-1", "event_create_time": "20180225112233", "event_type": "CHECK.SUCCESS", "nonce_str": "1",
		"algorithm": "HMAC-SHA256", "event_algorithm": "AEAD_AES_256_GCM", "event_nonce": "2", "event_associated_data": "check", "event_ciphertext": "AAAA",
	}))

	// WeChat has signed it, and nothing else has both a change_type and a contract_id.
	add("a contract that is changed otherwise", "taken", contract("change_type", "PAUSE"))
	add("a contract that is changed to what is no word", "taken", contract("change_type", "暂 停"))
	add("the answer to a query of a contract", no, contract("change_type", "", "appid", appID, "return_code", "SUCCESS", "result_code", "SUCCESS", "contract_state", "0"))
	add("the answer to the end of a contract", no, reply("contract_id", "Wx1", "plan_id", "123", "contract_code", "1"))
	add("the answer to a query: paid, with a contract that is signed", no, payment("change_type", "ADD", "contract_id", "1", "return_msg", "OK", "trade_state", "SUCCESS"))
	add("a payment that is a contract as well", no, payment("change_type", "ADD", "contract_id", "1"))
	add("a contract with a car", no, contract("vehicle_event_type", "NORMAL"))
	add("a contract whose account holds a further field", "ambiguous", contract("contract_display_account", "x&contract_id=VICTIM"))
	add("a contract with a field of tomorrow that holds another", "ambiguous", contract("contract_new", "x&contract_id=VICTIM"))
	reread("an attach that is a contract, which holds the rest",
		payment("attach", "x&change_type=ADD&contract_id=VICTIM"),
		"appid, attach, change_type, contract_id, mch_id, nonce_str, openid, out_trade_no, result_code, return_code, time_end, total_fee, trade_type, transaction_id")
	reread("an attach that is a contract, of a debit that failed",
		payment("attach", "x&change_type=ADD", "trade_state", "PAY_FAIL", "contract_id", "1", "transaction_id", "", "total_fee", "", "cash_fee", "", "bank_type", ""),
		"appid, attach, change_type, contract_id, fee_type, is_subscribe, mch_id, nonce_str, openid, out_trade_no, result_code, return_code, time_end, trade_state, trade_type")
	catalogue[len(catalogue)-1].Result = no
	reread("a device that is an event, in a payment",
		payment("device_info", "x&event_ciphertext=AAAA&event_id=EV-1&event_type=CHECK.SUCCESS"),
		"appid, bank_type, cash_fee, device_info, event_ciphertext, event_id, event_type, fee_type, is_subscribe, mch_id, nonce_str, openid, out_trade_no, result_code, return_code, time_end, total_fee, trade_type, transaction_id")
	catalogue[len(catalogue)-1].Result = no
	reread("a remark that is an event, in the answer to a query of a contract",
		contract("appid", appID, "contract_termination_remark", "x&event_ciphertext=AAAA&event_id=EV-1&event_type=CHECK.SUCCESS", "change_type", "", "operate_time", ""),
		"appid, contract_code, contract_expired_time, contract_id, contract_termination_remark, event_ciphertext, event_id, event_type, mch_id, openid, plan_id, request_serial")
	catalogue[len(catalogue)-1].Result = no
	unknown()
	link := fields(map[string]string{
		"appid": appID, "mch_id": mchID, "nonce_str": "1", "time_stamp": "1415949957",
		"product_id": "x&time_stamp=1&vehicle_event_createtime=1&vehicle_event_type=BLOCKED&zz=",
	})
	reread("a link to pay by, whose product is a car", link, "appid, mch_id, nonce_str, product_id, time_stamp, vehicle_event_createtime, vehicle_event_type, zz")
}

// tomorrow is a notification of a kind that WeChat may add, or that nobody told us of.
func tomorrow(pairs ...string) wepay.Fields {
	return fields(map[string]string{
		"return_code": "SUCCESS", "result_code": "SUCCESS", "nonce_str": "1", "mch_id": mchID, "appid": appID,
		"locker_no": "7", "locker_opened": "20260701100000", "out_trade_no": "MINE-0001",
	}, pairs...)
}

// unknown are notifications of kinds that are not known, and what could pass for one.
func unknown() {
	const no = "not_a_payment"
	add("a kind that is not known", "taken", tomorrow())
	add("a kind that is not known, without return_code", "taken", tomorrow("return_code", "", "result_code", "", "nonce_str", ""))
	add("a kind that is not known, with return_msg and no nonce_str", "taken", tomorrow("return_msg", "OK", "nonce_str", ""))
	add("the answer to a call that is not known", no, tomorrow("return_msg", "OK"))
	add("a kind that is not known, of another merchant", "foreign", tomorrow("mch_id", "1900000110"))
	for _, answer := range [][2]string{
		{"code_url", "weixin://wxpay/bizpayurl?pr=1"},
		{"mweb_url", "https://wx.tenpay.com/1"},
		{"order_id", "30000"},
		{"out_refund_no", "R1"},
		{"prepay_id", "wx1"},
		{"recall", "N"},
		{"refund_count", "1"},
		{"refund_fee_0", "1"},
		{"refund_id", "5"},
		{"refund_id_0", "5"},
		{"refund_status_0", "SUCCESS"},
		{"result_msg", "OK"},
		{"sandbox_signkey", "1"},
		{"short_url", "weixin://1"},
		{"status", "FINISHED"},
		{"sub_order_no", "1"},
		{"trade_state", "SUCCESS"},
		{"trade_state_desc", "OK"},
	} {
		add("a kind that is not known, with a reply's "+answer[0], no, tomorrow(answer[0], answer[1]))
	}
	add("a kind that is not known, with a payment's amount", no, tomorrow("total_fee", "1"))
	add("a kind that is not known, with a contract", no, tomorrow("contract_id", "1"))
	add("a kind that is not known, with a request's body", no, tomorrow("body", "x"))
	add("a kind that is not known, with a word of its own", "taken", tomorrow("event_type", "TRANSACTION.SUCCESS", "return_code", "", "result_code", ""))
	add("nothing but a word of its own", no, tomorrow("locker_no", "", "locker_opened", "", "event_type", "FOO.BAR"))
	for _, name := range []string{"amount", "contract_id", "desc", "device_info", "plan_id", "status", "time_end", "total_fee"} {
		add("a kind that is not known, without return_code and with "+name, no, tomorrow("return_code", "", "result_code", "", name, "1"))
	}
	add("a payment without return_code", no, payment("return_code", ""))
	add("the request of an order", no, fields(map[string]string{
		"appid": appID, "mch_id": mchID, "nonce_str": "1", "body": "x", "out_trade_no": "MINE-0001", "total_fee": "1", "spbill_create_ip": "192.0.2.1",
		"notify_url": "https://m.example.cn/", "trade_type": "JSAPI", "openid": "o1",
	}))
	add("the request of a query", no, fields(map[string]string{"appid": appID, "mch_id": mchID, "nonce_str": "1", "out_trade_no": "MINE-0001"}))
	add("a contract without its id", no, contract("contract_id", ""))
	add("a contract without what became of it", no, contract("change_type", ""))
	add("the answer to a call that is not known, without an appid", no, tomorrow("return_msg", "OK", "appid", ""))
	add("a contract that could not be signed", "taken", contract("result_code", "FAIL", "err_code", "X"))
	add("nothing but numbers", no, tomorrow("locker_no", "", "locker_opened", ""))
	add("a kind that is not known, whose field holds another", "ambiguous", tomorrow("locker_no", "7&mch_new=1"))
	reread("a link to sign a contract by, whose account is a kind that is not known",
		fields(map[string]string{
			"appid": appID, "mch_id": mchID, "plan_id": "123", "contract_code": "1", "request_serial": "1", "notify_url": "https://m.example.cn/", "version": "1.0",
			"timestamp": "1", "contract_display_account": "x&locker_no=1",
		}),
		"appid, contract_code, contract_display_account, locker_no, mch_id, notify_url, plan_id, request_serial, timestamp, version")
	catalogue[len(catalogue)-1].Result = no
	reread("a link to pay by, whose product is a kind that is not known",
		fields(map[string]string{
			"appid": appID, "mch_id": mchID, "nonce_str": "1", "time_stamp": "1415949957", "product_id": "x&result_code=SUCCESS&return_code=SUCCESS&shelf=1",
		}),
		"appid, mch_id, nonce_str, product_id, result_code, return_code, shelf, time_stamp")
	catalogue[len(catalogue)-1].Result = no
}

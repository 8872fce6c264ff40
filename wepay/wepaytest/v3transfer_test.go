package wepaytest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

const (
	billsPath   = "/v3/fund-app/mch-transfer/transfer-bills"
	v3BatchPath = "/v3/transfer/batches"
)

func (s *v3shop) transfer(number string, fee int) obj {
	return obj{
		"appid": appID, "out_bill_no": number, "transfer_scene_id": "1000", "openid": openID, "transfer_amount": fee,
		"transfer_remark": "活动奖励", "notify_url": s.notified.URL,
		"transfer_scene_report_infos": []obj{{"info_type": "活动名称", "info_content": "新会员有礼"}},
	}
}

// payer is a shop with money, who can encrypt names.
func payer(t *testing.T, fee int64) *v3shop {
	t.Helper()
	s := newV3Shop(t, byPublicKey)
	if err := s.wechat.Deposit(mchID, fee); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestV3Transfer(t *testing.T) {
	s := payer(t, 1000)
	first := s.granted("POST", billsPath, s.transfer("T1", 300))
	checkAt(t, first.body, map[string]string{"state": "WAIT_USER_CONFIRM", "out_bill_no": "T1", "create_time": "2026-01-01T20:00:00+08:00"})
	if first.at("package_info") == "" {
		t.Error("no package_info")
	}
	if again := s.granted("POST", billsPath, s.transfer("T1", 300)); again.at("transfer_bill_no") != first.at("transfer_bill_no") {
		t.Errorf("the same number gives %s and %s", first.raw, again.raw)
	}
	s.wallet(mchID, wepaytest.Funds{Available: 700})
	d, err := s.wechat.ConfirmTransfer(mchID, "T1")
	if err != nil {
		t.Fatal(err)
	}
	envelope, resource := s.decrypted(d)
	checkAt(t, envelope, map[string]string{"event_type": "MCHTRANSFER.BILL.FINISHED", "resource.original_type": "mch_payment"})
	want := map[string]string{"mch_id": mchID, "state": "SUCCESS", "transfer_amount": "300", "openid": openID, "out_bill_no": "T1", "fail_reason": ""}
	checkAt(t, resource, want)
	checkAt(t, s.granted("GET", billsPath+"/out-bill-no/T1", nil).body, want)
	checkAt(t, s.granted("GET", billsPath+"/transfer-bill-no/"+first.at("transfer_bill_no"), nil).body, want)
	if again := s.granted("POST", billsPath, s.transfer("T1", 300)); again.at("state") != "SUCCESS" || again.at("package_info") != "" {
		t.Errorf("afterwards the number gives %s", again.raw)
	}
	if _, err := s.wechat.RejectTransfer(mchID, "T1", "X"); !errors.Is(err, wepaytest.ErrFinished) {
		t.Errorf("ending it twice gives %v", err)
	}
	s.clock.Advance(25 * time.Hour)
	s.wallet(mchID, wepaytest.Funds{Available: 700})
	s.clock.Advance(30 * 24 * time.Hour)
	s.denied(404, "NOT_FOUND", s.message("GET", billsPath+"/out-bill-no/T1", nil))
}

func TestV3TransferEnds(t *testing.T) {
	state := func(s *v3shop, number string) string {
		return s.granted("GET", billsPath+"/out-bill-no/"+number, nil).at("state")
	}
	t.Run("expires", func(t *testing.T) {
		s := payer(t, 1000)
		s.granted("POST", billsPath, s.transfer("T1", 300))
		s.clock.Advance(24*time.Hour - time.Second)
		if got := state(s, "T1"); got != "WAIT_USER_CONFIRM" || len(s.notified.received()) != 0 {
			t.Errorf("too soon it is %s", got)
		}
		s.clock.Advance(time.Second)
		if got := state(s, "T1"); got != "FAIL" || len(s.notified.received()) != 1 {
			t.Errorf("in the end it is %s, told %d times", got, len(s.notified.received()))
		}
		s.wallet(mchID, wepaytest.Funds{Available: 1000})
	})
	t.Run("is cancelled", func(t *testing.T) {
		s := payer(t, 1000)
		s.granted("POST", billsPath, s.transfer("T1", 300))
		cancel := billsPath + "/out-bill-no/T1/cancel"
		checkAt(t, s.granted("POST", cancel, nil).body, map[string]string{"state": "CANCELING"})
		if _, err := s.wechat.ConfirmTransfer(mchID, "T1"); !errors.Is(err, wepaytest.ErrFinished) {
			t.Errorf("confirming it gives %v", err)
		}
		s.wallet(mchID, wepaytest.Funds{Available: 700})
		s.clock.Advance(time.Second)
		s.wallet(mchID, wepaytest.Funds{Available: 1000})
		if got := state(s, "T1"); got != "CANCELLED" || len(s.notified.received()) != 1 {
			t.Errorf("it is %s, told %d times", got, len(s.notified.received()))
		}
		checkAt(t, s.granted("POST", cancel, nil).body, map[string]string{"state": "CANCELLED"})
	})
	t.Run("is rejected", func(t *testing.T) {
		s := payer(t, 1000)
		s.granted("POST", billsPath, s.transfer("T1", 300))
		d, err := s.wechat.RejectTransfer(mchID, "T1", "ACCOUNT_FROZEN")
		if err != nil {
			t.Fatal(err)
		}
		_, resource := s.decrypted(d)
		checkAt(t, resource, map[string]string{"state": "FAIL", "fail_reason": "ACCOUNT_FROZEN"})
		s.wallet(mchID, wepaytest.Funds{Available: 1000})
		s.denied(400, "INVALID_REQUEST", s.message("POST", billsPath+"/out-bill-no/T1/cancel", nil))
	})
	t.Run("is another's", func(t *testing.T) {
		s := payer(t, 1000)
		s.wechat.NamePayee(openID, "张三")
		s.granted("POST", billsPath, changed(s.transfer("T1", 300), "user_name", s.encrypted("李四")))
		if _, err := s.wechat.ConfirmTransfer(mchID, "T1"); err != nil {
			t.Fatal(err)
		}
		checkAt(t, s.granted("GET", billsPath+"/out-bill-no/T1", nil).body, map[string]string{"state": "FAIL", "fail_reason": "NAME_NOT_CORRECT"})
	})
}

// A partner's reply has no state; its query and its cancellation have.
func TestV3TransferOfPartner(t *testing.T) {
	const path, sub = "/v3/fund-app/mch-transfer/partner/transfer-bills", "1900000209"
	s := newV3Shop(t, partnerOf)
	if err := s.wechat.Deposit(mchID, 1000); err != nil {
		t.Fatal(err)
	}
	bill := changed(s.transfer("T1", 300), "sub_mchid", sub)
	made := s.granted("POST", path, bill)
	checkAt(t, made.body, map[string]string{"out_bill_no": "T1", "sub_mchid": sub, "state": "", "create_time": "2026-01-01T20:00:00+08:00"})
	if made.at("package_info") == "" || made.at("transfer_bill_no") == "" {
		t.Errorf("got %s", made.raw)
	}
	one := path + "/out-bill-no/T1"
	checkAt(t, s.granted("GET", one+"?sub_mchid="+sub, nil).body, map[string]string{"mchid": mchID, "mch_id": "", "sub_mchid": sub, "state": "WAIT_USER_CONFIRM"})
	checkAt(t, s.granted("POST", one+"/cancel", obj{"sub_mchid": sub}).body, map[string]string{"sub_mchid": sub, "state": "CANCELING"})
	s.denied(400, "PARAM_ERROR", s.message("GET", one, nil))
	s.denied(400, "PARAM_ERROR", s.message("POST", path, s.transfer("T2", 300)))
	s.denied(403, "NO_AUTH", s.message("POST", path, changed(s.transfer("T2", 300), "sub_mchid", "1900000299")))
	s.denied(400, "PARAM_ERROR", s.message("POST", path, changed(changed(bill, "out_bill_no", "T2"), "user_recv_style", obj{"type": "RED_PACKET"})))
	s.denied(403, "NO_AUTH", s.message("POST", billsPath, s.transfer("T2", 300)))
}

// A transfer that looks like a red packet is of 200 yuan at most.
func TestV3TransferStyle(t *testing.T) {
	s := payer(t, 100_000)
	styled := func(number, style string, fee int) obj {
		return changed(s.transfer(number, fee), "user_recv_style", obj{"type": style})
	}
	s.granted("POST", billsPath, styled("T1", "RED_PACKET", 20_000))
	s.granted("POST", billsPath, styled("T2", "CONFIRM_PAGE", 20_001))
	s.denied(400, "PARAM_ERROR", s.message("POST", billsPath, styled("T3", "RED_PACKET", 20_001)))
	s.denied(400, "PARAM_ERROR", s.message("POST", billsPath, styled("T3", "PACKET", 100)))
	s.denied(400, "PARAM_ERROR", s.message("POST", billsPath, changed(s.transfer("T3", 100), "user_recv_style", "RED_PACKET")))
}

func TestV3TransferRefuses(t *testing.T) {
	s := payer(t, 300_000)
	named := changed(s.transfer("T1", 200_000), "user_name", s.encrypted("张三"))
	s.denied(400, "PARAM_ERROR", s.message("POST", billsPath, s.transfer("T1", 200_000)))
	s.granted("POST", billsPath, named)
	s.granted("POST", billsPath, changed(named, "user_name", s.encrypted("张三"))) // another text of the same name
	s.denied(400, "ALREADY_EXISTS", s.message("POST", billsPath, changed(named, "user_name", s.encrypted("李四"))))
	s.denied(400, "ALREADY_EXISTS", s.message("POST", billsPath, s.transfer("T1", 100)))
	s.denied(403, "NOT_ENOUGH", s.message("POST", billsPath, s.transfer("T2", 100_001)))
	s.denied(404, "NOT_FOUND", s.message("GET", billsPath+"/out-bill-no/T2", nil))
	s.denied(400, "PARAM_ERROR", s.message("POST", billsPath, s.transfer("T-2", 100)))
	s.denied(400, "PARAM_ERROR", s.message("POST", billsPath, changed(s.transfer("T2", 100), "transfer_scene_report_infos", nil)))
	s.denied(400, "APPID_MCHID_NOT_MATCH", s.message("POST", billsPath, changed(s.transfer("T2", 100), "appid", "wxother")))
	s.denied(400, "PARAM_ERROR", s.message("POST", billsPath, changed(s.transfer("T2", 100), "user_name", "张三")))
	unnamed := s.message("POST", billsPath, changed(s.transfer("T3", 100), "user_name", s.encrypted("张三")))
	unnamed.header.Set("Wechatpay-Serial", "PUB_KEY_ID_0100000000000000000000000000000001")
	s.denied(400, "PARAM_ERROR", unnamed)
	for _, number := range []string{"T9", ""} {
		if _, err := s.wechat.ConfirmTransfer(mchID, number); !errors.Is(err, wepaytest.ErrNoPayout) {
			t.Errorf("confirming %q gives %v", number, err)
		}
	}
	if _, err := s.wechat.ConfirmTransfer("1", "T1"); !errors.Is(err, wepay.ErrNoMerchant) {
		t.Errorf("an unknown merchant: %v", err)
	}
}

func TestV3Batch(t *testing.T) {
	s := payer(t, 1000)
	detail := func(number string, fee int) obj {
		return obj{"out_detail_no": number, "transfer_amount": fee, "transfer_remark": "奖励", "openid": openID}
	}
	body := obj{
		"appid": appID, "out_batch_no": "B1", "batch_name": "奖励", "batch_remark": "一月", "total_amount": 700, "total_num": 2,
		"transfer_detail_list": []obj{detail("D1", 300), detail("D2", 400)}, "notify_url": s.notified.URL,
	}
	first := s.granted("POST", v3BatchPath, body)
	checkAt(t, first.body, map[string]string{"out_batch_no": "B1", "batch_status": "ACCEPTED"})
	if again := s.granted("POST", v3BatchPath, body); again.at("batch_id") != first.at("batch_id") {
		t.Errorf("the same number gives %s and %s", first.raw, again.raw)
	}
	s.wallet(mchID, wepaytest.Funds{Available: 300})
	for name, c := range map[string]struct {
		status int
		code   string
		body   obj
	}{
		"another sum":        {400, "PARAM_ERROR", changed(changed(body, "out_batch_no", "B2"), "total_amount", 701)},
		"another count":      {400, "PARAM_ERROR", changed(changed(body, "out_batch_no", "B2"), "total_num", 3)},
		"a detail twice":     {400, "PARAM_ERROR", changed(changed(body, "out_batch_no", "B2"), "transfer_detail_list", []obj{detail("D1", 300), detail("D1", 400)})},
		"other content":      {400, "ALREADY_EXISTS", changed(body, "batch_name", "x")},
		"more than there is": {403, "NOT_ENOUGH", changed(body, "out_batch_no", "B2")},
	} {
		t.Run(name, func(t *testing.T) {
			shop := *s
			shop.t = t
			shop.denied(c.status, c.code, shop.message("POST", v3BatchPath, c.body))
		})
	}
	d, err := s.wechat.FinishBatch(mchID, "B1", map[string]string{"D2": "ACCOUNT_FROZEN"})
	if err != nil {
		t.Fatal(err)
	}
	envelope, resource := s.decrypted(d)
	checkAt(t, envelope, map[string]string{"event_type": "MCHTRANSFER.BATCH.FINISHED"})
	checkAt(t, resource, map[string]string{"batch_status": "FINISHED", "success_amount": "300", "success_num": "1", "fail_amount": "400", "fail_num": "1"})
	s.wallet(mchID, wepaytest.Funds{Available: 700})
	const one = v3BatchPath + "/out-batch-no/B1"
	checkAt(t, s.granted("GET", one+"?need_query_detail=true&detail_status=FAIL&offset=0&limit=20", nil).body, map[string]string{
		"transfer_batch.batch_status": "FINISHED", "transfer_detail_list.0.out_detail_no": "D2", "transfer_detail_list.1": "", "limit": "20",
	})
	checkAt(t, s.granted("GET", one+"/details/out-detail-no/D2", nil).body, map[string]string{"detail_status": "FAIL", "fail_reason": "ACCOUNT_FROZEN"})
	s.denied(404, "NOT_FOUND", s.message("GET", one+"/details/out-detail-no/D3", nil))
	s.denied(404, "NOT_FOUND", s.message("GET", v3BatchPath+"/out-batch-no/B9?need_query_detail=false", nil))
	if _, err := s.wechat.FinishBatch(mchID, "B1", nil); !errors.Is(err, wepaytest.ErrFinished) {
		t.Errorf("ending it twice gives %v", err)
	}
}

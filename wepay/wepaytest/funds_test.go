package wepaytest_test

import (
	"errors"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

func TestDepositRefuses(t *testing.T) {
	s := newShop(t)
	var field *wepay.FieldError
	if err := s.wechat.Deposit(mchID, 0); !errors.As(err, &field) {
		t.Errorf("depositing nothing gives %v", err)
	}
	if err := s.wechat.Deposit("1", 1); !errors.Is(err, wepay.ErrNoMerchant) {
		t.Errorf("depositing at nobody gives %v", err)
	}
	if err := s.wechat.PayoutsWait("1", true); !errors.Is(err, wepay.ErrNoMerchant) {
		t.Errorf("nobody's payouts give %v", err)
	}
	if got, found := s.wechat.Funds("1"); found {
		t.Errorf("nobody has %+v", got)
	}
	if got, found := s.wechat.BankTransfer("1", "B0000001"); found {
		t.Errorf("nobody paid %+v", got)
	}
	if got, found := s.wechat.BankTransfer(mchID, "B0000001"); found {
		t.Errorf("nothing was paid: %+v", got)
	}
	s.wallet(mchID, wepaytest.Funds{})
}

// The sandbox's money is no money.
func TestSandboxesMoney(t *testing.T) {
	s := newShop(t, func(m *wepay.Merchant) { m.Sandbox, m.Certificate = true, nil })
	s.do(wepay.PlaceOrder, order("ORDER-0001", 101))
	if _, err := s.wechat.Pay(mchID, "ORDER-0001", wepaytest.InSandbox()); err != nil {
		t.Fatal(err)
	}
	s.wallet(mchID, wepaytest.Funds{})
	s.do(wepay.Refund, refundOf("ORDER-0001", "R-1", 101, 101))
	if _, err := s.wechat.FinishRefund(mchID, "R-1", wepaytest.RefundSuccess); !errors.Is(err, wepaytest.ErrNoRefund) {
		t.Errorf("the sandbox's refund is a real one: %v", err)
	}
	if _, err := s.wechat.FinishRefund(mchID, "R-1", wepaytest.RefundSuccess, wepaytest.InSandbox()); err != nil {
		t.Error(err)
	}
	s.wallet(mchID, wepaytest.Funds{})
}

// A code payment's money can be shared as well.
func TestCodePaymentIsShared(t *testing.T) {
	s, _ := sharingShop(t)
	got := s.granted(micropayPath, with(s.charge("CODE-0001"), "profit_sharing", "Y"))
	s.wallet(mchID, wepaytest.Funds{Frozen: 1100})
	s.granted(sharePath, shareOf(got.Get("transaction_id"), "S-1", toStore(30)))
	s.wallet(mchID, wepaytest.Funds{Available: 70, Frozen: 1000})
	s.denied(reversePath, "TRADE_ERROR", map[string]string{"out_trade_no": "CODE-0001"})
}

// A partner need not name a sub-merchant where it pays out itself.
func TestPartnersPayouts(t *testing.T) {
	s := newShop(t)
	err := s.wechat.AddMerchant(wepaytest.Merchant{
		MchID: mchID, AppIDs: []string{appID}, Key: key, SubMerchants: []wepaytest.SubMerchant{{MchID: "1900000110"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.deposit(1000)
	s.granted(packetPath, validPacket)
	s.granted(packetPath, with(validPacket, "mch_billno", billno[:27]+"2", "sub_mch_id", "1900000110"))
	s.denied(packetPath, "NOAUTH", with(validPacket, "mch_billno", billno[:27]+"3", "sub_mch_id", "1900000111"))
	s.denied(packetPath, "PARAM_ERROR", with(validPacket, "mch_billno", billno[:27]+"3", "sub_mch_id", "1900000110", "sub_appid", appID))
	s.granted(transferPath, validTransfer)
	s.denied(closePath, "LACK_PARAMS", map[string]string{"out_trade_no": "ORDER-0001"})
}

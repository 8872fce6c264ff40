package wepaytest_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// A contract is told of with the fields that WeChat documents, signed as asked for,
// and without those that only newer notices have.
func TestContract(t *testing.T) {
	s := newShop(t)
	contract := wepaytest.Contract{URL: s.notified.URL, ID: "Wx1", Code: "C1", PlanID: "123"}
	ids := make(map[string]bool)
	for _, change := range []string{wepaytest.ContractSigned, wepaytest.ContractEnded} {
		for _, signType := range []wepay.SignType{"", wepay.HMACSHA256} {
			contract.SignType = signType
			d, err := s.wechat.NotifyContract(mchID, contract, change, wepaytest.WithField("of_tomorrow", "x"))
			if err != nil || !d.Taken() {
				t.Fatalf("taken is %t, %v", d.Taken(), err)
			}
			got := s.verified(d)
			check(t, got, map[string]string{
				"mch_id": mchID, "change_type": change, "contract_id": "Wx1", "contract_code": "C1", "plan_id": "123", "openid": openID,
				"operate_time": "2026-01-01 20:00:00", "of_tomorrow": "x",
			})
			for _, name := range []string{"appid", "nonce_str", "return_code", "out_trade_no"} {
				if _, found := got.Lookup(name); found {
					t.Errorf("it has %s", name)
				}
			}
			if _, found := got.Lookup("contract_termination_mode"); found != (change == wepaytest.ContractEnded) {
				t.Errorf("%s: contract_termination_mode is there: %t", change, found)
			}
			unverified, err := apiv2.ReadNotification(d.Body())
			if err != nil {
				t.Fatal(err)
			}
			n, err := s.client.Verify(t.Context(), unverified)
			if err != nil || n.Kind != wepay.OtherEvent {
				t.Fatalf("got %v, %v", n, err)
			}
			ids[n.EventID()] = true
		}
	}
	if len(ids) != 2 {
		t.Errorf("there are %d events, want 2", len(ids))
	}
	wrong, err := s.wechat.NotifyContract(mchID, contract, wepaytest.ContractSigned, wepaytest.WithWrongSignature(), wepaytest.Held())
	if err != nil {
		t.Fatal(err)
	}
	unverified, err := apiv2.ReadNotification(wrong.Body())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.client.Verify(t.Context(), unverified); !errors.Is(err, wepay.ErrSignature) {
		t.Errorf("a wrong signature: %v", err)
	}
	if _, err := s.wechat.NotifyContract("1", contract, wepaytest.ContractSigned); !errors.Is(err, wepay.ErrNoMerchant) {
		t.Errorf("another merchant: %v", err)
	}
}

// Contracts have a schedule of their own.
func TestContractRetries(t *testing.T) {
	s := newShop(t)
	s.notified.answers(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	d, err := s.wechat.NotifyContract(mchID, wepaytest.Contract{URL: s.notified.URL, ID: "Wx1"}, wepaytest.ContractSigned)
	if err != nil {
		t.Fatal(err)
	}
	for n, wait := range []time.Duration{10 * time.Second, 10 * time.Second, 10 * time.Second, 30 * time.Second, 30 * time.Second, 30 * time.Second, 5 * time.Minute} {
		s.clock.Advance(wait)
		if got := len(d.Attempts()); got != n+2 {
			t.Fatalf("%d attempts after the wait %d", got, n)
		}
	}
	for range 30 {
		s.clock.Advance(5 * time.Minute)
	}
	if got := len(d.Attempts()); got != 30 {
		t.Errorf("%d attempts, want 30", got)
	}
}

// A merchant abroad is told of currencies and a rate, over API v2 under the names that
// it has there.
func TestAbroad(t *testing.T) {
	s := newShop(t)
	check(t, s.verified(s.pay("ORDER-0001", 1000, wepaytest.Abroad("HKD", 92_000_000))), map[string]string{
		"total_fee": "1000", "fee_type": "HKD", "cash_fee": "920", "cash_fee_type": "CNY", "rate_value": "92000000",
	})
	v3 := newV3Shop(t)
	_, resource := v3.decrypted(v3.pay("ORDER-0001", 1000, wepaytest.Abroad("HKD", 92_000_000)))
	checkAt(t, resource, map[string]string{
		"transaction_id": "", "amount.total": "1000", "amount.currency": "HKD", "amount.payer_total": "920", "amount.payer_currency": "CNY",
		"amount.exchange_rate.rate": "92000000", "amount.exchange_rate.type": "SETTLEMENT_RATE", "trade_state": "SUCCESS",
	})
	if !strings.HasPrefix(at(resource, "id"), "42") {
		t.Errorf("its id is %q", at(resource, "id"))
	}
}

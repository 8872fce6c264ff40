package wepaytest_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

const storeID = "1900000119"

// sharingShop has paid an order of 1000 fen whose money is to be shared, and a
// store and a person to share it with. It returns the transaction_id.
func sharingShop(t *testing.T) (*shop, string) {
	t.Helper()
	s := newShop(t)
	if err := s.wechat.AddMerchant(wepaytest.Merchant{MchID: storeID, Key: key}); err != nil {
		t.Fatal(err)
	}
	for _, receiver := range []string{
		`{"type":"MERCHANT_ID","account":"` + storeID + `","name":"store","relation_type":"STORE"}`,
		`{"type":"PERSONAL_OPENID","account":"` + openID + `","relation_type":"CUSTOM","custom_relation":"friend"}`,
	} {
		for range 2 { // adding twice succeeds
			s.granted(addPath, map[string]string{"receiver": receiver})
		}
	}
	return s, s.payShared("ORDER-0001")
}

func (s *shop) payShared(number string) string {
	s.t.Helper()
	in := order(number, 1000)
	in.Set("profit_sharing", "Y")
	s.do(wepay.PlaceOrder, in)
	if _, err := s.wechat.Pay(mchID, number); err != nil {
		s.t.Fatal(err)
	}
	got, _ := s.wechat.Order(mchID, number)
	return got.TransactionID
}

func toStore(fee int) string {
	return fmt.Sprintf(`{"type":"MERCHANT_ID","account":"%s","amount":%d,"description":"rent"}`, storeID, fee)
}

func toPerson(fee int) string {
	return fmt.Sprintf(`{"type":"PERSONAL_OPENID","account":"%s","amount":%d,"description":"thanks"}`, openID, fee)
}

func shareOf(transaction, number string, receivers ...string) map[string]string {
	return map[string]string{"transaction_id": transaction, "out_order_no": number, "receivers": "[" + strings.Join(receivers, ",") + "]"}
}

type outcome struct {
	Account, Result string
	Amount          int64
	FailReason      string `json:"fail_reason"`
	DetailID        string `json:"detail_id"`
	FinishTime      string `json:"finish_time"`
}

func outcomes(t *testing.T, reply wepay.Fields) []outcome {
	t.Helper()
	var all []outcome
	if err := json.Unmarshal([]byte(reply.Get("receivers")), &all); err != nil {
		t.Fatalf("receivers are %q", reply.Get("receivers"))
	}
	return all
}

func (s *shop) unshared(transaction, want string) {
	s.t.Helper()
	check(s.t, s.granted(unsharedPath, map[string]string{"transaction_id": transaction}), map[string]string{"unsplit_amount": want})
}

// Shared once, the rest is the merchant's.
func TestShareOnce(t *testing.T) {
	s, transaction := sharingShop(t)
	s.wallet(mchID, wepaytest.Funds{Frozen: 1000})
	s.unshared(transaction, "1000")
	check(t, s.granted(ratioPath, nil), map[string]string{"max_ratio": "3000"})
	in := shareOf(transaction, "S-1", toStore(200), toPerson(100))
	first := s.granted(sharePath, in)
	check(t, first, map[string]string{"transaction_id": transaction, "out_order_no": "S-1", "status": "PROCESSING"})
	if got := outcomes(t, first); len(got) != 2 || got[0].Result != "PENDING" || got[0].Account != storeID {
		t.Errorf("accepted is %+v", got)
	}
	check(t, s.granted(sharePath, in), map[string]string{"order_id": first.Get("order_id"), "receivers": first.Get("receivers")})
	s.wallet(mchID, wepaytest.Funds{Available: 700})
	s.wallet(storeID, wepaytest.Funds{Available: 200})
	s.unshared(transaction, "0")
	query := map[string]string{"transaction_id": transaction, "out_order_no": "S-1"}
	state := s.granted(shareQueryPath, query)
	check(t, state, map[string]string{"status": "FINISHED", "order_id": first.Get("order_id")})
	if got := outcomes(t, state); len(got) != 2 || got[1].Result != "SUCCESS" || got[1].Amount != 100 || got[1].FinishTime != "20260101200000" {
		t.Errorf("the outcome is %+v", got)
	}
	s.denied(sharePath, "INVALID_REQUEST", shareOf(transaction, "S-1", toStore(200)))
	s.denied(multiPath, "INVALID_REQUEST", in)
	s.denied(sharePath, "INVALID_REQUEST", shareOf(transaction, "S-2", toStore(1)))
	s.denied(shareQueryPath, "RESOURCE_NOT_EXISTS", with(query, "out_order_no", "S-2"))
	s.denied(shareQueryPath, "RESOURCE_NOT_EXISTS", with(query, "transaction_id", "1"))
	s.wallet(storeID, wepaytest.Funds{Available: 200})
}

func TestShareManyTimesAndFinish(t *testing.T) {
	s, transaction := sharingShop(t)
	s.granted(multiPath, shareOf(transaction, "S-1", toStore(100)))
	s.granted(multiPath, shareOf(transaction, "S-2", toStore(199)))
	s.unshared(transaction, "701")
	s.denied(multiPath, "AMOUNT_OVERDUE", shareOf(transaction, "S-3", toStore(2)))
	s.granted(multiPath, shareOf(transaction, "S-3", toStore(1)))
	s.wallet(mchID, wepaytest.Funds{Frozen: 700})
	finish := map[string]string{"transaction_id": transaction, "out_order_no": "S-4", "description": "done"}
	s.denied(finishPath, "INVALID_REQUEST", with(finish, "out_order_no", "S-1"))
	first := s.granted(finishPath, finish)
	check(t, s.granted(finishPath, finish), map[string]string{"order_id": first.Get("order_id")})
	s.denied(finishPath, "INVALID_REQUEST", with(finish, "description", "over"))
	s.denied(finishPath, "INVALID_REQUEST", with(finish, "out_order_no", "S-5"))
	s.denied(multiPath, "INVALID_REQUEST", shareOf(transaction, "S-5", toStore(1)))
	s.granted(multiPath, shareOf(transaction, "S-1", toStore(100))) // which is done
	s.wallet(mchID, wepaytest.Funds{Available: 700})
	s.wallet(storeID, wepaytest.Funds{Available: 300})
	check(t, s.granted(shareQueryPath, map[string]string{"transaction_id": transaction, "out_order_no": "S-4"}), map[string]string{"status": "FINISHED", "description": "done"})
}

func TestShareIsRefused(t *testing.T) {
	s, transaction := sharingShop(t)
	s.pay("PLAIN-001", 1000)
	plain, _ := s.wechat.Order(mchID, "PLAIN-001")
	many := make([]string, 51)
	for i := range many {
		many[i] = toStore(1)
	}
	for name, c := range map[string]struct {
		code string
		in   map[string]string
	}{
		"nothing to share":         {"NOT_SHARE_ORDER", shareOf(plain.TransactionID, "S-1", toStore(1))},
		"no order":                 {"ORDERNOTEXIST", shareOf("4200000000", "S-1", toStore(1))},
		"no transaction_id":        {"INVALID_TRANSACTIONID", shareOf("x", "S-1", toStore(1))},
		"no receivers":             {"PARAM_ERROR", shareOf(transaction, "S-1")},
		"51 receivers":             {"PARAM_ERROR", shareOf(transaction, "S-1", many...)},
		"one receiver twice":       {"RECEIVER_INVALID", shareOf(transaction, "S-1", toStore(1), toStore(1))},
		"null":                     {"PARAM_ERROR", shareOf(transaction, "S-1", "null")},
		"an amount of 0":           {"PARAM_ERROR", shareOf(transaction, "S-1", toStore(0))},
		"an amount below 0":        {"PARAM_ERROR", shareOf(transaction, "S-1", toStore(300), toPerson(-1))},
		"an amount of text":        {"PARAM_ERROR", shareOf(transaction, "S-1", strings.Replace(toStore(1), ":1,", `:"1",`, 1))},
		"an unknown name":          {"PARAM_ERROR", shareOf(transaction, "S-1", strings.Replace(toStore(1), "{", `{"a":1,`, 1))},
		"no description":           {"PARAM_ERROR", shareOf(transaction, "S-1", strings.Replace(toStore(1), "rent", "", 1))},
		"a long description":       {"PARAM_ERROR", shareOf(transaction, "S-1", strings.Replace(toStore(1), "rent", strings.Repeat("x", 81), 1))},
		"an unknown type":          {"PARAM_ERROR", shareOf(transaction, "S-1", strings.Replace(toStore(1), "MERCHANT_ID", "MERCHANT", 1))},
		"a stranger":               {"RECEIVER_INVALID", shareOf(transaction, "S-1", strings.Replace(toStore(1), storeID, "1900000118", 1))},
		"another's name":           {"RECEIVER_INVALID", shareOf(transaction, "S-1", strings.Replace(toStore(1), "{", `{"name":"bank",`, 1))},
		"more than 30 %":           {"AMOUNT_OVERDUE", shareOf(transaction, "S-1", toStore(300), toPerson(1))},
		"sub_openid, no sub_appid": {"LACK_PARAMS", shareOf(transaction, "S-1", strings.Replace(toPerson(1), "OPENID", "SUB_OPENID", 1))},
	} {
		t.Run(name, func(t *testing.T) {
			s.denied(sharePath, c.code, c.in)
			s.denied(multiPath, c.code, c.in)
		})
	}
	s.granted(removePath, map[string]string{"receiver": `{"type":"MERCHANT_ID","account":"` + storeID + `"}`})
	s.denied(sharePath, "RECEIVER_INVALID", shareOf(transaction, "S-1", toStore(1)))
	for _, receiver := range []string{`{`, `[]`, `{"type":"X","account":"1","relation_type":"STORE"}`, `{"type":"MERCHANT_ID","account":"1","relation_type":"X"}`, `{"type":"MERCHANT_ID","account":"1","relation_type":"CUSTOM"}`} {
		s.denied(addPath, "PARAM_ERROR", map[string]string{"receiver": receiver})
	}
	s.wallet(mchID, wepaytest.Funds{Available: 1000, Frozen: 1000})
	s.wallet(storeID, wepaytest.Funds{})
}

func TestFiftyShares(t *testing.T) {
	s, transaction := sharingShop(t)
	for i := range 50 {
		s.granted(multiPath, shareOf(transaction, fmt.Sprintf("S-%d", i), toStore(1)))
	}
	s.denied(multiPath, "INVALID_REQUEST", shareOf(transaction, "S-50", toStore(1)))
}

// A receiver who cannot take it leaves it with the merchant.
func TestBarredReceiver(t *testing.T) {
	s, transaction := sharingShop(t)
	s.wechat.BarReceiver(storeID)
	s.granted(multiPath, shareOf(transaction, "S-1", toStore(100), toPerson(50)))
	got := outcomes(t, s.granted(shareQueryPath, map[string]string{"transaction_id": transaction, "out_order_no": "S-1"}))
	if got[0].Result != "CLOSED" || got[0].FailReason != "ACCOUNT_ABNORMAL" || got[1].Result != "SUCCESS" {
		t.Errorf("the outcome is %+v", got)
	}
	s.wallet(mchID, wepaytest.Funds{Frozen: 950})
	s.wallet(storeID, wepaytest.Funds{})
}

// Thirty days later what was not shared is the merchant's.
func TestFrozenMoneyThaws(t *testing.T) {
	s, transaction := sharingShop(t)
	s.granted(multiPath, shareOf(transaction, "S-1", toStore(100)))
	s.clock.Advance(30*24*time.Hour - 1)
	s.wallet(mchID, wepaytest.Funds{Frozen: 900})
	s.clock.Advance(1)
	s.wallet(mchID, wepaytest.Funds{Available: 900})
	s.denied(multiPath, "INVALID_REQUEST", shareOf(transaction, "S-2", toStore(1)))
}

// A refund takes what is frozen first, and shares never take what is gone.
func TestRefundOfSharedOrder(t *testing.T) {
	s, transaction := sharingShop(t)
	s.granted(multiPath, shareOf(transaction, "S-1", toStore(100)))
	if got := s.refused(wepay.Refund, refundOf("ORDER-0001", "R-1", 1000, 1000)); got.Code != "NOTENOUGH" {
		t.Errorf("what the store has is refunded: %v", got)
	}
	s.do(wepay.Refund, refundOf("ORDER-0001", "R-1", 1000, 800))
	s.wallet(mchID, wepaytest.Funds{Frozen: 100})
	s.denied(multiPath, "NOTENOUGH", shareOf(transaction, "S-2", toStore(101)))
	s.deposit(50)
	s.do(wepay.Refund, refundOf("ORDER-0001", "R-2", 1000, 150))
	s.wallet(mchID, wepaytest.Funds{})
}

func TestReturnOfShare(t *testing.T) {
	s, transaction := sharingShop(t)
	shared := s.granted(sharePath, shareOf(transaction, "S-1", toStore(200), toPerson(100)))
	in := map[string]string{
		"out_order_no": "S-1", "out_return_no": "B-1", "return_account_type": "MERCHANT_ID",
		"return_account": storeID, "return_amount": "150", "description": "too much",
	}
	first := s.granted(returnPath, in)
	check(t, first, map[string]string{"result": "SUCCESS", "order_id": shared.Get("order_id"), "return_amount": "150", "fail_reason": ""})
	check(t, s.granted(returnPath, in), map[string]string{"return_no": first.Get("return_no")})
	s.wallet(mchID, wepaytest.Funds{Available: 850})
	s.wallet(storeID, wepaytest.Funds{Available: 50})
	query := map[string]string{"order_id": shared.Get("order_id"), "out_return_no": "B-1"}
	check(t, s.granted(returnQueryPath, query), map[string]string{"result": "SUCCESS", "return_no": first.Get("return_no")})

	s.denied(returnPath, "INVALID_REQUEST", with(in, "return_amount", "149"))
	next := with(in, "out_return_no", "B-2")
	s.denied(returnPath, "AMOUNT_OVERDUE", with(next, "return_amount", "51"))
	s.denied(returnPath, "RECEIVER_INVALID", with(next, "return_account", openID))
	s.denied(returnPath, "RESOURCE_NOT_EXISTS", with(next, "out_order_no", "S-2"))
	s.denied(returnPath, "LACK_PARAMS", with(next, "out_order_no", ""))
	s.denied(returnPath, "PARAM_ERROR", with(next, "return_account_type", "PERSONAL_OPENID"))
	s.denied(returnQueryPath, "RESOURCE_NOT_EXISTS", with(query, "out_return_no", "B-2"))

	s.payStore(50) // the store has spent its share
	check(t, s.granted(returnPath, with(next, "return_amount", "50")), map[string]string{"result": "FAILED", "fail_reason": "PAYER_ACCOUNT_ABNORMAL"})
	if err := s.wechat.Deposit(storeID, 100); err != nil {
		t.Fatal(err)
	}
	check(t, s.granted(returnPath, with(next, "return_amount", "50")), map[string]string{"result": "FAILED"}) // for good
	s.clock.Advance(180 * 24 * time.Hour)
	s.granted(returnPath, with(next, "out_return_no", "B-3", "return_amount", "25"))
	s.clock.Advance(1)
	s.denied(returnPath, "INVALID_REQUEST", with(next, "out_return_no", "B-4", "return_amount", "25"))
	s.wallet(storeID, wepaytest.Funds{Available: 75})
	s.wallet(mchID, wepaytest.Funds{Available: 875})
}

// payStore has the store pay out of its own account.
func (s *shop) payStore(fee int) {
	s.t.Helper()
	if err := s.wechat.AddMerchant(wepaytest.Merchant{MchID: storeID, AppIDs: []string{appID}, Key: key}); err != nil {
		s.t.Fatal(err)
	}
	credential, err := s.wechat.Issue(storeID)
	if err != nil {
		s.t.Fatal(err)
	}
	own := s.merchant.Certificate
	defer func() { s.merchant.Certificate = own }()
	s.merchant.Certificate = &credential.Certificate
	check(s.t, s.ask(transferPath, with(validTransfer, "mchid", storeID, "amount", fmt.Sprint(fee))), map[string]string{"result_code": "SUCCESS"})
}

// However many share, return and refund at once, no fen is made or lost.
func TestConcurrentSharing(t *testing.T) {
	s, transaction := sharingShop(t)
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			number := fmt.Sprintf("S-%d", i%6)
			s.ask(multiPath, shareOf(transaction, number, toStore(70)))
			s.ask(returnPath, map[string]string{
				"out_order_no": number, "out_return_no": "B-" + number, "return_account_type": "MERCHANT_ID",
				"return_account": storeID, "return_amount": "40", "description": "back",
			})
			s.ask(refundPath, map[string]string{
				"out_trade_no": "ORDER-0001", "out_refund_no": fmt.Sprintf("R-%d", i%3), "total_fee": "1000", "refund_fee": "50",
			})
		})
	}
	all.Wait()
	// Four shares of 70 fit into 30 %, each returned 40 of once.
	s.wallet(storeID, wepaytest.Funds{Available: 4 * 30})
	s.wallet(mchID, wepaytest.Funds{Available: 4 * 40, Frozen: 1000 - 4*70 - 3*50})
}

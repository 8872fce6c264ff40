package wepaytest

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// Merchant is an account at WeChat Pay.
type Merchant struct {
	MchID  string
	AppIDs []string // the appids bound to the account
	Key    string   // API v2's key (API密钥), 32 characters; "": the account has API v3 alone

	// APIv3Key is the key of API v3 (APIv3密钥), 32 letters and digits; "": it was
	// never set, and there are no notifications of API v3.
	APIv3Key string
	// Mode is by which keys the account knows WeChat in API v3.
	Mode KeyMode

	// RefundNotifyURL gets the notifications of refunds without a notify_url, as set
	// in the merchant platform; "": there are none.
	RefundNotifyURL string

	// SubMerchants make the account a partner's (服务商), whose every call has
	// to name one of them.
	SubMerchants []SubMerchant
}

// SubMerchant is an account that a partner acts for (特约商户).
type SubMerchant struct {
	MchID  string
	AppIDs []string // the sub_appids bound to it
}

// account is a merchant with its books.
type account struct {
	Merchant
	real, sandbox books

	certificates map[string]*x509.Certificate // the merchant's own, by serial number
	keyRing      keyRing

	sandboxKey        string
	sandboxKeyExpires time.Time

	payoutsWait  bool
	billsDelayed bool
	billChange   func(*BillLine) bool // nil: bills tell what happened
	filled       map[string]int       // lines of bills that FillBill made, by bill_date

	applyments map[string]*applyment // by business_code
	complaints []complaint           // in the order of time
}

// side returns the books of a payment, and the key of its notifications.
func (a *account) side(sandbox bool, now time.Time) (*books, string) {
	if sandbox {
		return &a.sandbox, a.currentSandboxKey(now)
	}
	return &a.real, a.Key
}

// AddMerchant registers an account. For one that is there already it changes
// the keys, their mode and the appids at once, and leaves its orders as they are.
func (s *Server) AddMerchant(m Merchant) error {
	switch {
	case m.MchID == "":
		return fmt.Errorf("adding a merchant: %w", &wepay.FieldError{Field: "mch_id", Reason: "is required", Missing: true})
	case m.APIv3Key != "" && (len(m.APIv3Key) != 32 || !nonce(m.APIv3Key)):
		return fmt.Errorf("adding merchant %q: %w", m.MchID, &wepay.FieldError{Field: "apiv3_key", Reason: "must be 32 letters and digits"})
	case len(m.Key) != 32 && (m.Key != "" || m.APIv3Key == ""):
		return fmt.Errorf("adding merchant %q: %w", m.MchID, &wepay.FieldError{Field: "key", Reason: "must be 32 characters"})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a, found := s.accounts[m.MchID]
	if !found {
		a = &account{
			real: newBooks(), sandbox: newBooks(), filled: make(map[string]int),
			certificates: make(map[string]*x509.Certificate), applyments: make(map[string]*applyment),
		}
		s.accounts[m.MchID] = a
	}
	m.AppIDs = slices.Clone(m.AppIDs)
	m.SubMerchants = slices.Clone(m.SubMerchants)
	a.Merchant = m
	a.migrate(m.Mode)
	return nil
}

// belongs refuses a request that names an appid or a sub-merchant which the
// account has nothing to do with.
func (a *account) belongs(in wepay.Fields, of identity) *refusal {
	if of.appID != "" {
		appID := in.Get(of.appID)
		if appID == "" {
			return lacks(of.appID)
		}
		if !slices.Contains(a.AppIDs, appID) {
			return refuse("APPID_MCHID_NOT_MATCH", "appid和mch_id不匹配")
		}
	}
	subMchID, subAppID := in.Get("sub_mch_id"), in.Get("sub_appid")
	optional := of.sub != needsSub || len(a.SubMerchants) == 0
	if subMchID == "" && subAppID == "" && optional {
		return nil
	}
	if subMchID == "" {
		return lacks("sub_mch_id")
	}
	i := slices.IndexFunc(a.SubMerchants, func(sub SubMerchant) bool { return sub.MchID == subMchID })
	if i < 0 {
		return refuse("NOAUTH", "受理关系不存在")
	}
	if subAppID != "" && !slices.Contains(a.SubMerchants[i].AppIDs, subAppID) {
		return refuse("APPID_MCHID_NOT_MATCH", "sub_mch_id与sub_appid不匹配")
	}
	return nil
}

// books are what an account did in one world, real or sandbox. A partner's
// numbers are unique over all its sub-merchants, the strict reading.
type books struct {
	funds

	orders       map[string]*order  // by out_trade_no
	transactions map[string]*order  // by transaction_id
	refunds      map[string]*refund // by out_refund_no
	refundIDs    map[string]*refund // by refund_id
	payouts      map[payoutKey]*payout
	receivers    map[receiverKey]receiver
	shares       map[string]*share        // by out_order_no
	shareIDs     map[string]*share        // by order_id
	returns      map[string]*shareReturn  // by out_return_no
	transfers    map[string]*transferBill // by out_bill_no
	transferIDs  map[string]*transferBill // by transfer_bill_no
	batches      map[string]*batch        // by out_batch_no
	combined     map[string]*combined     // by combine_out_trade_no
	trades       []trade                  // of the bills, in the order of time
}

func newBooks() books {
	return books{
		orders:       make(map[string]*order),
		transactions: make(map[string]*order),
		refunds:      make(map[string]*refund),
		refundIDs:    make(map[string]*refund),
		payouts:      make(map[payoutKey]*payout),
		receivers:    make(map[receiverKey]receiver),
		shares:       make(map[string]*share),
		shareIDs:     make(map[string]*share),
		returns:      make(map[string]*shareReturn),
		transfers:    make(map[string]*transferBill),
		transferIDs:  make(map[string]*transferBill),
		batches:      make(map[string]*batch),
		combined:     make(map[string]*combined),
	}
}

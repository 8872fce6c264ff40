package wepaytest

import (
	"fmt"
	"slices"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// Contract is what a payer lets a merchant debit (委托代扣), by API v2.
type Contract struct {
	URL    string // where it is told of
	ID     string // contract_id, WeChat's number
	Code   string // contract_code, the merchant's
	PlanID string
	OpenID string // "": the payer of every order
	AppID  string // "": it is not said, as in older notices

	SignType wepay.SignType // "": MD5
}

// What can become of a contract.
const (
	ContractSigned = "ADD"
	ContractEnded  = "DELETE"
)

// contractRetries is how long after each failure WeChat tells of a contract again.
// Source: WeChat Pay, 签约、解约结果通知.
var contractRetries = slices.Concat(
	slices.Repeat([]time.Duration{10 * time.Second}, 3), slices.Repeat([]time.Duration{30 * time.Second}, 3), slices.Repeat([]time.Duration{5 * time.Minute}, 23),
)

// NotifyContract tells a merchant over API v2 that a contract was signed or has ended,
// with the options of Pay for notifications. As WeChat's it has neither a nonce_str
// nor a return_code. The error wraps wepay.ErrNoMerchant or ErrClosed.
func (s *Server) NotifyContract(mchID string, c Contract, change string, options ...PayOption) (*Delivery, error) {
	return notifying(options, fmt.Sprintf("telling %q of contract %q", mchID, c.ID), func(p payment) (*Delivery, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		a, found := s.accounts[mchID]
		if !found {
			return nil, wepay.ErrNoMerchant
		}
		now := s.clock.Now()
		_, key := a.side(p.inSandbox, now)
		d := s.delivery(c.URL, c.notice(mchID, change, p, key, now), p)
		d.retries = contractRetries
		return d, nil
	})
}

func (c Contract) notice(mchID, change string, p payment, key string, now time.Time) []byte {
	fields := wepay.NewFields(map[string]string{
		"mch_id": mchID, "contract_code": c.Code, "plan_id": c.PlanID, "openid": payer, "change_type": change, "contract_id": c.ID,
		"operate_time": now.In(beijing).Format(dateTimeFormat), "contract_expired_time": now.AddDate(1, 0, 0).In(beijing).Format(dateTimeFormat),
		"request_serial": fmt.Sprint(now.UnixMilli()),
	})
	if c.OpenID != "" {
		fields.Set("openid", c.OpenID)
	}
	if c.AppID != "" {
		fields.Set("appid", c.AppID)
	}
	if change == ContractEnded {
		fields.Set("contract_termination_mode", "2")
	}
	signType := wepay.MD5
	if c.SignType != "" {
		signType = c.SignType
	}
	if p.signType {
		fields.Set("sign_type", string(signType))
	}
	for _, field := range p.extra {
		fields.Set(field.Name, field.Value)
	}
	if p.wrongSignature {
		key = wrongKey
	}
	fields.Set("sign", apiv2.Sign(fields, signType, key))
	return encode("xml", fields, "")
}

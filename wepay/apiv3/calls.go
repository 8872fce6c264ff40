package apiv3

import (
	"slices"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/row"
)

// call is a row of this package's tables: everything that differs between the
// operations of API v3.
type call struct {
	row.Row

	method string
	tests  bool // it is of the keys: what fails for them is to be corrected
	// path is the call's. {name} stands for a field, which is escaped; [part] is left
	// out of a call without a sub-merchant, also in the members of in.
	path string
	// preferred is the path of a request that has all fields in it; "": none.
	preferred string
	as        acting

	// in makes members of the caller's and the merchant's fields: the query of a
	// GET, the body of a POST.
	in fieldMap
	// body adds to a body what in cannot say; nil: nothing.
	body func(x *exchange, body object) error
	// encrypted are the paths in the body, or in each of an array's objects, of what
	// only WeChat may read.
	encrypted []string
	// decrypted are the paths in the reply of what only the merchant may read.
	decrypted []string

	// out makes fields for the caller of the reply, besides those of every
	// operation.
	out fieldMap
	// result adds to the caller's fields what out cannot say; nil: nothing.
	result func(x *exchange, answer object, out *wepay.Fields) error
}

// acting says for whom a partner's call is.
type acting int

const (
	forSub      acting = iota // a sub-merchant, the configured one unless the request names another
	forSubOrAll               // the same, or all of them if the partner may act for any
	forNamed                  // a sub-merchant that the request names, else the partner's own account
	forAccount                // the merchant's own account alone
)

// calls are the operations of API v3, from the tables of this package. Paths and
// verdicts are those of WeChat Pay's documents of each call.
var calls map[wepay.Operation]call

// The tables refer to functions that use calls, so calls cannot be initialised in
// its declaration.
func init() {
	calls = make(map[wepay.Operation]call)
	for _, table := range []map[wepay.Operation]call{orderCalls, refundCalls, billCalls, transferCalls, batchCalls, sharingCalls, receiverCalls, combineCalls, securityCalls} {
		for op, call := range table {
			calls[op] = call
		}
	}
}

// actFor is Merchant.ActFor for calls that can name a sub-merchant. The rules of
// others reject sub_mch_id: whoever names a sub-merchant must not pay from the
// partner's own account.
func (c *call) actFor(m *wepay.Merchant, in wepay.Fields) (*wepay.Merchant, wepay.Fields, error) {
	switch {
	case c.as == forAccount, c.as == forNamed && in.Get("sub_mch_id") == "":
		own, request := *m, in.Clone()
		own.SubMchID, own.SubAppID = "", ""
		if c.as == forNamed {
			request.Delete("sub_mch_id")
		}
		return &own, request, nil
	default:
		needed := c.as != forSubOrAll || !slices.Contains(m.SubMchIDs, wepay.AnySubMerchant)
		if !needed && in.Get("sub_mch_id") == wepay.AnySubMerchant {
			acting, request := m.ActForAll(in)
			return acting, request, nil
		}
		return m.ActFor(in, needed)
	}
}

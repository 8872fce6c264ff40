package apiv3

import (
	"slices"

	"github.com/windsome/caddy-wepay/wepay"
)

// call is one row of the tables of this package: everything that tells one
// operation of API v3 from another.
type call struct {
	method string
	// path is where the call goes; {name} stands for a field of API v2, which
	// goes there escaped. Partner is the one of a 服务商; "": the same.
	path, partner string
	as            acting
	payout        bool // money leaves the account for where the caller says
	bill          bool // the reply is a bill's address, see Client.Download

	rules wepay.Rules              // the fields that a caller may give
	check func(wepay.Fields) error // what fields mean to each other

	// route says where a request goes that the path alone does not tell; nil: the
	// path.
	route func(x *exchange) string
	// query and body make what WeChat gets of the caller's fields; nil, and
	// a body that is nil: nothing.
	query func(x *exchange) (members, error)
	body  func(x *exchange) (object, error)
	// encrypted are the places in the body, or in each of an array's objects, of
	// what only WeChat may read.
	encrypted []string
	// decrypted are the places in the reply of what only the merchant may read.
	decrypted []string

	// echoes are fields that the translated reply, where it has them, repeats from
	// the request; answers are those without which it is none.
	echoes, answers []string
	// result makes what the caller gets of the reply, under API v2's names.
	result func(x *exchange, answer object) (wepay.Fields, error)

	// repeatable: the same call with the same number does no more than the
	// first, so that the client may send it to the next endpoint when the first
	// gave no believable answer.
	repeatable bool
	unknown    wepay.Verdict            // what to do when there was no believable answer
	ask        wepay.Operation          // tells what became of a call whose outcome is unknown
	verdicts   map[string]wepay.Verdict // by WeChat's code, over the common ones
}

// acting is whom a partner's call is for.
type acting int

const (
	forSub      acting = iota // a sub-merchant, the configured one unless the request names another
	forSubOrAll               // the same, or all together of a partner who may act for anybody
	forNamed                  // a sub-merchant that the request names, else the partner's own account
	forAccount                // the merchant's own account alone
)

// calls are the operations of API v3, from the tables of this package. Paths and
// verdicts are those of WeChat Pay's documents of each call.
var calls map[wepay.Operation]call

// The tables name functions that use calls, so that Go cannot initialise it in
// its declaration.
func init() {
	calls = make(map[wepay.Operation]call)
	for _, table := range []map[wepay.Operation]call{orderCalls, refundCalls, billCalls, transferCalls, batchCalls, sharingCalls, receiverCalls, combineCalls} {
		for op, call := range table {
			calls[op] = call
		}
	}
}

// pathOf is where the call goes for a merchant.
func (c call) pathOf(m *wepay.Merchant) string {
	if m.SubMchID != "" && c.partner != "" {
		return c.partner
	}
	return c.path
}

// actFor is Merchant.ActFor for what the call can say of whom it is for. Where it
// cannot say it, the rules refuse to be told: who names a sub-merchant is not to
// pay from the partner's own account.
func (c call) actFor(m *wepay.Merchant, in wepay.Fields) (*wepay.Merchant, wepay.Fields, error) {
	switch {
	case c.as == forAccount, c.as == forNamed && in.Get("sub_mch_id") == "":
		own, request := *m, in.Clone()
		own.SubMchID, own.SubAppID = "", ""
		if c.as == forNamed {
			request.Delete("sub_mch_id")
		}
		return &own, request, nil
	default:
		return m.ActFor(in, c.as != forSubOrAll || !slices.Contains(m.SubMchIDs, wepay.AnySubMerchant))
	}
}

// movesMoney says whether money may have left the account for where the caller
// says, although nobody can tell.
func (c call) movesMoney() bool { return c.payout && c.unknown == wepay.Query }

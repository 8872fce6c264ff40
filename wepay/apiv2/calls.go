package apiv2

import (
	"context"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/row"
)

// call is a row of this package's tables: everything that differs between the
// operations of API v2.
type call struct {
	row.Row

	path        string        // under the endpoint
	inner       bool          // this package calls it, and no caller can
	risk        bool          // the endpoint is the risk server's
	timeout     time.Duration // of one attempt; 0: the client's
	certificate bool          // WeChat wants the merchant's certificate
	identity    identity      // who calls; the zero value is commonIdentity

	signType  wepay.SignType    // the call's own; "": the merchant's
	saysMD5   bool              // sign_type is sent although it is MD5
	encrypted map[string]string // fields that only WeChat may read, and what they are sent as
	escaped   []string          // fields that are signed as they are and sent URL-encoded

	nonceless bool // WeChat knows no nonce_str here, and refuses what it does not know
	unsigned  bool // WeChat never signs the reply
	nested    bool // an element of the reply holds elements

	// result makes what the caller gets; nil: the reply itself.
	result func(c *Client, s signing, request, reply wepay.Fields) wepay.Fields
	// flow does the operation where one request does not; nil: Client.once.
	flow func(ctx context.Context, c *Client, op wepay.Operation, in wepay.Fields) (wepay.Fields, error)
}

// calls are the operations of API v2, from the tables of this package. Paths,
// signatures and verdicts are those of WeChat Pay's documents of each call.
var calls map[wepay.Operation]call

// The tables refer to functions that use calls, so calls cannot be initialised in
// its declaration.
func init() {
	calls = make(map[wepay.Operation]call)
	for _, table := range []map[wepay.Operation]call{orderCalls, codeCalls, toolCalls, payoutCalls, bankCalls, sharingCalls, billCalls} {
		for op, call := range table {
			if call.identity == (identity{}) {
				call.identity = commonIdentity
			}
			calls[op] = call
		}
	}
}

// identity names the fields of the caller's ids; "" is left out.
type identity struct {
	appID, mchID, subAppID, subMchID string
}

var (
	commonIdentity   = identity{"appid", "mch_id", "sub_appid", "sub_mch_id"}
	accountIdentity  = identity{mchID: "mch_id"}
	transferIdentity = identity{appID: "mch_appid", mchID: "mchid"}
)

// fields returns a merchant's ids under these names.
func (id identity) fields(m *wepay.Merchant) wepay.Fields {
	var fields wepay.Fields
	for _, field := range []wepay.Field{
		{Name: id.appID, Value: m.AppID},
		{Name: id.mchID, Value: m.MchID},
		{Name: id.subAppID, Value: m.SubAppID},
		{Name: id.subMchID, Value: m.SubMchID},
	} {
		if field.Name != "" && field.Value != "" {
			fields.Set(field.Name, field.Value)
		}
	}
	return fields
}

// commonVerdicts are of the codes that any call can give, in row.Plain's spelling.
var commonVerdicts = map[string]wepay.Verdict{
	"BANKERROR": wepay.Query,

	"APPIDMCHIDNOTMATCH": wepay.Fix,
	"APPIDNOTEXIST":      wepay.Fix,
	"CAERROR":            wepay.Fix,
	"CERTERROR":          wepay.Fix,
	"INVALIDREQUEST":     wepay.Fix,
	"LACKPARAMS":         wepay.Fix,
	"MCHIDNOTEXIST":      wepay.Fix,
	"NOAUTH":             wepay.Fix,
	"NOTUTF8":            wepay.Fix,
	"PARAMERROR":         wepay.Fix,
	"PARAMISNOTUTF8":     wepay.Fix,
	"POSTDATAEMPTY":      wepay.Fix,
	"REQUIREPOSTMETHOD":  wepay.Fix,
	"SIGNERROR":          wepay.Fix,
	"XMLERROR":           wepay.Fix,
	"XMLFORMATERROR":     wepay.Fix,

	"FREQLIMIT":         wepay.Later,
	"FREQUENCYLIMITED":  wepay.Later,
	"INVALIDREQTOOMUCH": wepay.Later,
	"RATELIMITEXCEEDED": wepay.Later,

	"ACCOUNTERROR": wepay.Never,
	"RULELIMIT":    wepay.Never,
	"TRADEERROR":   wepay.Never,
}

// verdict returns what a refusal means for repeating the call, and whether its
// code is known.
func (c *call) verdict(code string) (verdict wepay.Verdict, known bool) {
	if verdict, known = c.Verdict(code); !known {
		verdict, known = commonVerdicts[row.Plain(code)]
	}
	return verdict, known
}

package wepaytest

import (
	"encoding/json"
	"io"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
)

// receiverKey names a receiver of a merchant's, at a partner a sub-merchant's.
type receiverKey struct{ subMchID, kind, account string }

// receiver is an account that may get shares of orders.
type receiver struct {
	Type           string `json:"type"`
	Account        string `json:"account"`
	Name           string `json:"name,omitempty"`
	RelationType   string `json:"relation_type,omitempty"`
	CustomRelation string `json:"custom_relation,omitempty"`
}

var (
	receiverTypes = word("MERCHANT_ID", "PERSONAL_OPENID", "PERSONAL_SUB_OPENID")
	relations     = word("SERVICE_PROVIDER", "STORE", "STAFF", "STORE_OWNER", "PARTNER", "HEADQUARTER",
		"BRAND", "DISTRIBUTOR", "USER", "SUPPLIER", "CUSTOM")
)

// BarReceiver makes every further share for an account end as CLOSED, which leaves the
// money with the merchant.
func (s *Server) BarReceiver(account string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.barred[account] = true
}

func (x *exchange) receiverKey(kind, account string) receiverKey {
	return receiverKey{x.in.Get("sub_mch_id"), kind, account}
}

// checkReceiver checks what both adding and sharing require.
func (x *exchange) checkReceiver(kind, account string) *refusal {
	switch {
	case !receiverTypes(kind) || account == "" || len(account) > 64:
		return refuse("PARAM_ERROR", "参数错误:分账接收方参数格式错误")
	case kind == "PERSONAL_SUB_OPENID" && x.in.Get("sub_appid") == "":
		return lacks("sub_appid")
	default:
		return nil
	}
}

// addReceiver adds a receiver, or changes the one there is.
func (x *exchange) addReceiver() (wepay.Fields, *refusal) {
	r, refused := x.readReceiver()
	if refused != nil {
		return nil, refused
	}
	if !relations(r.RelationType) || r.RelationType == "CUSTOM" && r.CustomRelation == "" {
		return nil, refuse("PARAM_ERROR", "参数错误:relation_type参数格式错误")
	}
	x.books.receivers[x.receiverKey(r.Type, r.Account)] = r
	r.Name = ""
	return wepay.Fields{{Name: "receiver", Value: jsonOf(r)}}, nil
}

// removeReceiver succeeds for one that is not there as well, as adding does for
// one that is.
func (x *exchange) removeReceiver() (wepay.Fields, *refusal) {
	r, refused := x.readReceiver()
	if refused != nil {
		return nil, refused
	}
	delete(x.books.receivers, x.receiverKey(r.Type, r.Account))
	return wepay.Fields{{Name: "receiver", Value: jsonOf(receiver{Type: r.Type, Account: r.Account})}}, nil
}

func (x *exchange) readReceiver() (receiver, *refusal) {
	var r receiver
	if !readJSON(x.in.Get("receiver"), &r) {
		return r, refuse("PARAM_ERROR", "参数错误:receiver参数格式错误")
	}
	return r, x.checkReceiver(r.Type, r.Account)
}

// readJSON takes one value and no name that it does not know.
func readJSON(value string, to any) bool {
	d := json.NewDecoder(strings.NewReader(value))
	d.DisallowUnknownFields()
	if d.Decode(to) != nil {
		return false
	}
	_, err := d.Token()
	return err == io.EOF
}

// jsonOf writes what always can be written: structs of strings and numbers.
func jsonOf(value any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(value)
	return strings.TrimSuffix(b.String(), "\n")
}

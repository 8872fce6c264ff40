package wepay

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	strictjson "github.com/go-json-experiment/json"
)

// The fields that several calls of profit sharing have.
var (
	transactionID = Rule{Name: "transaction_id", Required: true, Max: 32, Is: Number}
	outOrderNo    = Rule{Name: "out_order_no", Required: true, Max: 64, Is: Number}
	outReturnNo   = Rule{Name: "out_return_no", Required: true, Max: 64, Is: Number}
	// orderOrOwn is WeChat's number of a share, or the merchant's.
	orderOrOwn = Rules{
		{Name: "out_order_no", Required: true, Unless: []string{"order_id"}, Max: 64, Is: Number},
		{Name: "order_id", Max: 64, Is: Number},
	}
)

// The fields of the calls of profit sharing (分账).
// Source: WeChat Pay, 分账.
var (
	// ShareRules are of ProfitShare and ProfitShareMulti.
	ShareRules       = Rules{transactionID, outOrderNo, {Name: "receivers", Required: true, Max: 10240, Is: Receivers}}
	FinishShareRules = Rules{transactionID, outOrderNo, {Name: "description", Required: true, Max: 80}}
	QueryShareRules  = Rules{transactionID, outOrderNo}
	ReturnShareRules = append(Rules{
		outReturnNo,
		{Name: "return_account_type", Is: OneOf("MERCHANT_ID")},
		{Name: "return_account", Required: true, Max: 64},
		{Name: "return_amount", Required: true, Is: Fen},
		{Name: "description", Required: true, Max: 80},
	}, orderOrOwn...)
	QueryReturnRules    = append(Rules{outReturnNo}, orderOrOwn...)
	AddReceiverRules    = Rules{{Name: "receiver", Required: true, Max: 2048, Is: NewReceiver}}
	RemoveReceiverRules = Rules{{Name: "receiver", Required: true, Max: 2048, Is: Receiver}}
)

// maxReceivers is how many may share in one request.
const maxReceivers = 50

// receiver gets a share of an order's amount.
type receiver struct {
	Type           string          `json:"type"`
	Account        string          `json:"account"`
	Name           string          `json:"name"`
	Amount         json.RawMessage `json:"amount"` // a number, not text
	Description    string          `json:"description"`
	RelationType   string          `json:"relation_type"`
	CustomRelation string          `json:"custom_relation"`
}

var (
	receiverTypes = []string{"MERCHANT_ID", "PERSONAL_OPENID", "PERSONAL_SUB_OPENID"}
	relationTypes = []string{
		"SERVICE_PROVIDER", "STORE", "STAFF", "STORE_OWNER", "PARTNER", "HEADQUARTER",
		"BRAND", "DISTRIBUTOR", "USER", "SUPPLIER", "CUSTOM",
	}
)

// Receivers is the form of a list of receivers, JSON: each with type, account,
// amount in whole fen and description.
// Source: WeChat Pay, 单次分账.
func Receivers(value string) error {
	var list []receiver
	if err := strictjson.Unmarshal([]byte(value), &list); err != nil || len(list) == 0 {
		return errors.New("must be a JSON array of receivers")
	}
	if len(list) > maxReceivers {
		return fmt.Errorf("has %d receivers, the limit is %d", len(list), maxReceivers)
	}
	for i, r := range list {
		err := r.check()
		if err == nil {
			if err = Fen(string(r.Amount)); err != nil {
				err = fmt.Errorf("amount %w", err)
			}
		}
		if err == nil && (r.Description == "" || len(r.Description) > 80) {
			err = errors.New("description must be 1 to 80 bytes of UTF-8")
		}
		if err != nil {
			return fmt.Errorf("receiver %d: %w", i+1, err)
		}
	}
	return nil
}

// Receiver is the form of one receiver, a JSON object with type and account.
func Receiver(value string) error {
	var r receiver
	if err := strictjson.Unmarshal([]byte(value), &r); err != nil {
		return errors.New("must be a JSON object of one receiver")
	}
	return r.check()
}

// NewReceiver is the form of a receiver to be added: with relation_type as well,
// and custom_relation if that is CUSTOM.
// Source: WeChat Pay, 添加分账接收方.
func NewReceiver(value string) error {
	if err := Receiver(value); err != nil {
		return err
	}
	var r receiver
	if err := strictjson.Unmarshal([]byte(value), &r); err != nil {
		return err
	}
	if !slices.Contains(relationTypes, r.RelationType) {
		return errors.New("relation_type is none that WeChat Pay knows")
	}
	if r.RelationType == "CUSTOM" && r.CustomRelation == "" {
		return errors.New("custom_relation is required for relation_type CUSTOM")
	}
	return nil
}

func (r receiver) check() error {
	if !slices.Contains(receiverTypes, r.Type) {
		return errors.New("type is none that WeChat Pay knows")
	}
	if r.Account == "" || len(r.Account) > 64 {
		return errors.New("account must be 1 to 64 bytes")
	}
	return nil
}

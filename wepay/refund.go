package wepay

// RefundRules are the fields of Refund. The same out_refund_no is refunded
// once, however often it is sent; transaction_id wins over out_trade_no.
// Source: WeChat Pay, 申请退款 (/secapi/pay/refund).
var RefundRules = Rules{
	{Name: "out_refund_no", Required: true, Max: 64, Is: Number},
	{Name: "out_trade_no", Required: true, Unless: []string{"transaction_id"}, Max: 32, Is: Number},
	{Name: "transaction_id", Max: 32, Is: Number},
	{Name: "total_fee", Required: true, Is: Fen},
	{Name: "refund_fee", Required: true, Is: Fen},
	{Name: "detail", Max: 6000, Is: detail},
	{Name: "notify_url", Max: 256, Is: NotifyURL},
	{Name: "op_user_id", Max: 32},
	{Name: "refund_account", Is: OneOf("REFUND_SOURCE_UNSETTLED_FUNDS", "REFUND_SOURCE_RECHARGE_FUNDS")},
	{Name: "refund_desc", Max: 80},
	{Name: "refund_fee_type", Max: 8},
}

// RefundQueryRules are the fields of QueryRefund: one of four numbers, of which
// the first given in the order refund_id, out_refund_no, transaction_id,
// out_trade_no counts. Without an offset all refunds of an order are queried.
// Source: WeChat Pay, 查询退款 (/pay/refundquery).
var RefundQueryRules = Rules{
	{Name: "out_trade_no", Required: true, Unless: []string{"transaction_id", "out_refund_no", "refund_id"}, Max: 32, Is: Number},
	{Name: "transaction_id", Max: 32, Is: Number},
	{Name: "out_refund_no", Max: 64, Is: Number},
	{Name: "refund_id", Max: 32, Is: Number},
	{Name: "offset", Is: Between(0, 1000)},
}

// CheckRefund refuses to give back more than was paid.
func CheckRefund(in Fields) error {
	total, err := ParseFen(in.Get("total_fee"))
	if err != nil {
		return &FieldError{Field: "total_fee", Reason: err.Error()}
	}
	refund, err := ParseFen(in.Get("refund_fee"))
	if err != nil {
		return &FieldError{Field: "refund_fee", Reason: err.Error()}
	}
	if refund > total {
		return &FieldError{Field: "refund_fee", Reason: "must not be more than total_fee"}
	}
	return nil
}

package wepay

import (
	"errors"
	"fmt"
	"time"
)

// Trade is a row of a trade bill (交易账单): a payment, a refund, or a payment that was
// taken back. Amounts are fen.
type Trade struct {
	Time time.Time // to the second

	AppID    string
	MchID    string
	SubMchID string // a partner's trade; "": none

	TransactionID string
	OutTradeNo    string
	TradeType     string     // WeChat's word, such as JSAPI
	State         TradeState // another word of WeChat's is left as it is

	// Of a payment: the amount of the order, and what of it is settled, which is less
	// by the coupons that the merchant does not get the money of. Both are 0 in a
	// refund's row.
	TotalFee           int64
	SettlementTotalFee int64

	// Of a refund, and of what was taken back: the amount that was applied for, and
	// what of it is settled. WeChat's word for the state is SUCCESS, PROCESSING or FAIL.
	RefundID            string
	OutRefundNo         string
	RefundFee           int64
	SettlementRefundFee int64
	RefundStatus        string

	// Fee is WeChat's for the trade, in 1/100000 yuan; below 0 where it is given back.
	Fee int64
}

// TradeState is what a row of a trade bill is about.
type TradeState string

// The states.
const (
	TradePaid     TradeState = "SUCCESS" // 支付成功
	TradeRefunded TradeState = "REFUND"  // 转入退款: a refund has a row of its own
	TradeRevoked  TradeState = "REVOKED" // 已撤销
)

// BillType is which trades a bill has.
type BillType string

// The types, by WeChat's words for them.
const (
	BillOfAll      BillType = "ALL"
	BillOfPayments BillType = "SUCCESS" // no refunds
	BillOfRefunds  BillType = "REFUND"  // refunds only
)

// ReadTrades reads a trade bill that is not gzip: it calls each for every row, until
// each returns an error, which it returns. It needs the memory of one line; the trade
// is overwritten by the next. The type is by the bill's columns.
//
// Errors of the bill are as WriteJSON's. Only when ReadTrades returns nil is the bill
// known to add up to its summary: nothing final may be done before that.
// Source: WeChat Pay, 下载交易账单.
func (b *Bill) ReadTrades(each func(*Trade) error) (BillType, error) {
	r := &tradeReader{each: each}
	err := b.read(r)
	if r.stopped != nil {
		err = r.stopped
	}
	return r.kind, err
}

// tradeReader makes a trade of each row.
type tradeReader struct {
	each    func(*Trade) error
	stopped error // each's

	kind   BillType
	trade  Trade
	fields []tradeField // by columns
}

// tradeField is what a column says of a trade; nil: nothing that a Trade has.
type tradeField struct {
	text *string
	fen  *int64
	unit *int64 // of 1/100000 yuan
	time *time.Time
}

// fieldsOf are the fields of a trade by the titles that bills of any age have for
// them. Where there is no 订单金额 or 申请退款金额, the bill is from before coupons were
// accounted for, and 总金额 and 退款金额 are what was paid and applied for.
func (r *tradeReader) fieldsOf() map[string]tradeField {
	t := &r.trade
	return map[string]tradeField{
		"交易时间": {time: &t.Time}, "公众账号ID": {text: &t.AppID}, "商户号": {text: &t.MchID},
		"特约商户号": {text: &t.SubMchID}, "子商户号": {text: &t.SubMchID},
		"微信订单号": {text: &t.TransactionID}, "商户订单号": {text: &t.OutTradeNo},
		"交易类型": {text: &t.TradeType}, "交易状态": {text: (*string)(&t.State)},
		"订单金额": {fen: &t.TotalFee}, "总金额": {fen: &t.TotalFee}, "应结订单金额": {fen: &t.SettlementTotalFee},
		"微信退款单号": {text: &t.RefundID}, "商户退款单号": {text: &t.OutRefundNo}, "退款状态": {text: &t.RefundStatus},
		"申请退款金额": {fen: &t.RefundFee}, "退款金额": {fen: &t.SettlementRefundFee},
		"手续费": {unit: &t.Fee},
	}
}

// titles finds the columns of a trade.
func (r *tradeReader) titles(columns []column) error {
	all := r.fieldsOf()
	found := make(map[string]bool, len(columns))
	r.fields = make([]tradeField, len(columns))
	for i, c := range columns {
		r.fields[i], found[c.name] = all[c.name], true
	}
	for _, needed := range []string{"交易时间", "商户号", "微信订单号", "商户订单号", "交易状态", "手续费"} {
		if !found[needed] {
			return fmt.Errorf("this is no bill of trades: it has no column %s", needed)
		}
	}
	switch {
	case found["订单金额"] == found["总金额"]:
		return errors.New("this is no bill of trades: it has to have one of the columns 订单金额 and 总金额")
	case found["退款申请时间"]:
		r.kind = BillOfRefunds
	case found["商户退款单号"]:
		r.kind = BillOfAll
	default:
		r.kind = BillOfPayments
		return nil
	}
	for _, needed := range []string{"微信退款单号", "商户退款单号", "退款金额", "退款状态"} {
		if !found[needed] {
			return fmt.Errorf("this is no bill of trades with refunds: it has no column %s", needed)
		}
	}
	return nil
}

// cells makes a trade of a row.
func (r *tradeReader) cells(columns []column, cells []string) error {
	r.trade = Trade{SettlementTotalFee: -1, RefundFee: -1}
	for i, field := range r.fields {
		if err := field.set(cells[i]); err != nil {
			return fmt.Errorf("%s: %w", columns[i].title, err)
		}
	}
	t := &r.trade
	if t.SettlementTotalFee < 0 {
		t.SettlementTotalFee = t.TotalFee
	}
	if t.RefundFee < 0 {
		t.RefundFee = t.SettlementRefundFee
	}
	if t.State == TradePaid { // WeChat writes 0 for what there is not
		t.RefundID, t.OutRefundNo = "", ""
	}
	if t.SubMchID == "0" {
		t.SubMchID = ""
	}
	if r.stopped = r.each(t); r.stopped != nil {
		return r.stopped
	}
	return nil
}

func (r *tradeReader) summary([]column, []string) error { return nil }

// set reads a cell.
func (f tradeField) set(cell string) (err error) {
	switch {
	case f.text != nil:
		*f.text = wordsOf(cell)
	case f.unit != nil && cell != "":
		*f.unit, err = parseYuan(cell)
	case f.fen != nil:
		*f.fen, err = parseFen(cell)
	case f.time != nil:
		if *f.time, err = time.ParseInLocation(time.DateTime, cell, Beijing); err != nil {
			err = errors.New("is no time such as 2026-01-02 15:04:05")
		}
	}
	return err
}

// parseFen reads an amount of yuan that is whole fen and not below 0.
func parseFen(cell string) (int64, error) {
	if cell == "" {
		return 0, nil
	}
	units, err := parseYuan(cell)
	if err != nil {
		return 0, err
	}
	if units%unitsPerFen != 0 || units < 0 {
		return 0, errors.New("is no amount of whole fen")
	}
	return units / unitsPerFen, nil
}

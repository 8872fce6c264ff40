package reconcile_test

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// row is a row of a bill. Amounts are fen.
type row struct {
	at                       time.Time // zero: noon
	mchID, sub, state        string    // "": mchID, none, SUCCESS
	transactionID, number    string
	refundID, refund, status string
	total, coupons, refunded int64
}

const (
	titles = "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类," +
		"应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注"
	summary   = "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额"
	oldTitles = "交易时间,公众账号ID,商户号,子商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类," +
		"总金额,代金券或立减优惠金额,微信退款单号,商户退款单号,退款金额,代金券或立减优惠退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率"
	oldSummary = "总交易单数,总交易额,总退款金额,总代金券或立减优惠退款金额,手续费总金额"
)

func yuan(fen int64) string { return fmt.Sprintf("%d.%02d", fen/100, fen%100) }

// cells are those that bills of any age have before their amounts.
func (r row) cells() []string {
	if r.at.IsZero() {
		r.at = noon
	}
	or := func(text, otherwise string) string {
		if text == "" {
			return otherwise
		}
		return text
	}
	return []string{
		r.at.Format(time.DateTime), appID, or(r.mchID, mchID), or(r.sub, "0"), "", r.transactionID, r.number, "oSECRET", "JSAPI",
		or(r.state, "SUCCESS"), "CMB", "CNY",
	}
}

func (r row) refundCells() []string {
	if r.refund == "" {
		return []string{"0", "0"}
	}
	return []string{r.refundID, r.refund}
}

// billOf writes a bill as WeChat does.
func billOf(rows ...row) string {
	text := "\ufeff" + titles + "\r\n"
	var settled, refunded, total int64
	for _, r := range rows {
		cells := append(r.cells(), yuan(r.total-r.coupons), yuan(r.coupons))
		cells = append(append(cells, r.refundCells()...), yuan(r.refunded), "0.00", "", r.status, `袜子\ 红`, "attach", "0.00600", "0.60%", yuan(r.total), yuan(r.refunded), "")
		text += "`" + strings.Join(cells, ",`") + "\r\n"
		settled, refunded, total = settled+r.total-r.coupons, refunded+r.refunded, total+r.total
	}
	fees := fmt.Sprintf("%.5f", float64(len(rows))*0.006)
	return text + summary + "\r\n`" + strings.Join([]string{strconv.Itoa(len(rows)), yuan(settled), yuan(refunded), "0.0", fees, yuan(total), yuan(refunded)}, ",`") + "\r\n"
}

// oldBillOf writes a bill from before coupons were accounted for.
func oldBillOf(rows ...row) string {
	text := oldTitles + "\r\n"
	var refunded, total int64
	for _, r := range rows {
		cells := append(append(r.cells(), yuan(r.total), yuan(r.coupons)), r.refundCells()...)
		cells = append(cells, yuan(r.refunded), "0.00", "", r.status, "袜子", "", "0.00000", "0.60%")
		text += "`" + strings.Join(cells, ",`") + "\r\n"
		refunded, total = refunded+r.refunded, total+r.total
	}
	return text + oldSummary + "\r\n`" + strings.Join([]string{strconv.Itoa(len(rows)), yuan(total), yuan(refunded), "0.0", "0.0"}, ",`") + "\r\n"
}

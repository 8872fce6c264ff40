package wepaytest

import (
	"bufio"

	"github.com/windsome/caddy-wepay/wepay"
)

// downloadFlow is the journal of a day. The accounts for operation and for fees
// are never used here.
func (x *exchange) downloadFlow() (wepay.Fields, *refusal) {
	begin, end, refused := x.billDay()
	if refused != nil {
		return nil, refused
	}
	var movements []movement
	if x.in.Get("account_type") == "Basic" {
		for _, m := range x.books.movements {
			if !m.at.Before(begin) && m.at.Before(end) {
				movements = append(movements, m)
			}
		}
	}
	if len(movements) == 0 {
		return nil, refuse(noBill, "No Bill Exist")
	}
	for i := range movements {
		movements[i].merchant = x.account.MchID
	}
	x.bill = &bill{
		gzip: x.in.Get("tar_type") == "GZIP", mark: x.server.marksBills, digest: true,
		text: flowText(movements, x.server.widensBills),
	}
	return nil, nil
}

func flowText(movements []movement, wide bool) func(*bufio.Writer) {
	unit := "(元)"
	if wide {
		unit = "（元）"
	}
	return func(w *bufio.Writer) {
		writeTitles(w, []string{
			"记账时间", "微信支付业务单号", "资金流水单号", "业务名称", "业务类型", "收支类型",
			"收支金额" + unit, "账户结余" + unit, "资金变更提交申请人", "备注", "业务凭证号",
		})
		var in, out, inCount, outCount int64
		for _, m := range movements {
			direction, fee := "收入", m.fee
			if fee < 0 {
				direction, fee = "支出", -fee
				out += fee
				outCount++
			} else {
				in += fee
				inCount++
			}
			_ = writeValues(w, []string{
				clockText(m.at), m.number, m.flow, m.kind, m.kind, direction, yuan(fee), yuan(m.balance), m.merchant + "API", "", m.voucher,
			})
		}
		writeTitles(w, []string{"资金流水总笔数", "收入笔数", "收入金额", "支出笔数", "支出金额"})
		_ = writeValues(w, []string{countText(inCount+outCount, wide), countText(inCount, wide), yuan(in), countText(outCount, wide), yuan(out)})
	}
}

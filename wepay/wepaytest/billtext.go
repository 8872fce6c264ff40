package wepaytest

import (
	"bufio"
	"compress/gzip"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"strings"
	"time"
)

// bill is a reply that is text. It is written line by line, and twice if its digest
// precedes it, so it is never in memory as a whole.
type bill struct {
	text   func(*bufio.Writer)
	gzip   bool
	mark   bool // a byte order mark leads
	digest bool
}

func (b *bill) plain(w io.Writer) error {
	out := bufio.NewWriterSize(w, 32<<10)
	if b.mark {
		_, _ = out.WriteString("\uFEFF")
	}
	b.text(out)
	return out.Flush() // which returns the first error there was
}

// write writes the bill as it is sent. Compressed it is the content that is
// compressed, not its way.
func (b *bill) write(w io.Writer) error {
	if !b.gzip {
		return b.plain(w)
	}
	z := gzip.NewWriter(w)
	if err := b.plain(z); err != nil {
		return err
	}
	return z.Close()
}

// head sets the headers that a bill has.
func (b *bill) head(h http.Header) {
	h.Set("Content-Type", "text/plain")
	if b.digest {
		sum := sha1.New()
		_ = b.plain(sum) // a hash takes everything
		h.Set("Digest", "SHA="+hex.EncodeToString(sum.Sum(nil)))
	}
}

// column is a column of a bill, in those of the three kinds of bills that it is not
// excluded from.
type column struct {
	title           string
	notAll, notPaid bool
	notRefunds      bool
	value           func(line) string
}

func billColumns(kind string) []column {
	return slices.DeleteFunc(slices.Clone(columns), func(c column) bool {
		switch kind {
		case "ALL":
			return c.notAll
		case "SUCCESS":
			return c.notPaid
		default:
			return c.notRefunds
		}
	})
}

// columns are those of the bills since coupons are accounted for.
// Source: WeChat Pay, 下载交易账单.
var columns = []column{
	{title: "交易时间", value: func(l line) string { return clockText(l.at) }},
	{title: "公众账号ID", value: func(l line) string { return l.appID }},
	{title: "商户号", value: func(l line) string { return l.mchID }},
	{title: "特约商户号", value: func(l line) string { return orZero(l.subMchID) }},
	{title: "设备号", value: func(l line) string { return l.device }},
	{title: "微信订单号", value: func(l line) string { return l.transactionID }},
	{title: "商户订单号", value: func(l line) string { return l.number }},
	{title: "用户标识", value: func(l line) string { return l.openid }},
	{title: "交易类型", value: func(l line) string { return l.kind }},
	{title: "交易状态", value: func(l line) string { return l.state }},
	{title: "付款银行", value: func(line) string { return "CMB_CREDIT" }},
	{title: "货币种类", value: func(line) string { return "CNY" }},
	{title: "应结订单金额", value: func(l line) string { return yuan(l.settled) }},
	{title: "代金券金额", value: func(l line) string { return yuan(l.coupons) }},
	{title: "退款申请时间", notAll: true, notPaid: true, value: func(l line) string { return clockText(l.at) }},
	{title: "退款成功时间", notAll: true, notPaid: true, value: func(l line) string { return clockOrNothing(l.refundedAt) }},
	{title: "微信退款单号", notPaid: true, value: func(l line) string { return orZero(l.refundID) }},
	{title: "商户退款单号", notPaid: true, value: func(l line) string { return orZero(l.refundNumber) }},
	{title: "退款金额", notPaid: true, value: func(l line) string { return yuan(l.refunded) }},
	{title: "充值券退款金额", notPaid: true, value: func(l line) string { return yuan(l.couponsBack) }},
	{title: "退款类型", notPaid: true, value: func(l line) string { return l.refundKind }},
	{title: "退款状态", notPaid: true, value: func(l line) string { return l.refundState }},
	{title: "商品名称", value: func(l line) string { return merchants.Replace(l.body) }},
	{title: "商户数据包", value: func(l line) string { return merchants.Replace(l.attach) }},
	{title: "手续费", value: func(l line) string { return exactYuan(l.fee) }},
	{title: "费率", value: func(line) string { return feeRate }},
	{title: "订单金额", value: func(l line) string { return yuan(l.total) }},
	{title: "申请退款金额", notPaid: true, value: func(l line) string { return yuan(l.applied) }},
	{title: "费率备注", value: func(line) string { return "" }},
}

// tradeText writes a bill of trades with its summary.
func tradeText(columns []column, lines iter.Seq[line], wide bool) func(*bufio.Writer) {
	return func(w *bufio.Writer) {
		titles := make([]string, len(columns))
		for i, c := range columns {
			titles[i] = c.title
		}
		writeTitles(w, titles)
		var sum line
		var count int64
		values := make([]string, len(columns))
		for l := range lines {
			for i, c := range columns {
				values[i] = c.value(l)
			}
			if writeValues(w, values) != nil {
				return // the reader is gone, and there may be very many lines
			}
			count++
			sum.settled += l.settled
			sum.refunded += l.refunded
			sum.couponsBack += l.couponsBack
			sum.fee += l.fee
			sum.total += l.total
			sum.applied += l.applied
		}
		writeTitles(w, []string{"总交易单数", "应结订单总金额", "退款总金额", "充值券退款总金额", "手续费总金额", "订单总金额", "申请退款总金额"})
		_ = writeValues(w, []string{
			countText(count, wide), yuan(sum.settled), yuan(sum.refunded), yuan(sum.couponsBack), exactYuan(sum.fee), yuan(sum.total), yuan(sum.applied),
		})
	}
}

// writeTitles and writeValues write a line. The writer keeps its error, so only
// callers that write very many lines need to check it.
func writeTitles(w *bufio.Writer, titles []string) {
	_, _ = w.WriteString(strings.Join(titles, ",") + "\r\n")
}

func writeValues(w *bufio.Writer, values []string) error {
	for i, value := range values {
		if i > 0 {
			_ = w.WriteByte(',')
		}
		_ = w.WriteByte('`')
		_, _ = w.WriteString(value)
	}
	_, err := w.WriteString("\r\n")
	return err
}

// countText writes a count of a summary.
func countText(n int64, wide bool) string {
	if wide {
		return text(n) + ".0"
	}
	return text(n)
}

// yuan writes fen as bills do.
func yuan(fen int64) string { return decimal(fen, 100, 2) }

func exactYuan(n int64) string { return decimal(n, 100_000, 5) }

func decimal(n, unit int64, places int) string {
	sign := ""
	if n < 0 {
		sign, n = "-", -n
	}
	return fmt.Sprintf("%s%d.%0*d", sign, n/unit, places, n%unit)
}

func orZero(value string) string {
	if value == "" {
		return "0"
	}
	return value
}

func clockOrNothing(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return clockText(t)
}

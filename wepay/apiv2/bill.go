package apiv2

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/row"
)

// billVerdicts are of what WeChat says of a bill, and of the numbers that come
// with it: for some of its texts the number is all that is known.
// Source: WeChat Pay, 下载交易账单; the numbers are told by those who met them.
var billVerdicts = map[string]wepay.Verdict{
	"NOBILLEXIST":         wepay.Done, // nothing was traded that day
	"BILLCREATING":        wepay.Later,
	"COMPRESSGZIPERROR":   wepay.Later,
	"UNCOMPRESSGZIPERROR": wepay.Later,
	"INVALIDBILLTYPE":     wepay.Fix,
	"DATAFORMATERROR":     wepay.Fix,
	"MISSINGPARAMETER":    wepay.Fix,
	"SIGNERROR":           wepay.Fix,

	"100":   wepay.Again, // system error
	"20001": wepay.Fix,   // a parameter, by many texts: invalid bill_date, invalid appid …
	"20002": wepay.Done,  // No Bill Exist
	"20003": wepay.Later, // Bill Creating; a system error, others say
	"2000":  wepay.Later, // UnCompressGZip Error
	"20004": wepay.Later, // CompressGZip Error
	"20007": wepay.Fix,   // the account may not download bills
	"20100": wepay.Again, // SYSTEMERROR
}

// billCalls download the trades of a day, and the movements of an account. A bill
// is unsigned text; an error is XML, uncompressed even if gzip was requested.
var billCalls = map[wepay.Operation]call{
	wepay.DownloadBill: {
		path: "/pay/downloadbill", timeout: wepay.BillTimeout, unsigned: true,
		Row: row.Row{
			Bill: true, Rules: append(slices.Clone(wepay.BillRules), wepay.Rule{Name: "device_info", Max: 32}),
			Repeatable: true, Unknown: wepay.Again, Verdicts: billVerdicts,
		},
	},
	wepay.DownloadFundFlow: {
		path: "/pay/downloadfundflow", timeout: wepay.BillTimeout, certificate: true,
		identity: identity{appID: "appid", mchID: "mch_id"}, signType: wepay.HMACSHA256, unsigned: true,
		Row: row.Row{
			Bill: true, Rules: wepay.FundFlowRules,
			Repeatable: true, Unknown: wepay.Again, Verdicts: billVerdicts,
		},
	},
}

// Download implements wepay.Gateway.
func (c *Client) Download(ctx context.Context, op wepay.Operation, in wepay.Fields) (*wepay.Bill, error) {
	call, found := calls[op]
	if !found || !call.Bill {
		return nil, fmt.Errorf("%w: %s is no bill of API v2", wepay.ErrNoOperation, op)
	}
	p, err := c.prepare(ctx, op, call, in)
	if err != nil {
		return nil, err
	}
	failed := call.Failure(c.merchant, op)
	var bill *wepay.Bill
	var refused wepay.Fields
	err = c.send(ctx, call, p.body, nil, func(resp *http.Response) (err error) {
		bill, refused, err = openBill(call, resp)
		return err
	})
	switch {
	case err != nil:
		return nil, call.Unanswered(failed, err)
	case refused != nil:
		c.refusal(failed, call, refused)
		if failed.Verdict == wepay.Done {
			failed.Verdict = wepay.NoBill(in.Get("bill_date"), c.options.Now())
		}
		return nil, failed
	default:
		return bill, nil
	}
}

// openBill distinguishes a bill from a refusal by its first bytes.
func openBill(call call, resp *http.Response) (bill *wepay.Bill, refused wepay.Fields, err error) {
	if resp.StatusCode != http.StatusOK {
		_, err := call.readReply(resp.StatusCode, resp.Body)
		return nil, nil, err
	}
	text := bufio.NewReader(resp.Body)
	first, err := text.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, fmt.Errorf("reading the bill: %w", err)
	}
	switch {
	case len(first) == 0:
		return nil, nil, fmt.Errorf("%w: an empty bill", wepay.ErrMalformed)
	case first[0] == '<':
		defer resp.Body.Close()
		refused, err := call.readReply(resp.StatusCode, text)
		return nil, refused, err
	default:
		return &wepay.Bill{Reader: text, Closer: resp.Body, Gzip: bytes.Equal(first, []byte{0x1f, 0x8b})}, nil, nil
	}
}

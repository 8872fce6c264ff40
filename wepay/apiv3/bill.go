package apiv3

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/internal/row"
)

var billVerdicts = map[string]wepay.Verdict{
	"NOSTATEMENTEXIST":  wepay.Done, // nothing was traded that day
	"STATEMENTCREATING": wepay.Later,
}

// billCalls return where a bill can be downloaded, and its digest.
var billCalls = map[wepay.Operation]call{
	// Source: WeChat Pay, 申请交易账单 (API v3).
	wepay.DownloadBill: {
		method: http.MethodGet, path: "/v3/bill/tradebill", as: forSubOrAll,
		Row: row.Row{Bill: true, Rules: wepay.BillRules, Repeatable: true, Unknown: wepay.Again, Verdicts: billVerdicts},
		in: fieldMap{
			{"bill_date", "bill_date", day},
			{"tar_type", "tar_type", text},
			{"bill_type", "bill_type", text},
			{"sub_mch_id", "sub_mchid", text},
		},
	},
	// Source: WeChat Pay, 申请资金账单 (API v3).
	wepay.DownloadFundFlow: {
		method: http.MethodGet, path: "/v3/bill/fundflowbill", as: forAccount,
		Row: row.Row{Bill: true, Rules: wepay.FundFlowRules, Repeatable: true, Unknown: wepay.Again, Verdicts: billVerdicts},
		in: fieldMap{
			{"bill_date", "bill_date", day},
			{"tar_type", "tar_type", text},
			{"account_type", "account_type", upper},
		},
	},
}

// Download implements wepay.Gateway. A bill is not signed, but its digest is in a
// signed reply: a truncated or altered bill ends with an error that wraps
// wepay.ErrMalformed instead of io.EOF.
func (c *Client) Download(ctx context.Context, op wepay.Operation, in wepay.Fields) (*wepay.Bill, error) {
	x, err := c.prepare(op, in, true)
	if err != nil {
		return nil, err
	}
	answer, err := x.ask(ctx)
	if refused, ok := errors.AsType[*wepay.Error](err); ok && refused.Verdict == wepay.Done {
		refused.Verdict = wepay.NoBill(in.Get("bill_date"), c.options.Now())
	}
	if err != nil {
		return nil, err
	}
	uri, want, err := c.offered(answer)
	if err != nil {
		failed := x.failure()
		// WeChat signed it, and will say the same the next time.
		failed.Err, failed.Verdict = fmt.Errorf("%w: %w", wepay.ErrNoAnswer, err), wepay.Never
		return nil, failed
	}
	return x.fetch(ctx, uri, want)
}

// billFile is where WeChat's documents have bills.
const billFile = "/v3/billdownload/file"

// offered reads where a bill is, and its digest. Its access points all serve the
// same, so that path and query are asked for where everything is, and nothing
// signed is sent elsewhere. As WeChat signed the offer, a path of WeChat's that no
// document knows is as good: what comes from there has to have the digest.
func (c *Client) offered(answer *reply) (uri string, want billDigest, err error) {
	offer, err := parse(answer.body)
	if err != nil {
		return "", nil, fmt.Errorf("%w: the offer: %w", wepay.ErrMalformed, err)
	}
	at, err := url.Parse(offer.text("download_url"))
	switch {
	case err != nil, checkPath(at.EscapedPath()) != nil, at.RawQuery == "", checkASCII(at.RawQuery) != nil:
		return "", nil, fmt.Errorf("%w: download_url is none of API v3", wepay.ErrMalformed)
	case at.EscapedPath() != billFile && !c.isAccessPoint(at):
		return "", nil, fmt.Errorf("%w: download_url is neither of %s nor of one of WeChat Pay's hosts", wepay.ErrMalformed, billFile)
	}
	want, err = newBillDigest(offer.text("hash_type"), offer.text("hash_value"))
	return at.EscapedPath() + "?" + at.RawQuery, want, err
}

// accessPoints are WeChat's, near and far, which serve the same.
// Source: WeChat Pay, 接入点, and its SDK for Java.
var accessPoints = []string{
	"api.mch.weixin.qq.com", "api2.mch.weixin.qq.com", "apihk.mch.weixin.qq.com", "apius.mch.weixin.qq.com",
	"api.wechatpay.cn", "api2.wechatpay.cn",
}

// isAccessPoint says whether a URL is of WeChat's access points or of one that
// stands for them here.
func (c *Client) isAccessPoint(at *url.URL) bool {
	return slices.Contains(accessPoints, at.Hostname()) || slices.ContainsFunc(c.merchant.Endpoints, func(endpoint string) bool {
		own, err := url.Parse(endpoint)
		return err == nil && own.Host == at.Host
	})
}

// fetch starts the download of a bill. Whatever happens, the whole call may be
// repeated, which returns another address.
func (x *exchange) fetch(ctx context.Context, uri string, want billDigest) (*wepay.Bill, error) {
	var bill *wepay.Bill
	r := request{method: http.MethodGet, uri: uri, repeatable: true, timeout: wepay.BillTimeout, serial: x.client.keyRing.Serial()}
	refused, err := x.client.sendAndRead(ctx, r, func(resp *http.Response) (refused *reply, err error) {
		if resp.StatusCode != http.StatusOK {
			return x.client.read(ctx, resp)
		}
		bill, err = openBill(resp.Body, want)
		return nil, err
	})
	if err != nil {
		return nil, x.call.Unanswered(x.failure(), fmt.Errorf("fetching the bill: %w", err))
	}
	if bill != nil {
		return bill, nil
	}
	told, _ := refused.refusal() // read takes nothing else but a success, which is no bill
	err = fmt.Errorf("%w: fetching the bill: HTTP status %d: %s %s", wepay.ErrNoAnswer, refused.status, x.client.quoter.Quote(told.code), x.client.quoter.Quote(told.text()))
	return nil, x.call.Unanswered(x.failure(), err)
}

// openBill accepts text and gzip as a bill, but no HTML page.
func openBill(body io.ReadCloser, want billDigest) (*wepay.Bill, error) {
	text := bufio.NewReader(body)
	first, err := text.Peek(2)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, fmt.Errorf("reading the bill: %w", err)
	case len(first) == 0:
		return nil, fmt.Errorf("%w: an empty bill", wepay.ErrMalformed)
	case first[0] == '<':
		return nil, fmt.Errorf("%w: a page instead of a bill", wepay.ErrMalformed)
	case !bytes.Equal(first, []byte{0x1f, 0x8b}):
		return &wepay.Bill{Reader: &digested{text, sha1.New(), want}, Closer: body, Verified: true}, nil
	}
	packed, err := unpack(text, want)
	if err != nil {
		return nil, err
	}
	return &wepay.Bill{Reader: packed, Closer: body, Gzip: true, Verified: true}, nil
}

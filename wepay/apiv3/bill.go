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
	x, answer, err := c.exchange(ctx, op, in, true)
	if err != nil {
		return nil, err
	}
	uri, want, err := offered(answer)
	if err != nil {
		return nil, x.call.Unanswered(x.failure(), fmt.Errorf("%w: %w", wepay.ErrNoAnswer, err))
	}
	return x.fetch(ctx, uri, want)
}

// billFile is the only path that bills are downloaded from.
const billFile = "/v3/billdownload/file"

// offered reads where a bill is, and its digest. Only path and query are used: the
// signed request for the bill goes to the configured endpoints, never elsewhere.
func offered(answer *reply) (uri string, want billDigest, err error) {
	var offer struct {
		HashType  string `json:"hash_type"`
		HashValue string `json:"hash_value"`
		URL       string `json:"download_url"`
	}
	if err := decode(answer.body, &offer); err != nil {
		return "", nil, fmt.Errorf("%w: the reply is no JSON object", wepay.ErrMalformed)
	}
	at, err := url.Parse(offer.URL)
	if err != nil || at.EscapedPath() != billFile || at.RawQuery == "" || checkASCII(at.RawQuery) != nil {
		return "", nil, fmt.Errorf("%w: download_url is not of %s", wepay.ErrMalformed, billFile)
	}
	want, err = newBillDigest(offer.HashType, offer.HashValue)
	return billFile + "?" + at.RawQuery, want, err
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
	err = fmt.Errorf("%w: fetching the bill: HTTP status %d: %s %s", wepay.ErrNoAnswer, refused.status, told.Code, told.Message)
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
		return &wepay.Bill{Reader: &digested{text, sha1.New(), want}, Closer: body}, nil
	}
	packed, err := unpack(text, want)
	if err != nil {
		return nil, err
	}
	return &wepay.Bill{Reader: packed, Closer: body, Gzip: true}, nil
}

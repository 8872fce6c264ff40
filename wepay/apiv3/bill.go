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
	"strings"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

var billVerdicts = map[string]wepay.Verdict{
	"NOSTATEMENTEXIST":  wepay.Done, // nothing was traded that day
	"STATEMENTCREATING": wepay.Later,
}

// billCalls ask where a bill can be fetched, and what its digest is.
var billCalls = map[wepay.Operation]call{
	// Source: WeChat Pay, 申请交易账单 (API v3).
	wepay.DownloadBill: {
		method: http.MethodGet, path: "/v3/bill/tradebill", bill: true, as: forSubOrAll,
		rules: wepay.BillRules,
		query: func(x *exchange) (members, error) {
			return append(x.billQuery(), member{"bill_type", x.in.Get("bill_type")}, member{"sub_mchid", x.merchant.SubMchID}), nil
		},
		repeatable: true, unknown: wepay.Again, verdicts: billVerdicts,
	},
	// Source: WeChat Pay, 申请资金账单 (API v3).
	wepay.DownloadFundFlow: {
		method: http.MethodGet, path: "/v3/bill/fundflowbill", bill: true, as: forAccount,
		rules: wepay.FundFlowRules,
		query: func(x *exchange) (members, error) {
			return append(x.billQuery(), member{"account_type", strings.ToUpper(x.in.Get("account_type"))}), nil
		},
		repeatable: true, unknown: wepay.Again, verdicts: billVerdicts,
	},
}

// billQuery has the day as API v3 writes days.
func (x *exchange) billQuery() members {
	day, _ := time.Parse("20060102", x.in.Get("bill_date")) // the rules have seen to it
	return members{{"bill_date", day.Format(time.DateOnly)}, {"tar_type", x.in.Get("tar_type")}}
}

// Download asks WeChat Pay for a bill; see wepay.Gateway. Nothing signs a bill,
// but its digest came in a reply that WeChat signed: a bill that is not whole, or
// another, ends with an error that wraps wepay.ErrMalformed instead of io.EOF.
func (c *Client) Download(ctx context.Context, op wepay.Operation, in wepay.Fields) (*wepay.Bill, error) {
	x, err := c.prepare(op, in, true)
	if err != nil {
		return nil, err
	}
	answer, err := x.ask(ctx)
	if err != nil {
		return nil, err
	}
	uri, want, err := offered(answer)
	if err != nil {
		return nil, x.unanswered(x.failure(), fmt.Errorf("%w: %w", wepay.ErrNoAnswer, err))
	}
	return x.fetch(ctx, uri, want)
}

// billFile is the one path that bills are fetched from.
const billFile = "/v3/billdownload/file"

// offered reads where a bill is, and its digest. Only path and query count: a
// bill is asked for where everything is, and nothing signed is sent elsewhere.
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

// fetch begins to download a bill. Whatever comes of it, the whole call may be
// made again, which gets another address.
func (x *exchange) fetch(ctx context.Context, uri string, want billDigest) (*wepay.Bill, error) {
	var bill *wepay.Bill
	r := request{method: http.MethodGet, uri: uri, repeatable: true, timeout: wepay.BillTimeout, serial: x.client.platform.Serial()}
	refused, err := x.client.sendAndRead(ctx, r, func(resp *http.Response) (refused *reply, err error) {
		if resp.StatusCode != http.StatusOK {
			return x.client.read(ctx, resp)
		}
		bill, err = openBill(resp.Body, want)
		return nil, err
	})
	if err != nil {
		return nil, x.unanswered(x.failure(), fmt.Errorf("fetching the bill: %w", err))
	}
	if bill != nil {
		return bill, nil
	}
	told, _ := refused.refusal() // read takes nothing else but a success, which is no bill
	err = fmt.Errorf("%w: fetching the bill: HTTP status %d: %s %s", wepay.ErrNoAnswer, refused.status, x.client.quoter.Quote(told.Code), x.client.quoter.Quote(told.Message))
	return nil, x.unanswered(x.failure(), err)
}

// openBill takes text and gzip for a bill, and no page.
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
		return &wepay.Bill{ReadCloser: bill{&digested{text, sha1.New(), want}, body}}, nil
	}
	packed, err := unpack(text, want)
	if err != nil {
		return nil, err
	}
	return &wepay.Bill{ReadCloser: bill{packed, body}, Gzip: true}, nil
}

package reconcile

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/windsome/caddy-wepay/wepay"
)

// bills are an account's bills of one day in temporary files: one, or one for each
// sub-merchant of a partner.
type bills []billFile

type billFile struct {
	*os.File
	verified bool // see wepay.Bill
}

// mostOfBill bounds a bill, in bytes: several million trades.
const mostOfBill = 4 << 30

// errTooLarge says that a bill is longer than any that makes sense.
var errTooLarge = fmt.Errorf("the bill has more than %d GB", mostOfBill>>30)

// save copies a bill to a temporary file.
func (b *bills) save(bill io.Reader, verified bool) error {
	file, err := os.CreateTemp("", "wepay-bill-")
	if err != nil {
		return fmt.Errorf("making a temporary file for the bill: %w", err)
	}
	*b = append(*b, billFile{file, verified})
	n, err := io.Copy(file, io.LimitReader(bill, mostOfBill+1))
	if err == nil && n > mostOfBill {
		err = errTooLarge
	}
	if err != nil {
		return fmt.Errorf("downloading the bill: %w", err)
	}
	return nil
}

// remove removes the files.
func (b *bills) remove() error {
	var failed []error
	for _, file := range *b {
		failed = append(failed, file.Close(), os.Remove(file.Name()))
	}
	*b = nil
	return errors.Join(failed...)
}

// read calls each for every trade, until each returns an error or the context ends.
// The trade is overwritten by the next.
func (b *bills) read(ctx context.Context, each func(*wepay.Trade) error) error {
	for _, file := range *b {
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("reading the bill: %w", err)
		}
		text, err := unpacked(file.File)
		if err != nil {
			return err
		}
		bill := &wepay.Bill{Reader: io.LimitReader(text, mostOfBill), Verified: file.verified}
		kind, err := bill.ReadTrades(func(t *wepay.Trade) error {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			return each(t)
		})
		if err != nil {
			return err
		}
		if kind != wepay.BillOfAll {
			return fmt.Errorf("%w: %w: it is of bill_type %s, and has to be of ALL", wepay.ErrMalformed, wepay.ErrBillForm, kind)
		}
	}
	return nil
}

// unpacked returns the text of a bill that may be gzip.
func unpacked(file io.Reader) (io.Reader, error) {
	text := bufio.NewReader(file)
	if first, _ := text.Peek(2); !bytes.Equal(first, []byte{0x1f, 0x8b}) {
		return text, nil // whoever reads it sees what is wrong
	}
	packed, err := gzip.NewReader(text)
	if err != nil {
		return nil, fmt.Errorf("%w: unpacking the bill: %w", wepay.ErrMalformed, err)
	}
	return packed, nil
}

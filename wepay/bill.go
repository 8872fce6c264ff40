package wepay

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"
)

// BillTimeout bounds the download of one day's bill.
const BillTimeout = 5 * time.Minute

var (
	billDate = Rule{Name: "bill_date", Required: true, Is: Date}
	tarType  = Rule{Name: "tar_type", Is: OneOf("GZIP")}
)

// BillRules are the fields of DownloadBill.
// Source: WeChat Pay, 下载交易账单.
var BillRules = Rules{billDate, tarType, {Name: "bill_type", Is: OneOf("ALL", "SUCCESS", "REFUND", "RECHARGE_REFUND")}}

// FundFlowRules are the fields of DownloadFundFlow.
// Source: WeChat Pay, 下载资金账单.
var FundFlowRules = Rules{billDate, tarType, {Name: "account_type", Required: true, Is: OneOf("Basic", "Operation", "Fees")}}

// billsReady is when, after midnight Beijing time, the bills of the day before
// are there.
const billsReady = 10 * time.Hour

// NoBill returns what it means that WeChat Pay has no bill of a bill_date: Done,
// as nothing was traded that day, or Later while the bill may still be to come,
// which WeChat does not always tell apart.
func NoBill(date string, now time.Time) Verdict {
	day, err := time.ParseInLocation("20060102", date, Beijing)
	if err != nil || now.Before(day.AddDate(0, 0, 1).Add(billsReady)) {
		return Later
	}
	return Done
}

// Bill is a bill that is being downloaded: text as WeChat sends it.
type Bill struct {
	io.Reader
	io.Closer
	Gzip bool // compressed, as the request asked for
	// Verified says that io.EOF proves the bill to be whole and WeChat's own,
	// since it is held against a signed digest on the way.
	Verified bool
}

// maxBillLine bounds one line of a bill, in bytes. A trade's goods may take
// 6000 bytes.
const maxBillLine = 64 << 10

// errCutOff says that a bill ends before its summary does.
var errCutOff = errors.New("the bill breaks off before its summary")

// WriteJSON writes a bill that is not gzip as JSON lines: one object a trade or
// movement, then one with the summary, under WeChat's own titles with half-width
// brackets. Amounts are fen, under names of their own, which end in (分) where
// WeChat's end in (元) or say no unit: numbers where they are whole, which all
// but fees are, else decimal text. Everything else is text. It needs the memory
// of one line.
//
// The error wraps ErrMalformed when the bill cannot be read, is cut off, or does
// not add up to its summary; the rows written before are correct. It also wraps
// ErrBillForm when that is the bill's own fault, so that the next download will be
// no better.
// Source: WeChat Pay, 下载交易账单 and 下载资金账单.
func (b *Bill) WriteJSON(w io.Writer) error {
	out := &billJSON{out: bufio.NewWriter(w)}
	err := b.read(out)
	// Flush returns what went wrong with w before as well.
	if failed := out.out.Flush(); failed != nil {
		return failed
	}
	return err
}

// billJSON writes the lines of a bill as JSON.
type billJSON struct {
	out *bufio.Writer
	row []byte // its memory is used again
}

func (w *billJSON) titles([]column) error { return nil }

func (w *billJSON) cells(columns []column, cells []string) (err error) {
	if w.row, err = appendObject(w.row[:0], columns, cells); err != nil {
		return err
	}
	_, err = w.out.Write(append(w.row, '\n'))
	return err
}

func (w *billJSON) summary(columns []column, cells []string) error {
	object, err := appendObject([]byte(`{"summary":`), columns, cells)
	if err != nil {
		return err
	}
	_, err = w.out.Write(append(object, "}\n"...))
	return err
}

// billTaker takes the lines of a bill. The first error ends the reading.
type billTaker interface {
	titles(columns []column) error
	cells(columns []column, cells []string) error // of a row
	summary(columns []column, cells []string) error
}

// read reads a bill to its end. The error is as WriteJSON's.
func (b *Bill) read(to billTaker) error {
	r := &billReader{lines: bufio.NewReaderSize(b, maxBillLine), to: to}
	err := r.readLines()
	if r.broken == nil {
		// Only the end proves that nothing was changed or lost on the way.
		_, r.broken = io.Copy(io.Discard, r.lines)
	}
	switch {
	case r.broken != nil:
		err = r.broken
	case err == nil:
		return nil
	case r.cutOff && !b.Verified:
		err = errCutOff
	default:
		err = fmt.Errorf("%w: %w", ErrBillForm, err)
	}
	return fmt.Errorf("%w: line %d of the bill: %w", ErrMalformed, r.line, err)
}

type billReader struct {
	lines  *bufio.Reader
	line   int
	cutOff bool  // the last line lacks its end, or is missing
	broken error // why the bill cannot be read any further
	to     billTaker

	columns []column
	totals
}

// readLines reads the titles, the rows, and the two lines of the summary.
func (r *billReader) readLines() error {
	titles, err := r.next()
	if err != nil {
		return err
	}
	titles = bytes.TrimPrefix(titles, []byte("\ufeff"))
	if r.columns, err = columnsOf(string(titles)); err != nil {
		return err
	}
	if err := r.to.titles(r.columns); err != nil {
		return err
	}
	for {
		line, err := r.next()
		if err != nil {
			return err
		}
		if line[0] != '`' {
			return r.summary(string(line))
		}
		cells, err := cellsOf(line, r.columns)
		if err != nil {
			return err
		}
		if err := r.add(r.columns, cells); err != nil {
			return err
		}
		if err := r.to.cells(r.columns, cells); err != nil {
			return err
		}
	}
}

// next returns the next line that is not empty, without its end.
func (r *billReader) next() ([]byte, error) {
	for {
		r.line++
		line, err := r.lines.ReadSlice('\n')
		r.cutOff = errors.Is(err, io.EOF)
		switch {
		case r.cutOff && len(line) == 0:
			return nil, errCutOff
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("it is longer than %d bytes", maxBillLine)
		case err != nil && !r.cutOff:
			r.broken = err
			return nil, err
		}
		if line = bytes.TrimRight(line, "\r\n"); len(line) > 0 {
			return line, nil
		}
	}
}

// summary reads the last two lines, and holds them against what was read.
func (r *billReader) summary(titles string) error {
	columns, err := columnsOf(titles)
	if err != nil {
		return err
	}
	line, err := r.next()
	if err != nil {
		return err
	}
	cells, err := cellsOf(line, columns)
	if err != nil {
		return err
	}
	if err := r.to.summary(columns, cells); err != nil {
		return err
	}
	r.cutOff = false // some bills end without a line end
	for i, c := range columns {
		if err := r.compare(r.columns, c, cells[i]); err != nil {
			return fmt.Errorf("%s: %w", c.title, err)
		}
	}
	return nil
}

package wepay

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
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

// Bill is a bill that is being downloaded: text as WeChat sends it.
type Bill struct {
	io.Reader
	io.Closer
	Gzip bool // compressed, as the request asked for
}

// maxBillLine bounds one line of a bill, in bytes. A trade's goods may take
// 6000 bytes.
const maxBillLine = 64 << 10

// WriteJSON writes a bill that is not gzip as JSON lines: one object a trade or
// movement under WeChat's own titles, then one with the summary. Amounts are
// fen: numbers where they are whole, which all but fees are, else decimal
// text. It needs the memory of one line.
//
// The error wraps ErrMalformed when the bill cannot be read, is cut off, or does
// not add up to its summary; the rows written before are correct.
// Source: WeChat Pay, 下载交易账单 and 下载资金账单.
func (b *Bill) WriteJSON(w io.Writer) error {
	r := &billReader{lines: bufio.NewReaderSize(b, maxBillLine), out: bufio.NewWriter(w)}
	err := r.convert()
	// Flush returns what went wrong with w before as well.
	if failed := r.out.Flush(); failed != nil {
		return failed
	}
	if err != nil {
		return fmt.Errorf("%w: line %d of the bill: %w", ErrMalformed, r.line, err)
	}
	return nil
}

type billReader struct {
	lines *bufio.Reader
	line  int
	out   *bufio.Writer

	columns []column
	rows    int64
	moved   [2]flow // of a fund flow: 收入 and 支出
}

// column is a column of a bill: its title, and what its amounts add up to.
type column struct {
	title  string
	key    []byte // the title as JSON
	amount bool
	sum    int64 // in 1/100000 yuan, the unit of fees
}

// flow is what came in or went out.
type flow struct {
	count, sum int64
}

// convert reads the titles, the rows, and the two lines of the summary.
func (r *billReader) convert() error {
	titles, err := r.next()
	if err != nil {
		return err
	}
	titles = bytes.TrimPrefix(titles, []byte("\ufeff"))
	r.columns = columnsOf(string(titles))
	for {
		line, err := r.next()
		if err != nil {
			return err
		}
		if line[0] != '`' {
			if err := r.summary(string(line)); err != nil {
				return err
			}
			// A bill of API v3 is known to be complete only once its end is read.
			_, err := io.Copy(io.Discard, r.lines)
			return err
		}
		cells, err := cellsOf(line, len(r.columns))
		if err != nil {
			return err
		}
		if err := r.add(cells); err != nil {
			return err
		}
		if err := writeRow(r.out, r.columns, cells); err != nil {
			return err
		}
	}
}

// next returns the next line that is not empty, without its end.
func (r *billReader) next() ([]byte, error) {
	for {
		r.line++
		line, err := r.lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) > 0 {
			err = nil
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("it is longer than %d bytes", maxBillLine)
		case errors.Is(err, io.EOF):
			return nil, errors.New("the bill ends before its summary")
		case err != nil:
			return nil, err
		}
		if line = bytes.TrimRight(line, "\r\n"); len(line) > 0 {
			return line, nil
		}
	}
}

func columnsOf(titles string) []column {
	var columns []column
	for title := range strings.SplitSeq(titles, ",") {
		title = strings.TrimSpace(title)
		key, _ := json.Marshal(title) // text always has a form
		columns = append(columns, column{title: title, key: key, amount: isAmount(title)})
	}
	return columns
}

// isAmount recognises a column of amounts by its title: there are many such
// titles, and they differ by the kind and age of the bill.
func isAmount(title string) bool {
	return strings.HasSuffix(title, "额") || strings.HasSuffix(title, "(元)") || title == "手续费"
}

// cellsOf splits a line of cells, each led by a back-tick. Cells may hold
// commas, so that a comma and a back-tick divide them.
func cellsOf(line []byte, columns int) ([]string, error) {
	text, found := strings.CutPrefix(string(line), "`")
	cells := strings.Split(text, ",`")
	if !found || len(cells) != columns {
		return nil, fmt.Errorf("it has %d cells, and there are %d titles", len(cells), columns)
	}
	return cells, nil
}

// add adds a row to the totals.
func (r *billReader) add(cells []string) error {
	r.rows++
	direction := -1
	for i := range r.columns {
		c := &r.columns[i]
		if c.title == "收支类型" {
			direction = slices.Index([]string{"收入", "支出"}, cells[i])
		}
		if !c.amount || cells[i] == "" {
			continue
		}
		amount, err := parseYuan(cells[i])
		if err != nil {
			return fmt.Errorf("%s: %w", c.title, err)
		}
		c.sum += amount
		if c.title == "收支金额(元)" && direction >= 0 {
			r.moved[direction].count++
			r.moved[direction].sum += amount
		}
	}
	return nil
}

// summary reads the last two lines and compares them with the rows.
func (r *billReader) summary(titles string) error {
	columns := columnsOf(titles)
	line, err := r.next()
	if err != nil {
		return err
	}
	cells, err := cellsOf(line, len(columns))
	if err != nil {
		return err
	}
	if _, err := r.out.WriteString(`{"summary":`); err != nil {
		return err
	}
	if err := writeObject(r.out, columns, cells); err != nil {
		return err
	}
	if _, err := r.out.WriteString("}\n"); err != nil {
		return err
	}
	for i, c := range columns {
		if err := r.compare(c, cells[i]); err != nil {
			return fmt.Errorf("%s: %w", c.title, err)
		}
	}
	return nil
}

// summed maps the titles of sums to the columns that they sum up.
var summed = map[string]string{
	"应结订单总金额":       "应结订单金额",
	"退款总金额":         "退款金额",
	"充值券退款总金额":      "充值券退款金额",
	"手续费总金额":        "手续费",
	"订单总金额":         "订单金额",
	"申请退款总金额":       "申请退款金额",
	"总交易额":          "总金额",
	"总退款金额":         "退款金额",
	"总代金券或立减优惠退款金额": "代金券或立减优惠退款金额",
}

// compare compares one total with the rows. A bill may sum up columns that it
// does not have; those are not compared.
func (r *billReader) compare(total column, cell string) error {
	counts := map[string]int64{
		"总交易单数": r.rows, "资金流水总笔数": r.rows,
		"收入笔数": r.moved[0].count, "支出笔数": r.moved[1].count,
	}
	if count, found := counts[total.title]; found {
		if cell != strconv.FormatInt(count, 10) {
			return fmt.Errorf("the summary does not match the %d rows", count)
		}
		return nil
	}
	sum, found := r.sum(total.title)
	if !found {
		return nil
	}
	want, err := parseYuan(cell)
	if err != nil {
		return err
	}
	// Fees have five decimals and their sum may have two.
	if difference := sum - want; difference >= unitsPerFen || difference <= -unitsPerFen {
		return errors.New("the rows do not add up to the summary")
	}
	return nil
}

func (r *billReader) sum(title string) (int64, bool) {
	switch title {
	case "收入金额":
		return r.moved[0].sum, true
	case "支出金额":
		return r.moved[1].sum, true
	}
	for _, c := range r.columns {
		if c.title == summed[title] {
			return c.sum, true
		}
	}
	return 0, false
}

func writeRow(out *bufio.Writer, columns []column, cells []string) error {
	if err := writeObject(out, columns, cells); err != nil {
		return err
	}
	return out.WriteByte('\n')
}

func writeObject(out *bufio.Writer, columns []column, cells []string) error {
	for i, c := range columns {
		value, err := jsonCell(c, cells[i])
		if err != nil {
			return fmt.Errorf("%s: %w", c.title, err)
		}
		separator := byte(',')
		if i == 0 {
			separator = '{'
		}
		// A bufio.Writer keeps its first error, and the last call returns it.
		_ = out.WriteByte(separator)
		_, _ = out.Write(c.key)
		_ = out.WriteByte(':')
		_, _ = out.Write(value)
	}
	return out.WriteByte('}')
}

func jsonCell(c column, cell string) ([]byte, error) {
	if !c.amount || cell == "" {
		return json.Marshal(cell)
	}
	amount, err := parseYuan(cell)
	if err != nil {
		return nil, err
	}
	if amount%unitsPerFen == 0 {
		return strconv.AppendInt(nil, amount/unitsPerFen, 10), nil
	}
	return []byte(`"` + fenText(amount) + `"`), nil
}

// unitsPerFen: amounts are counted in 1/100000 yuan, as fees have five decimals.
const unitsPerFen = 1000

// parseYuan reads an amount of yuan with up to five decimals, exactly.
func parseYuan(text string) (int64, error) {
	digits, negative := strings.CutPrefix(text, "-")
	whole, fraction, _ := strings.Cut(digits, ".")
	if whole == "" || len(whole) > 12 || len(fraction) > 5 || Digits(whole+fraction) != nil {
		return 0, errors.New("is no amount of yuan")
	}
	units, err := strconv.ParseInt(whole+fraction+strings.Repeat("0", 5-len(fraction)), 10, 64)
	if negative {
		units = -units
	}
	return units, err
}

// fenText writes an amount that is not of whole fen.
func fenText(units int64) string {
	sign := ""
	if units < 0 {
		sign, units = "-", -units
	}
	return fmt.Sprintf("%s%d.%s", sign, units/unitsPerFen, strings.TrimRight(fmt.Sprintf("%03d", units%unitsPerFen), "0"))
}

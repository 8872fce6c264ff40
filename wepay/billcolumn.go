package wepay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// column is a column of a bill.
type column struct {
	title string // with half-width brackets
	name  string // the title without its unit, by which columns are known
	kind  columnKind
	key   []byte // what it is called in JSON
	sum   int64  // of amounts, in 1/100000 yuan, the unit of fees
}

type columnKind int

const (
	words    columnKind = iota
	amounts             // of yuan
	currency            // of the row's amounts
	counts
)

// brackets are full-width in some bills and half-width in others of the same
// kind.
var brackets = strings.NewReplacer("（", "(", "）", ")")

// countTitles are the titles of a summary's counts.
var countTitles = []string{"总交易单数", "资金流水总笔数", "收入笔数", "支出笔数"}

// columnsOf reads a line of titles.
func columnsOf(titles string) ([]column, error) {
	var columns []column
	for title := range strings.SplitSeq(titles, ",") {
		c := newColumn(strings.TrimSpace(title))
		if slices.ContainsFunc(columns, func(other column) bool { return bytes.Equal(other.key, c.key) }) {
			return nil, fmt.Errorf("two columns are called %s", c.key)
		}
		columns = append(columns, c)
	}
	return columns, nil
}

// newColumn tells the columns of amounts by their titles: there are many, and
// they differ by the kind and age of a bill. As they hold yuan and JSON gets fen,
// their names in JSON are others: whoever knows WeChat's does not take one for
// the other.
func newColumn(title string) column {
	c := column{title: brackets.Replace(title)}
	c.name = strings.TrimSuffix(c.title, "(元)")
	key := c.title
	switch {
	case c.name != c.title, strings.HasSuffix(c.name, "额"), c.name == "手续费":
		c.kind, key = amounts, c.name+"(分)"
	case c.name == "货币种类":
		c.kind = currency
	case slices.Contains(countTitles, c.name):
		c.kind = counts
	}
	c.key, _ = json.Marshal(key) // text always has a form
	return c
}

// cellsOf splits a line of cells, each led by a back-tick. Cells may hold
// commas, so that a comma and a back-tick divide them.
func cellsOf(line []byte, columns []column) ([]string, error) {
	text, found := strings.CutPrefix(string(line), "`")
	cells := strings.Split(text, ",`")
	if !found || len(cells) != len(columns) {
		return nil, fmt.Errorf("it has %d cells, and there are %d titles", len(cells), len(columns))
	}
	for i, c := range columns {
		if err := c.check(cells[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", c.title, err)
		}
	}
	return cells, nil
}

// check refuses a cell that is not of its column's kind.
func (c column) check(cell string) (err error) {
	switch {
	case c.kind == amounts && cell != "":
		_, err = parseYuan(cell)
	case c.kind == counts:
		_, err = parseCount(cell)
	case c.kind == currency && cell != "" && cell != "CNY":
		err = errors.New("is not CNY, so that the amounts are no fen")
	case !utf8.ValidString(cell):
		err = errors.New("is not UTF-8")
	}
	return err
}

// appendObject appends a line of cells as a JSON object.
func appendObject(object []byte, columns []column, cells []string) ([]byte, error) {
	separator := byte('{')
	for i, c := range columns {
		object = append(append(object, separator), c.key...)
		value, err := c.json(cells[i])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.title, err)
		}
		object = append(append(object, ':'), value...)
		separator = ','
	}
	return append(object, '}'), nil
}

// json returns a cell as JSON.
func (c column) json(cell string) ([]byte, error) {
	switch {
	case c.kind == amounts && cell != "":
		return jsonFen(cell)
	case c.kind == counts:
		n, err := parseCount(cell)
		return strconv.AppendQuote(nil, strconv.FormatInt(n, 10)), err
	default:
		return json.Marshal(wordsOf(cell))
	}
}

// wordsOf returns the text of a cell.
//
// WeChat writes a comma of the merchant's, in the goods say, as a backslash and a
// space. That is told once, and bills with plain commas are seen as well: both
// are read. Whatever is no text of the merchant's holds no backslash.
func wordsOf(cell string) string { return strings.ReplaceAll(cell, `\ `, ",") }

func jsonFen(cell string) ([]byte, error) {
	amount, err := parseYuan(cell)
	if err != nil {
		return nil, err
	}
	if amount%unitsPerFen == 0 {
		return strconv.AppendInt(nil, amount/unitsPerFen, 10), nil
	}
	return []byte(`"` + fenText(amount) + `"`), nil
}

// parseCount reads a whole number, which WeChat also writes as 3.0.
func parseCount(text string) (int64, error) {
	whole, fraction, _ := strings.Cut(text, ".")
	if whole == "" || len(whole) > 12 || Digits(whole) != nil || strings.Trim(fraction, "0") != "" {
		return 0, errors.New("is no whole number")
	}
	return strconv.ParseInt(whole, 10, 64)
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

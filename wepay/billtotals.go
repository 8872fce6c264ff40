package wepay

import (
	"errors"
	"fmt"
	"slices"
)

// totals are what the rows of a bill add up to, besides the columns' sums.
type totals struct {
	rows  int64
	moved [2]flow // of a fund flow: 收入 and 支出
}

// flow is what came in or went out.
type flow struct {
	count, sum int64
}

// add counts a row.
func (t *totals) add(columns []column, cells []string) error {
	t.rows++
	direction := -1
	for i := range columns {
		c := &columns[i]
		if c.name == "收支类型" {
			direction = slices.Index([]string{"收入", "支出"}, cells[i])
		}
		if c.kind != amounts || cells[i] == "" {
			continue
		}
		amount, err := parseYuan(cells[i])
		if err != nil {
			return fmt.Errorf("%s: %w", c.title, err)
		}
		c.sum += amount
		if c.name == "收支金额" && direction >= 0 {
			t.moved[direction].count++
			t.moved[direction].sum += amount
		}
	}
	return nil
}

// summed are the names of sums, and the columns they are of.
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
	"总企业红包退款金额":     "企业红包退款金额",
}

// compare holds one total against the rows. A bill of one kind may sum up
// columns that it does not have; those are not compared.
func (t *totals) compare(columns []column, total column, cell string) error {
	if total.kind == counts {
		return t.compareCount(total, cell)
	}
	sum, found := t.sum(columns, total.name)
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

func (t *totals) compareCount(total column, cell string) error {
	count := map[string]int64{"收入笔数": t.moved[0].count, "支出笔数": t.moved[1].count}
	want, found := count[total.name]
	if !found {
		want = t.rows
	}
	if n, err := parseCount(cell); err != nil || n != want {
		return fmt.Errorf("the summary says otherwise than the %d rows", want)
	}
	return nil
}

func (t *totals) sum(columns []column, name string) (int64, bool) {
	switch name {
	case "收入金额":
		return t.moved[0].sum, true
	case "支出金额":
		return t.moved[1].sum, true
	}
	for _, c := range columns {
		if c.name == summed[name] {
			return c.sum, true
		}
	}
	return 0, false
}

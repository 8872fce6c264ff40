package apiv2

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/windsome/caddy-wepay/wepay"
)

// refundTotals are fields that a page has of all its refunds, under the name that
// each refund's own has with a number. WeChat does not document them, but sends
// refund_fee.
var refundTotals = []string{"refund_fee", "settlement_refund_fee", "cash_refund_fee", "coupon_refund_fee", "coupon_refund_count"}

// totalRefunds has the totals of a page be those of all refunds that were added
// to it. One that follows neither from what each refund says nor from what each page
// does is left out.
func totalRefunds(all *wepay.Fields, pages []wepay.Fields) error {
	for _, name := range refundTotals {
		if _, told := all.Lookup(name); !told {
			continue
		}
		total, known, err := sumRefunds(*all, name)
		if err != nil {
			return err
		}
		if !known {
			total, known = totalPages(pages, name)
		}
		if known {
			all.Set(name, strconv.FormatInt(total, 10))
		} else {
			all.Delete(name)
		}
	}
	return nil
}

// sumRefunds adds up what each refund says of itself; known: all of them do.
func sumRefunds(of wepay.Fields, name string) (total int64, known bool, err error) {
	for _, refund := range of.Numbered() {
		value, told := refund.Lookup(name)
		if !told {
			return 0, false, nil
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return 0, false, fmt.Errorf("%w: %s of a refund is no whole number", wepay.ErrMalformed, name)
		}
		total += n
	}
	return total, true, nil
}

// totalPages adds up what pages say of their refunds together, where no refund says it
// of itself. That this is of the page and not of the order is known by its refund_fee.
func totalPages(pages []wepay.Fields, name string) (total int64, known bool) {
	for _, page := range pages {
		if sum, told, err := sumRefunds(page, "refund_fee"); err != nil || !told || strconv.FormatInt(sum, 10) != page.Get("refund_fee") {
			return 0, false
		}
		own := func(refund wepay.Fields) bool { return refund.Get(name) != "" }
		n, err := strconv.ParseInt(page.Get(name), 10, 64)
		if err != nil || slices.ContainsFunc(page.Numbered(), own) {
			return 0, false
		}
		total += n
	}
	return total, true
}

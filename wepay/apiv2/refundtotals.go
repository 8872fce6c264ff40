package apiv2

import (
	"fmt"
	"strconv"

	"github.com/windsome/caddy-wepay/wepay"
)

// refundTotals are fields that a page has of all its refunds, under the name that
// each refund's own has with a number. WeChat does not document them, but sends
// refund_fee.
var refundTotals = []string{"refund_fee", "settlement_refund_fee", "cash_refund_fee", "coupon_refund_fee", "coupon_refund_count"}

// totalRefunds has the totals of a page be those of all refunds that were added
// to it. One that does not follow from what each refund says is left out.
func totalRefunds(all *wepay.Fields) error {
	refunds := all.Numbered()
	for _, name := range refundTotals {
		if _, told := all.Lookup(name); !told {
			continue
		}
		total, known := int64(0), true
		for _, refund := range refunds {
			value, told := refund.Lookup(name)
			if known = known && told; !known {
				break
			}
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return fmt.Errorf("%w: %s of a refund is no whole number", wepay.ErrMalformed, name)
			}
			total += n
		}
		if known {
			all.Set(name, strconv.FormatInt(total, 10))
		} else {
			all.Delete(name)
		}
	}
	return nil
}

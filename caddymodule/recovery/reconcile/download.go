package reconcile

import (
	"context"
	"errors"
	"slices"

	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/wepay"
)

// download downloads an account's bill of a day, and reconciles it. Unasked is how many
// payments and refunds could not be handed over since WeChat gave no answer about them.
func (r *Reconciler) download(ctx context.Context, a *account, date string) (report *Report, unasked int, err error) {
	day, next, err := parseDay(date, r.now())
	if err != nil {
		return nil, 0, err
	}
	var b bills
	defer func() {
		if removeErr := b.remove(); removeErr != nil {
			r.Logger.Warn("a bill's temporary file could not be removed", zap.Error(removeErr))
		}
	}()
	downloader, subs := a.wanted()
	for _, sub := range subs {
		in := wepay.Fields{}
		in.Set("bill_date", day.Format("20060102"))
		in.Set("bill_type", string(wepay.BillOfAll))
		in.Set("tar_type", "GZIP")
		if sub != "" {
			in.Set("sub_mch_id", sub)
		}
		if err := fetch(ctx, downloader[sub], in, &b); err != nil {
			return nil, 0, err
		}
	}
	m := r.matching(a, day, next)
	m.report.NoBill = len(b) == 0
	if err := m.run(ctx, &b); err != nil {
		return nil, 0, err
	}
	return m.report, m.unasked, nil
}

// wanted returns the sub-merchants that bills are wanted of, and who downloads each:
// one bill of all where a partner may act for any, or there are none.
func (a *account) wanted() (by map[string]Merchant, subs []string) {
	by = make(map[string]Merchant)
	for _, m := range a.merchants {
		for _, sub := range append([]string{m.SubMchID}, m.SubMchIDs...) {
			if sub == wepay.AnySubMerchant || m.Type != wepay.Partner {
				return map[string]Merchant{sub: m}, []string{sub}
			}
			if _, found := by[sub]; !found && sub != "" {
				by[sub] = m
				subs = append(subs, sub)
			}
		}
	}
	slices.Sort(subs)
	return by, subs
}

// fetch downloads a bill, if there is one.
func fetch(ctx context.Context, m Merchant, in wepay.Fields, to *bills) error {
	ctx, cancel := context.WithTimeout(ctx, wepay.BillTimeout)
	defer cancel()
	bill, err := m.Download(ctx, wepay.DownloadBill, in)
	if refused, ok := errors.AsType[*wepay.Error](err); ok && refused.Verdict == wepay.Done {
		return nil // nothing was traded
	}
	if err != nil {
		return err
	}
	return errors.Join(to.save(bill, bill.Verified), bill.Close())
}

package admin

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/recovery"
	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// moment is one thing that happened to an order, or is to.
type moment struct {
	at      time.Time
	of      string // the order's or refund's number, or the event's type
	what    string
	details string
	rank    rank
}

// rank orders what happened at the same time.
type rank int

const (
	placing rank = iota
	paying
	asking
	telling
	handing
	ending
	coming
)

// momentsOf are the moments of a story, the earliest first.
func momentsOf(story *recovery.Story) []moment {
	var all []moment
	for _, o := range append([]*store.Order{story.Order}, story.Refunds...) {
		if o != nil {
			all = append(all, momentsOfOrder(o)...)
		}
	}
	for _, e := range story.Events {
		if e != nil {
			all = append(all, tellingOf(e), handingOf(e))
		}
	}
	all = slices.DeleteFunc(all, func(m moment) bool { return m.at.IsZero() })
	slices.SortStableFunc(all, func(a, b moment) int {
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.rank, b.rank))
	})
	return all
}

// momentsOfOrder are the moments of an order, a refund or a transfer by itself. Those
// without a time have not come.
func momentsOfOrder(o *store.Order) []moment {
	all := []moment{
		placingOf(o),
		{o.LastAsked, o.Number, "asked", askedOf(o), asking},
		endingOf(o),
	}
	next := "WeChat Pay is to be asked"
	if o.Asked > 0 {
		next += " again"
	}
	all = append(all, moment{o.Due, o.Number, "next", next, coming})
	if open(o) {
		all = append(all,
			moment{o.CloseAt, o.Number, "close_after", "to be closed at WeChat Pay, unless it is paid", coming},
			moment{o.Expires, o.Number, "expires", "WeChat Pay takes no payment for it any more", coming})
	}
	for i := range all {
		all[i].of = cmp.Or(all[i].of, o.Number)
	}
	return all
}

func askedOf(o *store.Order) string {
	if o.Asked == 0 {
		return "WeChat Pay, before the number was placed once more"
	}
	return "WeChat Pay, " + times(o.Asked) + " by then"
}

func placingOf(o *store.Order) moment {
	account := "merchant " + plain(o.Merchant) + ", mch_id " + plain(o.MchID)
	if o.SubMchID != "" {
		account += " for sub_mch_id " + plain(o.SubMchID)
	}
	if o.AppID != "" {
		account += ", appid " + plain(o.AppID)
	}
	placed := moment{at: o.Placed, what: "placed", rank: placing}
	switch {
	case o.Kind == store.DailyBill:
		placed.what, placed.details = "planned", account
	case o.Operation == "":
		placed.what, placed.details = "heard of", amountOf(o.Amount, o.Currency)+", not placed here; "+account
	default:
		placed.details = fmt.Sprintf("%s%s by %s over API %s; %s", amountOf(o.Amount, o.Currency), alsoOf(o), plain(o.Operation), plain(o.API), account)
	}
	return placed
}

// alsoOf tells of the other amount that the same number was placed with.
func alsoOf(o *store.Order) string {
	switch {
	case o.Also == 0:
		return ""
	case open(o):
		return fmt.Sprintf(", and with %s as well (WeChat Pay has not said which it takes)", amountOf(o.Also, o.Currency))
	default:
		return fmt.Sprintf(", and with %s as well (which WeChat Pay did not take)", amountOf(o.Also, o.Currency))
	}
}

// open reports whether nothing final is known of an order.
func open(o *store.Order) bool {
	return o.Ended.IsZero() && (o.State == store.OrderPlaced || o.State == store.OrderUnknown)
}

// lookInto is what is to be done about a quarantined event.
const lookInto = "it is not handed over: find out how it came about; `caddy wepay events replay %[1]s` hands it over all the same, `caddy wepay events drop %[1]s` puts it away"

// endingOf is how an order ended: what WeChat says of it, by WeChat's clock where it
// says when.
func endingOf(o *store.Order) moment {
	end := moment{at: o.Ended, what: string(o.State), rank: ending, details: plain(o.Reason)}
	switch o.State {
	case store.OrderPlaced, store.OrderUnknown:
		end.what = "given up"
	case store.OrderRefunding:
		if o.Kind == store.Refund {
			end.what = "given up"
			break
		}
		fallthrough
	case store.OrderPaid, store.OrderPartlyRefunded, store.OrderRefunded:
		end.what, end.rank, end.details = "paid", paying, knownFrom(o)
		if o.Kind == store.Refund {
			end.what = "refunded"
		}
		if !o.Paid.IsZero() {
			end.at = o.Paid
		}
		// WeChat's times are whole seconds: what is paid at once is not paid before.
		if end.at.Truncate(time.Second).Equal(o.Placed.Truncate(time.Second)) {
			end.at = o.Placed
		}
	case store.OrderClosed:
		end.details = cmp.Or(end.details, closedBy(o))
	case store.OrderAbnormal:
		end.details = recovery.SettleAbnormal
	case store.OrderFailed:
		end.details = cmp.Or(end.details, "WeChat Pay refused it, or never had it")
	}
	return end
}

// knownFrom names WeChat's own number, and what told.
func knownFrom(o *store.Order) string {
	number := "transaction_id"
	switch o.Kind {
	case store.Refund:
		number = "refund_id"
	case store.Transfer:
		number = "WeChat Pay's number"
	}
	var known []string
	if o.TransactionID != "" {
		known = append(known, number+" "+plain(o.TransactionID))
	}
	if o.Source != "" {
		known = append(known, "known from "+plain(o.Source))
	}
	return strings.Join(known, ", ")
}

func closedBy(o *store.Order) string {
	switch {
	case o.Kind == store.Refund:
		return "the money stays with the merchant"
	case o.Kind == store.Transfer:
		return "the payee does not get it"
	case !o.CloseAt.IsZero() && !o.Ended.Before(o.CloseAt):
		return "it was not paid in time (close_after)"
	default:
		return "it was not paid, and cannot be any more"
	}
}

// tellingOf is when an event became known.
func tellingOf(e *store.Event) moment {
	told := moment{at: e.Received, of: cmp.Or(e.EventType, string(e.Kind)), what: "found", rank: telling}
	switch source := cmp.Or(e.Source, store.SourceNotify); source {
	case store.SourceNotify:
		told.what, told.details = "notified", "by WeChat Pay (source notify)"
	case store.SourceQuery:
		told.details = "by asking WeChat Pay (source query)"
	case store.SourceBill:
		told.details = "in WeChat Pay's bill (source bill)"
	default:
		told.details = "source " + plain(source)
	}
	if e.Amount > 0 {
		told.details = amountOf(e.Amount, e.Currency) + ", " + told.details
	}
	if e.OutRefundNo != "" {
		told.details += ", out_refund_no " + plain(e.OutRefundNo)
	}
	told.details += ", event " + plain(e.ID)
	return told
}

// handingOf is how far an event has come on its way to the order service.
func handingOf(e *store.Event) moment {
	handed := moment{at: e.Ended, of: cmp.Or(e.EventType, string(e.Kind)), what: string(e.State), rank: handing}
	why := whyNot(e)
	switch e.State {
	case store.Delivered:
		handed.details = "taken by the order service, tried " + times(e.Attempts)
	case store.Waiting:
		handed.at, handed.what, handed.rank = e.Due, "next", coming
		handed.details = "to be handed over"
		if e.Attempts > 0 {
			handed.details += " again, tried " + times(e.Attempts) + ": " + why
		} else if e.After != "" {
			handed.details += ", after event " + plain(e.After)
		}
	case store.Dead:
		handed.what = "given up"
		handed.details = fmt.Sprintf("tried %s: %s; `caddy wepay events replay %s` hands it over again", times(e.Attempts), why, plain(e.ID))
	case store.Dropped:
		handed.details = fmt.Sprintf("by an operator: %s; `caddy wepay events replay %s` hands it over", why, plain(e.ID))
	case store.Quarantined:
		handed.details = why + "; " + fmt.Sprintf(lookInto, plain(e.ID))
	}
	return handed
}

// whyNot is why an event is not handed over.
func whyNot(e *store.Event) string {
	why := plain(cmp.Or(e.Reason, "no reason is known"))
	if e.Refused {
		why = "the order service refuses it: " + why
	}
	if e.Answer != "" {
		why += ", it answered " + strconv.QuoteToGraphic(e.Answer)
	}
	return why
}

// standing is how an order stands.
func standing(o *store.Order) string {
	text := fmt.Sprintf("%s %s: %s, %s", strings.ReplaceAll(plain(o.Kind), "_", " "), plain(o.Number), plain(o.State), amountOf(o.Amount, o.Currency))
	if o.Kind != store.Refund && o.Refunded > 0 {
		text += ", of which " + amountOf(o.Refunded, o.Currency) + " refunded"
	}
	if o.Reason != "" && o.Ended.IsZero() {
		text += "; WeChat Pay's last word: " + plain(o.Reason)
	}
	return text
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return strconv.Itoa(n) + " times"
}

package reconcile

import (
	_ "embed"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/windsome/caddy-wepay/wepay"
)

// Formats are those that a report can be written in.
func Formats() []string { return []string{"text", "json", "csv", "html"} }

// Write writes a report in a format, and in a language where the format has one.
func (r *Report) Write(w io.Writer, format string, l Language) error {
	if l != Chinese && l != English {
		return fmt.Errorf("the language must be %s or %s", Chinese, English)
	}
	switch format {
	case "text":
		return r.writeText(w, l)
	case "json":
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	case "csv":
		return r.writeCSV(w, l)
	case "html":
		return page.Execute(w, view{r, l})
	default:
		return fmt.Errorf("the format must be one of %s", strings.Join(Formats(), ", "))
	}
}

// line is a line of the sums: how many, and amounts of yuan.
type line struct {
	Label, Count, Yuan, Settled string
}

// lines are the sums.
func (r *Report) lines(l Language) []line {
	sum := func(key string, s Sum, settled string) line {
		return line{l.say(key), strconv.Itoa(s.Count), yuan(s.Fen), settled}
	}
	all := []line{
		sum("paid", r.Paid, yuan(r.PaidSettled)), sum("refunded", r.Refunded, yuan(r.RefundedSettled)), sum("revoked", r.Revoked, ""),
		sum("others", r.Others, ""), sum("others_refunded", r.OthersRefunded, ""),
		{Label: l.say("fees"), Yuan: feeText(r.Fees)},
		{Label: l.say("matched"), Count: strconv.Itoa(r.Matched)},
	}
	if r.Unknown > 0 {
		all = append(all, line{Label: l.say("unknown"), Count: strconv.Itoa(r.Unknown)})
	}
	if r.Unchecked > 0 {
		all = append(all, line{Label: l.say("unchecked"), Count: strconv.Itoa(r.Unchecked)})
	}
	return all
}

// notes are what a reader has to know of the report before reading it.
func (r *Report) notes(l Language) (notes []string) {
	if r.NoBill {
		notes = append(notes, l.say("no_bill"))
	}
	if r.Offline {
		notes = append(notes, l.say("offline"))
	}
	return notes
}

func (r *Report) writeText(out io.Writer, l Language) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s\n%s\t%s\n%s\t%s\n%s\t%s\n\n", l.say("title"), l.say("account"), r.MchID, l.say("merchants"), strings.Join(r.Merchants, ", "), l.say("date"), r.Date)
	for _, note := range r.notes(l) {
		fmt.Fprintf(w, "%s\n\n", note)
	}
	for _, sum := range r.lines(l) {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", sum.Label, sum.Count, sum.Yuan, sum.Settled)
	}
	fmt.Fprintf(w, "\n%s\n", l.say("findings"))
	if r.All() == 0 {
		fmt.Fprintf(w, "%s\n", l.say("no_findings"))
	}
	for _, kind := range FindingKinds() {
		if count := r.Counts[kind]; count > 0 {
			fmt.Fprintf(w, "%s\t%d\n", l.say(string(kind)), count)
		}
	}
	for i := range r.Findings {
		f := &r.Findings[i]
		number := f.OutTradeNo
		if f.OutRefundNo != "" {
			number += " " + f.OutRefundNo
		}
		fmt.Fprintf(w, "\n%s %s\n  %s %s\n  %s\n  %s\n", f.Kind, plain(number), clock(f.Time), plain(f.TransactionID), f.said(l), l.say(f.todo()))
	}
	return w.Flush()
}

// said is what is known of a finding, in one line.
func (f *Finding) said(l Language) string {
	var parts []string
	for _, amount := range []struct {
		key string
		fen int64
	}{{"bill_yuan", f.BillFen}, {"order_yuan", f.OrderFen}, {"event_yuan", f.EventFen}} {
		if amount.fen != 0 {
			parts = append(parts, l.say(amount.key)+" "+yuan(amount.fen))
		}
	}
	for _, state := range []string{f.state(l, "order_state"), f.state(l, "event_state"), f.state(l, "outcome")} {
		if state != "" {
			parts = append(parts, state)
		}
	}
	if f.EventID != "" {
		parts = append(parts, plain(f.EventID))
	}
	return strings.Join(parts, " · ")
}

// plain is a text without anything that changes lines, or how a terminal shows what
// comes after it.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}

// state is one of a finding's states in words.
func (f *Finding) state(l Language, which string) string {
	switch which {
	case "order_state":
		return l.say("order." + string(f.OrderState))
	case "event_state":
		return l.say("event." + string(f.EventState))
	default:
		return l.say("outcome." + string(f.Outcome))
	}
}

// columns are those of the CSV, by their words.
var columns = []string{
	"finding", "merchant", "sub_mch_id", "time", "out_trade_no", "transaction_id", "out_refund_no", "refund_id",
	"bill_yuan", "order_yuan", "event_yuan", "order_state", "event_id", "event_state", "outcome", "todo",
}

// writeCSV writes the findings as a spreadsheet reads them: a byte order mark leads, and
// numbers and names have a back-tick before them, as in WeChat's own bills, so that
// they are neither rounded nor run as formulas.
func (r *Report) writeCSV(out io.Writer, l Language) error {
	if _, err := io.WriteString(out, "\ufeff"); err != nil {
		return err
	}
	w := csv.NewWriter(out)
	w.UseCRLF = true
	titles := make([]string, len(columns))
	for i, key := range columns {
		titles[i] = l.say(key)
	}
	_ = w.Write(titles) // the writer keeps its error
	for i := range r.Findings {
		f := &r.Findings[i]
		_ = w.Write([]string{
			l.say(string(f.Kind)), ticked(f.Merchant), ticked(f.SubMchID), clock(f.Time),
			ticked(f.OutTradeNo), ticked(f.TransactionID), ticked(f.OutRefundNo), ticked(f.RefundID),
			yuanOrNothing(f.BillFen), yuanOrNothing(f.OrderFen), yuanOrNothing(f.EventFen),
			f.state(l, "order_state"), ticked(f.EventID), f.state(l, "event_state"), f.state(l, "outcome"), l.say(f.todo()),
		})
	}
	w.Flush()
	return w.Error()
}

func ticked(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text
}

func clock(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.In(wepay.Beijing).Format(time.DateTime)
}

// yuan writes fen as yuan.
func yuan(fen int64) string { return feeText(fen * unitsPerFen) }

func yuanOrNothing(fen int64) string {
	if fen == 0 {
		return ""
	}
	return yuan(fen)
}

// Fees are counted in 1/100000 yuan.
const (
	unitsPerFen  = 1000
	unitsPerYuan = 100 * unitsPerFen
)

// feeText writes 1/100000 yuan as yuan, exactly, with two decimals or more.
func feeText(units int64) string {
	sign := ""
	if units < 0 {
		sign, units = "-", -units
	}
	decimals := strings.TrimRight(fmt.Sprintf("%05d", units%unitsPerYuan), "0")
	return fmt.Sprintf("%s%d.%s%s", sign, units/unitsPerYuan, decimals, strings.Repeat("0", max(2-len(decimals), 0)))
}

//go:embed report.html
var pageText string

var page = template.Must(template.New("report").Parse(pageText))

// view is a report as the page shows it.
type view struct {
	*Report
	Language Language
}

// Say returns a text in the page's language.
func (v view) Say(key string) string { return v.Language.say(key) }

// Lines are the sums.
func (v view) Lines() []line { return v.lines(v.Language) }

// Notes are what a reader has to know first.
func (v view) Notes() []string { return v.notes(v.Language) }

// group is the findings of a kind.
type group struct {
	Title           string
	Count, Unlisted int
	Findings        []shown
}

// shown is a finding in words.
type shown struct {
	Finding
	Clock, Bill, Order, Event               string
	OrderWord, EventWord, OutcomeWord, Todo string
}

// Groups are the findings by their kinds.
func (v view) Groups() (groups []group) {
	l := v.Language
	for _, kind := range FindingKinds() {
		if v.Counts[kind] == 0 {
			continue
		}
		g := group{Title: l.say(string(kind)), Count: v.Counts[kind]}
		for i := range v.Findings {
			if f := &v.Findings[i]; f.Kind == kind {
				g.Findings = append(g.Findings, shown{
					*f, clock(f.Time), yuanOrNothing(f.BillFen), yuanOrNothing(f.OrderFen), yuanOrNothing(f.EventFen),
					f.state(l, "order_state"), f.state(l, "event_state"), f.state(l, "outcome"), l.say(f.todo()),
				})
			}
		}
		g.Unlisted = g.Count - len(g.Findings)
		groups = append(groups, g)
	}
	return groups
}

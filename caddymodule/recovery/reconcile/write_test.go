package reconcile_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/recovery/reconcile"
	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// sample is a report with a finding of each kind, and text that would be a formula, a
// script or an escape sequence.
func sample() *reconcile.Report {
	r := &reconcile.Report{
		MchID: mchID, Merchants: []string{"shop", "<script>alert(1)</script>"}, Date: date, Made: morning, Offline: true,
		Paid: reconcile.Sum{Count: 3, Fen: 123456}, PaidSettled: 123400, Refunded: reconcile.Sum{Count: 1, Fen: 40}, RefundedSettled: 40,
		Fees: 740736, Others: reconcile.Sum{Count: 1, Fen: 9}, Matched: 3, Unknown: 2, Unchecked: 5, Counts: make(map[reconcile.FindingKind]int),
	}
	for _, kind := range reconcile.FindingKinds() {
		r.Counts[kind] = 1
		r.Findings = append(r.Findings, reconcile.Finding{
			Kind: kind, Merchant: "shop", Time: noon.Add(time.Hour), OutTradeNo: `=HYPERLINK("x")`, TransactionID: "4200000001202611290000000001", OutRefundNo: "\x1b[2J<b>R</b>",
			BillFen: 100, OrderFen: 99, OrderState: store.OrderPaid, EventID: "evt_1", EventState: store.Dead,
		})
	}
	r.Counts[reconcile.AmountDiffers] = 20_000
	return r
}

func written(t *testing.T, r *reconcile.Report, format string, l reconcile.Language) string {
	t.Helper()
	var text bytes.Buffer
	if err := r.Write(&text, format, l); err != nil {
		t.Fatalf("%s, %s: %v", format, l, err)
	}
	return text.String()
}

func TestWrite(t *testing.T) {
	for format, test := range map[string]struct{ has, hasNot []string }{
		"text": {
			[]string{mchID, "1234.56", "1234.00", "7.40736", "paid_not_handed_over", "=HYPERLINK", "13:00:00", "0.99", "evt_1", "20000"},
			[]string{"\x1b", "0xc0"},
		},
		"html": {
			[]string{mchID, "1234.56", "7.40736", "=HYPERLINK", "4200000001202611290000000001", "2026-11-29 13:00:00", "&lt;script&gt;", "&lt;b&gt;R", "1 / 20000", "@media print"},
			[]string{"<script", "<b>R", "http:", "https:", "src=", "href=", "url(", "ZgotmplZ"},
		},
	} {
		for _, l := range []reconcile.Language{reconcile.Chinese, reconcile.English} {
			text := written(t, sample(), format, l)
			for _, want := range test.has {
				if !strings.Contains(text, want) {
					t.Errorf("%s in %s has no %q", format, l, want)
				}
			}
			for _, not := range test.hasNot {
				if strings.Contains(text, not) {
					t.Errorf("%s in %s has %q", format, l, not)
				}
			}
			if chinese := regexp.MustCompile(`\p{Han}`).MatchString(text); chinese != (l == reconcile.Chinese) {
				t.Errorf("%s in %s: in Chinese it is %v", format, l, chinese)
			}
		}
	}
	if err := sample().Write(new(bytes.Buffer), "pdf", reconcile.English); err == nil || !strings.Contains(err.Error(), "text, json, csv, html") {
		t.Errorf("got %v", err)
	}
	if err := sample().Write(new(bytes.Buffer), "html", "fr"); err == nil || !strings.Contains(err.Error(), "zh or en") {
		t.Errorf("got %v", err)
	}
}

func TestWriteJSON(t *testing.T) {
	var again reconcile.Report
	if err := json.Unmarshal([]byte(written(t, sample(), "json", reconcile.English)), &again); err != nil {
		t.Fatal(err)
	}
	want := sample()
	again.Made, want.Made = again.Made.UTC(), want.Made.UTC()
	for i := range want.Findings {
		again.Findings[i].Time, want.Findings[i].Time = again.Findings[i].Time.UTC(), want.Findings[i].Time.UTC()
	}
	if !reflect.DeepEqual(&again, want) {
		t.Errorf("got %+v, want %+v", again, want)
	}
}

// A spreadsheet neither runs nor rounds anything of a CSV.
func TestWriteCSV(t *testing.T) {
	text, found := strings.CutPrefix(written(t, sample(), "csv", reconcile.Chinese), "\ufeff")
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if !found || err != nil || len(rows) != 1+len(reconcile.FindingKinds()) {
		t.Fatalf("got %d rows (%v)", len(rows), err)
	}
	number := regexp.MustCompile(`^\d+\.\d\d$`)
	for _, row := range rows[1:] {
		for i, cell := range row {
			if strings.IndexAny(cell, "=+-@\t") == 0 || regexp.MustCompile(`^\d{12,}`).MatchString(cell) {
				t.Errorf("column %s has %q", rows[0][i], cell)
			}
		}
		if row[4] != "`=HYPERLINK(\"x\")" || row[5] != "`4200000001202611290000000001" || !number.MatchString(row[8]) || row[10] != "" {
			t.Errorf("got %q", row)
		}
	}
}

// Each finding is said in both languages, with what to do.
func TestWords(t *testing.T) {
	for _, kind := range reconcile.FindingKinds() {
		for _, f := range everyFinding(kind) {
			r := &reconcile.Report{Counts: map[reconcile.FindingKind]int{kind: 1}, Findings: []reconcile.Finding{f}}
			for _, l := range []reconcile.Language{reconcile.Chinese, reconcile.English} {
				text, _ := strings.CutPrefix(written(t, r, "csv", l), "\ufeff")
				rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
				if err != nil {
					t.Fatal(err)
				}
				for i, cell := range rows[1] {
					state := rows[0][i] == rows[0][11] && f.OrderState != "" || i == 13 && f.EventState != "" || i == 14 && f.Outcome != ""
					if (i == 0 || i == 15 || state) && cell == "" || rows[0][i] == "" {
						t.Errorf("%s: column %q of %+v is empty", l, rows[0][i], f)
					}
				}
			}
		}
	}
}

// everyFinding is a finding of a kind with all that can have come of it.
func everyFinding(kind reconcile.FindingKind) (all []reconcile.Finding) {
	for _, outcome := range []reconcile.Outcome{reconcile.HandedOver, reconcile.Recorded, reconcile.Quarantined, reconcile.Unconfirmed, reconcile.NoAnswer, reconcile.NotAsked} {
		all = append(all, reconcile.Finding{Kind: kind, Outcome: outcome})
	}
	for _, state := range []store.State{store.Waiting, store.Dead, store.Dropped, store.Quarantined} {
		all = append(all, reconcile.Finding{Kind: kind, EventState: state})
	}
	for _, state := range store.OrderStates() {
		if state != store.OrderReconciled {
			all = append(all, reconcile.Finding{Kind: kind, OrderState: state, EventState: store.Dead})
		}
	}
	return all
}

// A page says that there is nothing where there is nothing.
func TestWriteNothing(t *testing.T) {
	r := &reconcile.Report{MchID: mchID, Date: date, NoBill: true}
	for _, format := range []string{"text", "html"} {
		if text := written(t, r, format, reconcile.English); !strings.Contains(text, "There are none.") || !strings.Contains(text, "nothing was traded") {
			t.Errorf("%s: %s", format, text)
		}
	}
}

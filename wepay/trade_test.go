package wepay_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// trades reads a bill of trades.
func trades(text string) (all []wepay.Trade, kind wepay.BillType, err error) {
	kind, err = bill(text).ReadTrades(func(t *wepay.Trade) error {
		all = append(all, *t)
		return nil
	})
	return all, kind, err
}

func TestReadTrades(t *testing.T) {
	payment := wepay.Trade{
		Time: time.Date(2026, 1, 1, 5, 1, 46, 0, wepay.Beijing), AppID: "wx1", MchID: "1900000109",
		TransactionID: "42", OutTradeNo: "A1", TradeType: "JSAPI", State: wepay.TradePaid,
		TotalFee: 1200, SettlementTotalFee: 1160, Fee: 7000,
	}
	refund := payment
	refund.State, refund.TotalFee, refund.SettlementTotalFee, refund.Fee = wepay.TradeRefunded, 0, 0, -6600
	refund.RefundID, refund.OutRefundNo, refund.RefundFee, refund.SettlementRefundFee, refund.RefundStatus = "50", "R1", 1100, 1100, "SUCCESS"
	with := func(trade wepay.Trade, change func(*wepay.Trade)) wepay.Trade {
		change(&trade)
		return trade
	}
	for name, test := range map[string]struct {
		kind wepay.BillType
		want []wepay.Trade
	}{
		"ALL": {wepay.BillOfAll, []wepay.Trade{payment, refund}},
		"ALL, old": {wepay.BillOfAll, []wepay.Trade{
			with(payment, func(t *wepay.Trade) { t.TotalFee, t.SettlementTotalFee, t.Fee = 1, 1, 0 }),
			with(refund, func(t *wepay.Trade) { t.RefundFee, t.SettlementRefundFee, t.Fee = 1, 1, 0 }),
		}},
		"ALL, commas": {wepay.BillOfAll, []wepay.Trade{with(payment, func(t *wepay.Trade) { t.TotalFee, t.SettlementTotalFee, t.Fee = 1, 1, 0 })}},
		"SUCCESS": {wepay.BillOfPayments, []wepay.Trade{
			with(payment, func(t *wepay.Trade) { t.TotalFee, t.SettlementTotalFee, t.Fee = 4500, 4500, 27000 }),
		}},
		"REFUND": {wepay.BillOfRefunds, []wepay.Trade{
			with(refund, func(t *wepay.Trade) { t.RefundFee, t.SettlementRefundFee, t.Fee = 47, 47, -282 }),
		}},
		"no trades": {wepay.BillOfAll, nil},
	} {
		got, kind, err := trades(bills[name])
		if err != nil || kind != test.kind || !slices.Equal(got, test.want) {
			t.Errorf("%s: got %s of %+v (%v), want %+v", name, kind, got, err, test.want)
		}
	}
	for _, title := range []string{"特约商户号", "子商户号"} {
		got, _, err := trades(strings.NewReplacer("`1900000109,`0,", "`1900000109,`1900000110,", "特约商户号", title).Replace(bills["ALL"]))
		if err != nil || got[0].SubMchID != "1900000110" || got[1].SubMchID != "1900000110" {
			t.Errorf("%s: got %+v (%v)", title, got, err)
		}
	}
}

// Columns are found by their titles, wherever they stand.
func TestReadTradesByTitle(t *testing.T) {
	var rows []string
	for line := range strings.Lines(strings.TrimPrefix(bills["ALL"], "\ufeff")) {
		line, ticks := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "`")
		separator, first := ",", ""
		if ticks {
			separator, first = ",`", "`"
		}
		cells := strings.Split(line, separator)
		slices.Reverse(cells)
		rows = append(rows, first+strings.Join(cells, separator))
	}
	want, _, _ := trades(bills["ALL"])
	got, _, err := trades(lines(rows...))
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v (%v), want %+v", got, err, want)
	}
}

// What WriteJSON refuses is refused here as well, and what is no bill of trades.
func TestReadTradesRefuses(t *testing.T) {
	replace := func(name, old, new string) string { return strings.Replace(bills[name], old, new, 1) }
	for name, test := range map[string]struct{ text, want string }{
		"a fund flow":          {bills["fund flow"], "no bill of trades: it has no column"},
		"no amount":            {replace("ALL", ",订单金额,", ",订单额度,"), "订单金额"},
		"two amounts":          {replace("ALL", "费率备注", "总金额"), "订单金额"},
		"no number":            {replace("ALL", "商户订单号", "商户单号"), "no column 商户订单号"},
		"no refund_id":         {replace("ALL", "微信退款单号", "退款单号"), "no column 微信退款单号"},
		"the sum of orders":    {replace("ALL", "`12.0,`11.0\r", "`12.01,`11.0\r"), "do not add up"},
		"a row less":           {replace("ALL", "`2,`11.6", "`3,`11.6"), "总交易单数"},
		"GBK":                  {replace("ALL", "袜子,红,大", "\xcd\xe0"), "is not UTF-8"},
		"another currency":     {replace("ALL", "`CNY", "`JPY"), "货币种类: is not CNY"},
		"parts of a fen":       {replace("ALL", "`11.60", "`11.605"), "应结订单金额: is no amount of whole fen"},
		"an amount below 0":    {replace("ALL", "`11.60", "`-11.60"), "应结订单金额: is no amount of whole fen"},
		"no time":              {replace("ALL", "2026-01-01 05:01:46", "2026-02-30 05:01:46"), "交易时间: is no time"},
		"a time with its zone": {replace("ALL", "2026-01-01 05:01:46", "2026-01-01T05:01:46+08:00"), "交易时间: is no time"},
	} {
		if _, _, err := trades(test.text); !errors.Is(err, wepay.ErrBillForm) || !errors.Is(err, wepay.ErrMalformed) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	cut := bills["ALL"][:strings.Index(bills["ALL"], "总交易单数")]
	if _, _, err := trades(cut); !errors.Is(err, wepay.ErrMalformed) || errors.Is(err, wepay.ErrBillForm) {
		t.Errorf("cut off: got %v", err)
	}
}

// Who reads the trades and has enough of them does not make the bill malformed.
func TestReadTradesStops(t *testing.T) {
	enough, read := errors.New("enough"), 0
	_, err := (&wepay.Bill{Reader: &manyTrades{trades: 100}}).ReadTrades(func(*wepay.Trade) error {
		if read++; read == 10 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || errors.Is(err, wepay.ErrMalformed) || read != 10 {
		t.Errorf("got %v after %d trades", err, read)
	}
}

// Run it for longer with
//
//	go test ./wepay -run '^$' -fuzz '^FuzzReadTrades$' -fuzztime 2m
func FuzzReadTrades(f *testing.F) {
	for _, text := range bills {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		all, _, err := trades(text)
		if err != nil {
			if !errors.Is(err, wepay.ErrMalformed) {
				t.Fatalf("got %v", err)
			}
			return
		}
		if err := bill(text).WriteJSON(io.Discard); err != nil {
			t.Fatalf("its trades pass, and as JSON it does not: %v", err)
		}
		for _, trade := range all {
			if trade.TotalFee < 0 || trade.SettlementTotalFee < 0 || trade.RefundFee < 0 || trade.SettlementRefundFee < 0 || trade.Time.IsZero() {
				t.Fatalf("got %+v", trade)
			}
		}
	})
}

package caddymodule

import (
	"errors"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/windsome/caddy-wepay/caddymodule/internal/parse"
	"github.com/windsome/caddy-wepay/caddymodule/recovery"
	"github.com/windsome/caddy-wepay/wepay"
)

// Recover configures how WeChat is asked about orders that nothing is heard of.
type Recover struct {
	// WeChat is not asked. Orders are recorded all the same.
	Off bool `json:"off,omitempty"`

	// How long to wait before each question: the first wait begins when an order is
	// placed, and the last repeats until the order expires at WeChat. Each is made
	// longer by up to a fifth by chance. Default:
	// `["15s", "30s", "1m", "3m", "5m", "10m", "30m"]`.
	Schedule []caddy.Duration `json:"schedule,omitempty"`
}

// The limits of close_after and of a schedule's waits.
const (
	// leastCloseAfter is what WeChat wants between an order and its closing.
	// Source: WeChat Pay, 关闭订单.
	leastCloseAfter = 5 * time.Minute
	leastWait       = time.Second
	longestWait     = 24 * time.Hour
)

// UnmarshalCaddyfile sets up the options from their line or block. Syntax:
//
//	recover [off] {
//		schedule <wait> [<wait>...]
//	}
func (o *Recover) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		if d.Val() != "off" || d.NextArg() {
			return d.Err("recover: takes off, or a block, or nothing")
		}
		o.Off = true
	}
	once := make(parse.Once)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := once.Check(d); err != nil {
			return err
		}
		if option := d.Val(); option != "schedule" {
			return d.Errf("unrecognized recover option %s", parse.Word(option))
		}
		texts, err := parse.Texts(d)
		if err != nil {
			return err
		}
		for _, text := range texts {
			wait, err := caddy.ParseDuration(text)
			if err != nil {
				return d.Errf("schedule: %s is not a time", parse.Value(text))
			}
			o.Schedule = append(o.Schedule, caddy.Duration(wait))
		}
	}
	return nil
}

// schedule is what the options say; nil: WeChat is not asked.
func (o *Recover) schedule() (recovery.Schedule, error) {
	switch {
	case o == nil:
		return recovery.DefaultSchedule, nil
	case o.Off && len(o.Schedule) > 0:
		return nil, errors.New("off does not go with a schedule")
	case o.Off:
		return nil, nil
	case len(o.Schedule) == 0:
		return recovery.DefaultSchedule, nil
	}
	schedule := make(recovery.Schedule, len(o.Schedule))
	for i, wait := range o.Schedule {
		schedule[i] = time.Duration(wait)
		if schedule[i] < leastWait || schedule[i] > longestWait {
			return nil, errors.New("schedule: a wait must be 1s to 24h")
		}
	}
	return schedule, nil
}

// provisionLedger reads what is done with orders that are recorded.
func (a *App) provisionLedger() error {
	if a.Recover != nil && a.StoreRaw == nil {
		return &wepay.FieldError{Field: "recover", Reason: "needs a store"}
	}
	schedule, err := a.Recover.schedule()
	if err != nil {
		return &wepay.FieldError{Field: "recover", Reason: err.Error()}
	}
	a.ledger = &recovery.Ledger{Now: steady.Now, Schedule: schedule, CloseAfter: make(map[string]time.Duration), CallbackURL: a.callbackURL}
	return nil
}

// callbackURL is where a merchant's order service takes a kind of event.
func (a *App) callbackURL(merchant string, kind wepay.Kind) string {
	if m := a.merchants.Named(merchant); m != nil {
		return m.CallbackURL(kind)
	}
	return ""
}

// provisionBooks reads what is done with a merchant's orders, once the store is loaded.
func (a *App) provisionBooks(c *MerchantConfig, m *wepay.Merchant) error {
	after := time.Duration(c.CloseAfter)
	if c.Reconcile {
		a.reconciled = append(a.reconciled, m)
	}
	switch {
	case c.Reconcile && a.store == nil:
		return &wepay.FieldError{Field: "reconcile", Reason: "needs a store"}
	case after == 0:
		return nil
	case a.store == nil:
		return &wepay.FieldError{Field: "close_after", Reason: "needs a store"}
	case a.ledger.Schedule == nil:
		return &wepay.FieldError{Field: "close_after", Reason: "does not go with recover off: an order is asked about before it is closed"}
	case after < leastCloseAfter:
		return &wepay.FieldError{Field: "close_after", Reason: "must be 5m or more, which WeChat wants between an order and its closing"}
	}
	a.ledger.CloseAfter[m.Name] = after
	return nil
}

// newRecovery returns what asks WeChat about orders.
func (a *App) newRecovery() *recovery.Recovery {
	accounts := make(map[string]*recovery.Account, len(a.accounts))
	for merchant, account := range a.accounts {
		accounts[merchant.Name] = &recovery.Account{Merchant: merchant, Client: account.client}
	}
	return recovery.New(recovery.Config{
		Ledger: a.ledger, Accounts: accounts, Logger: a.logger, Asked: a.metrics.asked, Learned: a.learned,
	})
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Recover)(nil)

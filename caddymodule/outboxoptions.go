package caddymodule

import (
	"errors"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/windsome/caddy-wepay/caddymodule/internal/parse"
)

// OutboxOptions are the options that every outbox has.
type OutboxOptions struct {
	// How long to wait after the first attempt that failed, and the longest
	// wait; the waits between double, each changed a little by chance. Default:
	// `["1s", "10m"]`.
	Retry []caddy.Duration `json:"retry,omitempty"`

	// How long an event is tried before it is given up. WeChat itself sends for
	// 24 hours. Default: 72h.
	GiveUp caddy.Duration `json:"give_up,omitempty"`

	// How long a delivered event is remembered, so that it is known when WeChat
	// repeats it; at least 25h. Default: 7d.
	Keep caddy.Duration `json:"keep,omitempty"`

	// How many events are handed over at the same time. Some are left for other
	// order services when one of them hangs. Default: 16.
	Workers int `json:"workers,omitempty"`
}

// The options' defaults and limits; see OutboxOptions.
const (
	defaultFirstWait   = time.Second
	defaultLongestWait = 10 * time.Minute
	defaultGiveUp      = 72 * time.Hour
	defaultKeep        = 7 * 24 * time.Hour
	defaultWorkers     = 16

	// leastKeep is longer than WeChat goes on to repeat a notification, which is
	// 24 hours and 4 minutes.
	leastKeep   = 25 * time.Hour
	mostWorkers = 1024
)

// Options returns the options themselves, as Outbox wants it.
func (o *OutboxOptions) Options() *OutboxOptions { return o }

// Provision fills in the defaults and says what is wrong with the options.
func (o *OutboxOptions) Provision() error {
	if len(o.Retry) == 0 {
		o.Retry = []caddy.Duration{caddy.Duration(defaultFirstWait), caddy.Duration(defaultLongestWait)}
	}
	if o.GiveUp == 0 {
		o.GiveUp = caddy.Duration(defaultGiveUp)
	}
	if o.Keep == 0 {
		o.Keep = caddy.Duration(defaultKeep)
	}
	if o.Workers == 0 {
		o.Workers = defaultWorkers
	}
	switch {
	case len(o.Retry) != 2 || o.Retry[0] <= 0 || o.Retry[1] < o.Retry[0]:
		return errors.New("retry: needs the first wait and the longest, which is not shorter")
	case o.GiveUp < 0:
		return errors.New("give_up: must be above 0")
	case time.Duration(o.Keep) < leastKeep:
		return errors.New("keep: must be at least 25h: WeChat repeats a notification for 24 hours")
	case o.Workers < 0 || o.Workers > mostWorkers:
		return errors.New("workers: must be 1 to 1024")
	}
	return nil
}

// UnmarshalBlock reads a store's block, the dispenser before the store's name:
// the options that every store has, and by own, with the dispenser on its name,
// any other. Own returns an error for one that the store does not know, see
// UnknownOption. No option may stand there twice but the repeatable ones.
func (o *OutboxOptions) UnmarshalBlock(d *caddyfile.Dispenser, own func(option string) error, repeatable ...string) error {
	d.Next() // consume the store's name
	if d.NextArg() {
		return d.ArgErr()
	}
	once := make(parse.Once)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if err := once.Check(d, repeatable...); err != nil {
			return err
		}
		known, err := o.unmarshalOption(d, option)
		if err == nil && !known {
			err = own(option)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// UnknownOption is the error for an option that a store does not know.
func UnknownOption(d *caddyfile.Dispenser, option string) error {
	return d.Errf("unrecognized outbox option %q", option)
}

// unmarshalOption reads an option if it is one of the shared ones, and reports
// whether it is.
func (o *OutboxOptions) unmarshalOption(d *caddyfile.Dispenser, option string) (known bool, err error) {
	switch option {
	case "retry":
		return true, o.unmarshalRetry(d)
	case "give_up":
		return true, parse.Duration(d, &o.GiveUp)
	case "keep":
		return true, parse.Duration(d, &o.Keep)
	case "workers":
		return true, parse.Number(d, &o.Workers)
	default:
		return false, nil
	}
}

func (o *OutboxOptions) unmarshalRetry(d *caddyfile.Dispenser) error {
	var first, longest string
	if !d.AllArgs(&first, &longest) {
		return d.Err("retry: needs the first wait and the longest, such as 1s 10m")
	}
	for _, text := range []string{first, longest} {
		wait, err := caddy.ParseDuration(text)
		if err != nil {
			return d.Errf("retry: %v", err)
		}
		o.Retry = append(o.Retry, caddy.Duration(wait))
	}
	return nil
}

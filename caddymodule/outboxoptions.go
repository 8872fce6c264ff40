package caddymodule

import (
	"errors"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
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

	// How many events are handed over at the same time. Default: 16.
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

// UnmarshalOption reads the directive that the dispenser stands on if it is one
// of the shared options, and reports whether it is.
func (o *OutboxOptions) UnmarshalOption(d *caddyfile.Dispenser) (known bool, err error) {
	switch directive := d.Val(); directive {
	case "retry":
		return true, o.unmarshalRetry(d)
	case "give_up":
		return true, unmarshalDuration(d, directive, &o.GiveUp)
	case "keep":
		return true, unmarshalDuration(d, directive, &o.Keep)
	case "workers":
		return true, unmarshalNumber(d, directive, &o.Workers)
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

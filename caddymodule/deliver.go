package caddymodule

import (
	"errors"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/windsome/caddy-wepay/caddymodule/delivery"
	"github.com/windsome/caddy-wepay/caddymodule/internal/parse"
)

// Deliver configures how what is in the store is handed over.
type Deliver struct {
	// How long to wait after the first attempt that failed, and the longest
	// wait; the waits between double, each changed a little by chance. Default:
	// `["1s", "10m"]`.
	Retry []caddy.Duration `json:"retry,omitempty"`

	// How long an event is tried before it is given up. WeChat itself sends for
	// 24 hours. Default: 72h.
	GiveUp caddy.Duration `json:"give_up,omitempty"`

	// How many events are handed over at the same time. Some are left for other
	// order services when one of them hangs. Default: 16.
	Workers int `json:"workers,omitempty"`
}

// The options' defaults and limits; see Deliver and App.
const (
	defaultFirstWait   = time.Second
	defaultLongestWait = 10 * time.Minute
	defaultGiveUp      = 72 * time.Hour
	defaultWorkers     = 16
	mostWorkers        = 1024

	defaultKeep     = 7 * 24 * time.Hour
	defaultKeepRows = 400 * 24 * time.Hour

	// leastKeep is longer than WeChat goes on to repeat a notification, which is
	// 24 hours and 4 minutes.
	leastKeep = 25 * time.Hour
)

// UnmarshalCaddyfile sets up the options from their block. Syntax:
//
//	deliver {
//		retry   <first_wait> <longest_wait>
//		give_up <duration>
//		workers <number>
//	}
func (o *Deliver) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return parse.ArgErr(d, "deliver")
	}
	once := make(parse.Once)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := once.Check(d); err != nil {
			return err
		}
		var err error
		switch option := d.Val(); option {
		case "retry":
			err = o.unmarshalRetry(d)
		case "give_up":
			err = parse.Duration(d, &o.GiveUp)
		case "workers":
			err = parse.Number(d, &o.Workers)
		default:
			err = d.Errf("unrecognized deliver option %s", parse.Word(option))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *Deliver) unmarshalRetry(d *caddyfile.Dispenser) error {
	var first, longest string
	if !d.AllArgs(&first, &longest) {
		return d.Err("retry: needs the first wait and the longest, such as 1s 10m")
	}
	for _, text := range []string{first, longest} {
		wait, err := caddy.ParseDuration(text)
		if err != nil {
			return d.Errf("retry: %s is not a time", parse.Value(text))
		}
		o.Retry = append(o.Retry, caddy.Duration(wait))
	}
	return nil
}

// policy is what the options say, with their defaults; nil has those alone.
func (o *Deliver) policy() (delivery.Policy, error) {
	p := delivery.Policy{FirstWait: defaultFirstWait, LongestWait: defaultLongestWait, GiveUp: defaultGiveUp, Workers: defaultWorkers}
	if o == nil {
		return p, nil
	}
	if len(o.Retry) > 0 {
		if len(o.Retry) != 2 || o.Retry[0] <= 0 || o.Retry[1] < o.Retry[0] {
			return p, errors.New("retry: needs the first wait and the longest, which is not shorter")
		}
		p.FirstWait, p.LongestWait = time.Duration(o.Retry[0]), time.Duration(o.Retry[1])
	}
	if o.GiveUp != 0 {
		p.GiveUp = time.Duration(o.GiveUp)
	}
	if o.Workers != 0 {
		p.Workers = o.Workers
	}
	switch {
	case p.GiveUp < 0:
		return p, errors.New("give_up: must be above 0")
	case p.Workers < 0 || p.Workers > mostWorkers:
		return p, errors.New("workers: must be 1 to 1024")
	}
	return p, nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Deliver)(nil)

package natsoutbox

import (
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/windsome/caddy-wepay/caddymodule"
)

// UnmarshalCaddyfile sets up the outbox from its block. Syntax:
//
//	outbox nats {
//		url         <url...>
//		stream      <name>
//		replicas    <number>
//		credentials <file>
//		tls {
//			ca   <file>
//			cert <file> <key file>
//		}
//		retry   <first wait> <longest wait>
//		give_up <duration>
//		keep    <duration>
//		workers <number>
//	}
func (n *NATS) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return n.UnmarshalBlock(d, func(option string) error { return n.unmarshalOption(d, option) }, "url")
}

// unmarshalOption reads an option that only this store has.
func (n *NATS) unmarshalOption(d *caddyfile.Dispenser, option string) error {
	switch option {
	case "url":
		urls := d.RemainingArgs()
		if len(urls) == 0 {
			return d.ArgErr()
		}
		n.URLs = append(n.URLs, urls...)
		return nil
	case "stream":
		return unmarshalText(d, &n.Stream)
	case "replicas":
		var text string
		if !d.AllArgs(&text) {
			return d.ArgErr()
		}
		replicas, err := strconv.Atoi(text)
		if err != nil {
			return d.Errf("replicas: %q is not a number", text)
		}
		n.Replicas = replicas
		return nil
	case "credentials":
		return unmarshalText(d, &n.Credentials)
	case "tls":
		n.TLS = new(TLS)
		return n.TLS.unmarshal(d)
	default:
		return caddymodule.UnknownOption(d, option)
	}
}

// unmarshal reads a tls block.
func (t *TLS) unmarshal(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if seen[option] {
			return d.Errf("%s already specified", option)
		}
		seen[option] = true
		switch option {
		case "ca":
			if err := unmarshalText(d, &t.CA); err != nil {
				return err
			}
		case "cert":
			if !d.AllArgs(&t.Cert, &t.Key) {
				return d.Err("cert: needs the certificate's file and the key's")
			}
		default:
			return d.Errf("unrecognized tls option %q", option)
		}
	}
	return nil
}

func unmarshalText(d *caddyfile.Dispenser, text *string) error {
	if !d.AllArgs(text) {
		return d.ArgErr()
	}
	return nil
}

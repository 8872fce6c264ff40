package caddymodule

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("wepay", parseGlobalOption)
	httpcaddyfile.RegisterHandlerDirective("wepay", parseDirective)
	httpcaddyfile.RegisterDirectiveOrder("wepay", httpcaddyfile.Before, "respond")
}

func parseGlobalOption(d *caddyfile.Dispenser, existing any) (any, error) {
	if existing != nil {
		d.Next() // onto the option's name, for the error's line
		return nil, d.Err("wepay already specified: there is one for the whole server")
	}
	app := new(App)
	if err := app.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "wepay", Value: caddyconfig.JSON(app, nil)}, nil
}

func parseDirective(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	return handler, handler.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile sets up the app from the global option. Syntax:
//
//	wepay {
//		merchant <name> {
//			...
//		}
//		config_file        <path>
//		endpoint           <url> [<url>...]
//		risk_endpoint      <url>
//		login_endpoint     <url>
//		call_timeout       <duration>
//		callback_timeout   <duration>
//		transport http {
//			...
//		}
//		callback_transport http {
//			...
//		}
//		outbox <store> {
//			...
//		}
//	}
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume option name
	if d.NextArg() {
		return d.ArgErr()
	}
	a.Source.note(d, "block")
	once := make(once)
	for d.NextBlock(0) {
		directive := d.Val()
		if err := once.check(d, directive, "merchant"); err != nil {
			return err
		}
		a.Source.note(d, directive)
		var err error
		switch directive {
		case "merchant":
			delete(a.Source, "merchant") // each merchant knows its own places
			err = a.unmarshalMerchant(d)
		case "config_file":
			err = unmarshalText(d, &a.ConfigFile)
		case "endpoint":
			a.Endpoint, err = unmarshalTexts(d)
		case "risk_endpoint":
			err = unmarshalText(d, &a.RiskEndpoint)
		case "login_endpoint":
			err = unmarshalText(d, &a.LoginEndpoint)
		case "call_timeout":
			err = unmarshalDuration(d, directive, &a.CallTimeout)
		case "callback_timeout":
			err = unmarshalDuration(d, directive, &a.CallbackTimeout)
		case "transport":
			a.TransportRaw, err = unmarshalTransport(d)
		case "callback_transport":
			a.CallbackTransportRaw, err = unmarshalTransport(d)
		case "outbox":
			a.OutboxRaw, err = unmarshalOutbox(d)
		default:
			err = d.Errf("unrecognized wepay option %q", directive)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// UnmarshalCaddyfile sets up the handler from the directive. Syntax:
//
//	wepay [<matcher>] {
//		path_prefix <path>
//		merchants   <name> [<name>...]
//		allow       <address> [<address>...]
//		token       <token> [<token>...]
//	}
//
// Private_ranges among the addresses stands for all private ones.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume directive name
	if d.NextArg() {
		return d.ArgErr()
	}
	h.Source.note(d, "block")
	once := make(once)
	for d.NextBlock(0) {
		directive := d.Val()
		if err := once.check(d, directive); err != nil {
			return err
		}
		h.Source.note(d, directive)
		var err error
		switch directive {
		case "path_prefix":
			err = unmarshalText(d, &h.PathPrefix)
		case "merchants":
			h.Merchants, err = unmarshalTexts(d)
		case "allow":
			h.Allow, err = unmarshalAddresses(d)
		case "token":
			h.Token, err = unmarshalTexts(d)
		default:
			err = d.Errf("unrecognized subdirective %q", directive)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// once remembers which directives a block has had.
type once map[string]bool

func (o once) check(d *caddyfile.Dispenser, directive string, repeatable ...string) error {
	for _, name := range repeatable {
		if directive == name {
			return nil
		}
	}
	if o[directive] {
		return d.Errf("%s already specified", directive)
	}
	o[directive] = true
	return nil
}

func unmarshalAddresses(d *caddyfile.Dispenser) ([]string, error) {
	addresses, err := unmarshalTexts(d)
	if err != nil {
		return nil, err
	}
	for _, address := range addresses {
		if address == privateRanges || strings.Contains(address, "{") {
			continue
		}
		if _, err := caddyhttp.CIDRExpressionToPrefix(address); err != nil {
			return nil, d.Errf("allow: %v", err)
		}
	}
	return addresses, nil
}

func unmarshalTransport(d *caddyfile.Dispenser) (json.RawMessage, error) {
	if !d.NextArg() || d.Val() != "http" {
		return nil, d.Err("transport must be http, the transport of reverse_proxy")
	}
	if d.CountRemainingArgs() > 0 { // which the guest would pass over
		return nil, d.ArgErr()
	}
	guest, err := caddyfile.UnmarshalModule(d, "http.reverse_proxy.transport.http")
	if err != nil {
		return nil, err
	}
	transport, ok := guest.(*reverseproxy.HTTPTransport)
	if !ok {
		return nil, d.Errf("unexpected transport %T", guest)
	}
	return caddyconfig.JSONModuleObject(transport, "protocol", "http", nil), nil
}

func unmarshalText(d *caddyfile.Dispenser, text *string) error {
	if !d.AllArgs(text) {
		return d.ArgErr()
	}
	return nil
}

func unmarshalTexts(d *caddyfile.Dispenser) ([]string, error) {
	texts := d.RemainingArgs()
	if len(texts) == 0 {
		return nil, d.ArgErr()
	}
	return texts, nil
}

// unmarshalSwitch reads a directive that is on where it stands.
func unmarshalSwitch(d *caddyfile.Dispenser, on *bool) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	*on = true
	return nil
}

func unmarshalDuration(d *caddyfile.Dispenser, directive string, duration *caddy.Duration) error {
	var text string
	if err := unmarshalText(d, &text); err != nil {
		return err
	}
	parsed, err := caddy.ParseDuration(text)
	if err != nil || parsed <= 0 {
		return d.Errf("%s: %q is not a time above 0", directive, text)
	}
	*duration = caddy.Duration(parsed)
	return nil
}

func unmarshalNumber(d *caddyfile.Dispenser, directive string, number *int) error {
	var text string
	if err := unmarshalText(d, &text); err != nil {
		return err
	}
	parsed, err := strconv.Atoi(text)
	if err != nil || parsed <= 0 {
		return d.Errf("%s: %q is not a number above 0", directive, text)
	}
	*number = parsed
	return nil
}

// unmarshalOutbox reads an outbox block: the store's name, and what the store
// makes of the rest.
func unmarshalOutbox(d *caddyfile.Dispenser) (json.RawMessage, error) {
	if !d.NextArg() {
		return nil, d.Err("outbox: needs the name of a store, such as bolt")
	}
	name := d.Val()
	store, err := caddyfile.UnmarshalModule(d, "wepay.outbox."+name)
	if err != nil {
		return nil, err
	}
	return caddyconfig.JSONModuleObject(store, "store", name, nil), nil
}

// Interface guards
var (
	_ caddyfile.Unmarshaler = (*App)(nil)
	_ caddyfile.Unmarshaler = (*Handler)(nil)
)

package caddymodule

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/windsome/caddy-wepay/caddymodule/internal/parse"
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
	forgetPositions()
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
//		store <engine> ...
//		deliver {
//			...
//		}
//		keep      <duration>
//		keep_rows <duration>
//		recover [off] {
//			...
//		}
//	}
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume option name
	if d.NextArg() {
		return parse.ArgErr(d, "wepay")
	}
	positions := make(positions)
	positions.note(d, "block")
	once := make(parse.Once)
	for d.NextBlock(0) {
		directive := d.Val()
		if err := once.Check(d, "merchant"); err != nil {
			return err
		}
		positions.note(d, directive)
		var err error
		switch directive {
		case "merchant":
			err = a.unmarshalMerchant(d)
		case "config_file":
			err = parse.Text(d, &a.ConfigFile)
			a.ConfigFile = filePath(d, a.ConfigFile)
		case "endpoint":
			a.Endpoint, err = parse.Texts(d)
		case "risk_endpoint":
			err = parse.Text(d, &a.RiskEndpoint)
		case "login_endpoint":
			err = parse.Text(d, &a.LoginEndpoint)
		case "call_timeout":
			err = parse.Duration(d, &a.CallTimeout)
		case "callback_timeout":
			err = parse.Duration(d, &a.CallbackTimeout)
		case "transport":
			a.TransportRaw, err = unmarshalTransport(d)
		case "callback_transport":
			a.CallbackTransportRaw, err = unmarshalTransport(d)
		case "store":
			a.StoreRaw, err = unmarshalStore(d)
		case "deliver":
			a.Deliver = new(Deliver)
			err = a.Deliver.UnmarshalCaddyfile(d)
		case "keep":
			err = parse.Duration(d, &a.Keep)
		case "keep_rows":
			err = parse.Duration(d, &a.KeepRows)
		case "recover":
			a.Recover = new(Recover)
			err = a.Recover.UnmarshalCaddyfile(d)
		default:
			err = d.Errf("unrecognized wepay option %s", parse.Word(directive))
		}
		if err != nil {
			return err
		}
	}
	positions.keep(a)
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
		return parse.ArgErr(d, "wepay")
	}
	positions := make(positions)
	positions.note(d, "block")
	once := make(parse.Once)
	for d.NextBlock(0) {
		directive := d.Val()
		if err := once.Check(d); err != nil {
			return err
		}
		positions.note(d, directive)
		var err error
		switch directive {
		case "path_prefix":
			err = parse.Text(d, &h.PathPrefix)
		case "merchants":
			h.Merchants, err = parse.Texts(d)
		case "allow":
			h.Allow, err = unmarshalAddresses(d)
		case "token":
			h.Token, err = parse.Texts(d)
		default:
			err = d.Errf("unrecognized subdirective %s", parse.Word(directive))
		}
		if err != nil {
			return err
		}
	}
	positions.keep(h)
	return nil
}

func unmarshalAddresses(d *caddyfile.Dispenser) ([]string, error) {
	addresses, err := parse.Texts(d)
	if err != nil {
		return nil, err
	}
	for _, address := range addresses {
		if address == privateRanges || strings.Contains(address, "{") {
			continue
		}
		if _, err := caddyhttp.CIDRExpressionToPrefix(address); err != nil {
			if parse.Hides(address) {
				err = errors.New("one of them is no address: it is not shown, as it may be a secret")
			}
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

// unmarshalStore reads which store there is, and what that makes of the rest.
func unmarshalStore(d *caddyfile.Dispenser) (json.RawMessage, error) {
	if !d.NextArg() {
		return nil, d.Err("store: needs sqlite, postgres or mysql")
	}
	engine := d.Val()
	store, err := caddyfile.UnmarshalModule(d, "wepay.store."+engine)
	if err != nil {
		return nil, err
	}
	return caddyconfig.JSONModuleObject(store, "engine", engine, nil), nil
}

// Interface guards
var (
	_ caddyfile.Unmarshaler = (*App)(nil)
	_ caddyfile.Unmarshaler = (*Handler)(nil)
)

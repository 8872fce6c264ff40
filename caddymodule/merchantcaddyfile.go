package caddymodule

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/windsome/caddy-wepay/caddymodule/internal/parse"
	"github.com/windsome/caddy-wepay/wepay"
)

func (a *App) unmarshalMerchant(d *caddyfile.Dispenser) error {
	merchant := new(MerchantConfig)
	if !d.AllArgs(&merchant.Name) || merchant.Name == "" {
		return d.Err("merchant needs one name, and a block")
	}
	for _, other := range a.Merchants {
		if other.Name == merchant.Name {
			return d.Errf("merchant %q: there are two of this name", merchant.Name)
		}
	}
	a.Merchants = append(a.Merchants, merchant)
	return merchant.UnmarshalCaddyfile(d)
}

// UnmarshalCaddyfile sets up a merchant from its block; the dispenser stands on
// its name. Syntax:
//
//	merchant <name> {
//		env             H5|WXAPP|APP|MWEB|NATIVE
//		type            普通商户|服务商
//		app_id          <appid>
//		mch_id          <mch_id>
//		sub_app_id      <appid>
//		sub_mch_id      <mch_id>|* [<mch_id>|*...]
//		partnerid       mch_id|sub_mch_id
//		api             v2|v3
//		partner_key     <key>
//		sign_type       MD5|HMAC-SHA256
//		pfx             <p12_file> [<passphrase>]
//		cert            <cert_file> <key_file>
//		private_key     <key_file>
//		mch_serial      <serial>
//		apiv3_key       <key>
//		public_key      <id> <key_file>
//		payload         v2|v3
//		notify_url      <url>
//		cb_notify_url   <url>
//		callback_secret <whsec_...> [<whsec_...>...]
//		endpoint        <url> [<url>...]
//		sandbox
//		cb_refund_notify_url <url>
//		cb_event_url    <url>
//		payouts
//		passthrough
//		app_secret      <secret>
//		session_key
//		close_after     <duration>
//		reconcile
//	}
func (c *MerchantConfig) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	positions := make(positions)
	positions.note(d, "block")
	once := make(parse.Once)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		directive := d.Val()
		if err := once.Check(d); err != nil {
			return fmt.Errorf("merchant %q: %w", c.Name, err)
		}
		positions.note(d, directive)
		if err := c.unmarshalDirective(d, directive); err != nil {
			return err
		}
	}
	if err := c.checkComplete(d); err != nil {
		return err
	}
	positions.keep(c)
	return nil
}

func (c *MerchantConfig) unmarshalDirective(d *caddyfile.Dispenser, directive string) error {
	var err error
	switch directive {
	case "pfx":
		args := d.RemainingArgs()
		if len(args) == 0 || len(args) > 2 || args[0] == "" {
			return d.Errf("merchant %q: pfx: needs a file, and its passphrase if that is not the mch_id", c.Name)
		}
		c.PFX = filePath(d, args[0])
		if len(args) == 2 {
			c.Passphrase = args[1]
		}
	case "cert":
		if !d.AllArgs(&c.Cert, &c.CertKey) || c.Cert == "" {
			return d.Errf("merchant %q: cert: needs a certificate file and a key file", c.Name)
		}
		c.Cert, c.CertKey = filePath(d, c.Cert), filePath(d, c.CertKey)
	case "public_key":
		return c.unmarshalPublicKey(d)
	case "callback_secret":
		c.CallbackSecret, err = parse.Texts(d)
	case "endpoint":
		c.Endpoint, err = parse.Texts(d)
	case "sub_mch_id":
		err = c.unmarshalSubMchID(d)
	case "sandbox":
		err = parse.Switch(d, &c.Sandbox)
	case "payouts":
		err = parse.Switch(d, &c.Payouts)
	case "passthrough":
		err = parse.Switch(d, &c.Passthrough)
	case "session_key":
		err = parse.Switch(d, &c.SessionKey)
	case "close_after":
		err = parse.Duration(d, &c.CloseAfter)
	case "reconcile":
		err = parse.Switch(d, &c.Reconcile)
	default:
		return c.unmarshalValue(d, directive)
	}
	if err != nil {
		return fmt.Errorf("merchant %q: %w", c.Name, err)
	}
	return nil
}

// unmarshalSubMchID reads the sub-merchants that a partner acts for.
func (c *MerchantConfig) unmarshalSubMchID(d *caddyfile.Dispenser) error {
	c.SubMchID = d.RemainingArgs()
	if len(c.SubMchID) == 0 {
		return d.Err("sub_mch_id: needs one value or more")
	}
	for _, id := range c.SubMchID {
		if strings.Contains(id, "{") {
			continue
		}
		if err := checkSubMchID(id); err != nil {
			return d.WrapErr(err)
		}
	}
	return nil
}

// unmarshalPublicKey reads what WeChat Pay's public key is called, and its file.
func (c *MerchantConfig) unmarshalPublicKey(d *caddyfile.Dispenser) error {
	if !d.AllArgs(&c.PublicKey, &c.PublicKeyFile) || c.PublicKey == "" || c.PublicKeyFile == "" {
		return d.Errf("merchant %q: public_key: needs the key's id, %s and digits, and its file", c.Name, wepay.PublicKeyPrefix)
	}
	c.PublicKeyFile = filePath(d, c.PublicKeyFile)
	if strings.Contains(c.PublicKey, "{") {
		return nil
	}
	if err := wepay.MerchantRules.CheckValue("public_key", c.PublicKey); err != nil {
		return d.WrapErr(&wepay.MerchantError{Merchant: c.Name, Err: err})
	}
	return nil
}

// unnamed are the directives in values that are part of another one.
var unnamed = []string{"passphrase", "cert_key", "public_key"}

// unmarshalValue reads a directive of one value. What is wrong with it is said
// here, with its line, unless a placeholder stands for it.
func (c *MerchantConfig) unmarshalValue(d *caddyfile.Dispenser, name string) error {
	for _, directive := range c.values() {
		if directive.name != name || slices.Contains(unnamed, name) {
			continue
		}
		if !d.AllArgs(directive.value) {
			return d.Errf("merchant %q: %s: needs one value", c.Name, name)
		}
		if name == "private_key" {
			c.PrivateKey = filePath(d, c.PrivateKey)
			return nil
		}
		if strings.Contains(*directive.value, "{") {
			return nil
		}
		if err := wepay.MerchantRules.CheckValue(name, *directive.value); err != nil {
			return d.WrapErr(&wepay.MerchantError{Merchant: c.Name, Err: err})
		}
		return nil
	}
	return d.Errf("merchant %q: unrecognized directive %s", c.Name, parse.Word(name))
}

// checkComplete says what a block lacks, where its end is read. Which key it
// needs a placeholder may decide, which is for provisioning to see.
func (c *MerchantConfig) checkComplete(d *caddyfile.Dispenser) error {
	needs := []directive{{"app_id", &c.AppID}, {"mch_id", &c.MchID}}
	switch wepay.API(c.API) {
	case "", wepay.V2:
		needs = append(needs, directive{"partner_key", &c.PartnerKey})
	case wepay.V3:
		needs = append(needs, directive{"apiv3_key", &c.APIv3Key})
	}
	for _, required := range needs {
		if *required.value == "" {
			return d.Errf("merchant %q: %s: is required", c.Name, required.name)
		}
	}
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*MerchantConfig)(nil)

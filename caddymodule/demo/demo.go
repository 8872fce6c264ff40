package demo

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	_ "github.com/windsome/caddy-wepay/caddymodule" // the module itself
	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

type options struct {
	once                         bool
	api                          wepay.API // that the first merchant's orders go through
	lose                         bool      // all of WeChat's notifications
	port, ordersPort, wechatPort int
}

// The demo's merchants: a page inside WeChat, whose account has the keys of both
// APIs, and a mini program of an account that is new and has API v3 alone.
const (
	shopMchID = "1900000109"
	shopAppID = "wx00112233445566aa"
	shopKey   = "Kd7q2Vn0sX9tB4mHc6Zr1Lw8Fy3Pj5Ga"
	shopV3Key = "Hc6Zr1Lw8Fy3Pj5GaKd7q2Vn0sX9tB4m"
	miniMchID = "1900000110"
	miniAppID = "wx00112233445566bb"
	miniV3Key = "Zr1Lw8Fy3Pj5GaKd7q2Vn0sX9tB4mHc6"
)

// demo is what runs: WeChat Pay, Caddy and the order service.
type demo struct {
	api    wepay.API
	lose   bool
	dir    string
	wechat *wepaytest.Server
	orders *orderService
	site   string // Caddy's address
	token  string
	secret string // whsec_…, between Caddy and the order service
}

// run starts everything, walks through it and, unless it is to stop there,
// serves until the context ends.
func run(ctx context.Context, options options) (err error) {
	d := &demo{api: options.api, lose: options.lose, token: rand.Text(), secret: newSecret()}
	if d.dir, err = os.MkdirTemp("", "wepay-demo-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
	// Caddy keeps an id of its own among the user's data, whatever its config.
	for _, home := range []string{"XDG_DATA_HOME", "XDG_CONFIG_HOME"} {
		if err := os.Setenv(home, d.dir); err != nil {
			return err
		}
	}
	if d.wechat, err = wepaytest.NewServer(wepaytest.WithAddress(localAddress(options.wechatPort))); err != nil {
		return err
	}
	defer d.wechat.Close()
	if d.lose {
		d.wechat.LoseNotifications(1, 0)
	}
	if d.orders, err = startOrderService(localAddress(options.ordersPort), d.secret, d.wechat); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.orders.stop()) }()
	config, err := d.configure(options.port)
	if err != nil {
		return err
	}
	if err := startCaddy(config); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, caddy.Stop()) }()

	d.introduce(config)
	if err := d.walk(ctx); err != nil {
		return err
	}
	if options.once {
		return nil
	}
	d.invite()
	<-ctx.Done()
	return nil
}

var caddyfile = template.Must(template.New("Caddyfile").Parse(`{
	admin {{.Admin}}
	persist_config off
	storage file_system {{.Dir}}/caddy
	log {
		output file {{.Dir}}/caddy.log
	}
	wepay {
		endpoint {{.WeChat}}
		transport http {
			tls_trust_pool file {{.Dir}}/wechat_ca.pem
		}
		merchant shop {
			env H5
			app_id {{.ShopAppID}}
			mch_id {{.ShopMchID}}
			partner_key {file.{{.Dir}}/shop_key}
			pfx {{.Dir}}/apiclient_cert_{{.ShopMchID}}.p12
{{- if eq .API "v3"}}
			api v3
			apiv3_key {file.{{.Dir}}/shop_apiv3_key}
{{- end}}
			notify_url {{.Site}}/apis/v1/wepay/pay_notify/shop
			cb_notify_url {{.Orders}}/pay_notify
			callback_secret {file.{{.Dir}}/callback_secret}
		}
		merchant mini {
			env WXAPP
			app_id {{.MiniAppID}}
			mch_id {{.MiniMchID}}
			api v3
			private_key {{.Dir}}/apiclient_key.pem
			mch_serial {{.MiniSerial}}
			apiv3_key {file.{{.Dir}}/mini_apiv3_key}
			public_key {{.PublicKeyID}} {{.Dir}}/pub_key.pem
			notify_url {{.Site}}/apis/v1/wepay/pay_notify/mini
			cb_notify_url {{.Orders}}/pay_notify
			cb_event_url {{.Orders}}/event
			callback_secret {file.{{.Dir}}/callback_secret}
		}
		store sqlite {{.Dir}}/store.db
{{- if .Lose}}
		recover {
			schedule 1s 2s
		}
{{- end}}
	}
}
{{.Site}} {
	bind 127.0.0.1
	wepay {
		allow 127.0.0.1
		token {file.{{.Dir}}/token}
	}
	respond "the rest of the site"
}
`))

// configure registers the merchants at WeChat Pay, writes their keys and
// certificates and returns the Caddyfile.
func (d *demo) configure(port int) (string, error) {
	shop, err := d.register(wepaytest.Merchant{MchID: shopMchID, AppIDs: []string{shopAppID}, Key: shopKey, APIv3Key: shopV3Key})
	if err != nil {
		return "", err
	}
	mini, err := d.register(wepaytest.Merchant{MchID: miniMchID, AppIDs: []string{miniAppID}, APIv3Key: miniV3Key, Mode: wepaytest.ByPublicKey})
	if err != nil {
		return "", err
	}
	id, publicKey, err := d.wechat.PublicKey(miniMchID)
	if err != nil {
		return "", err
	}
	for name, content := range map[string]string{
		"shop_key": shopKey, "shop_apiv3_key": shopV3Key, "apiclient_cert_" + shopMchID + ".p12": string(shop.P12),
		"mini_apiv3_key": miniV3Key, "apiclient_key.pem": string(mini.KeyPEM), "pub_key.pem": string(publicKey),
		"token": d.token, "callback_secret": d.secret, "wechat_ca.pem": string(d.wechat.CACertPEM()),
	} {
		if err := os.WriteFile(filepath.Join(d.dir, name), []byte(content), 0o600); err != nil {
			return "", err
		}
	}
	address, err := freeAddress(port)
	if err != nil {
		return "", err
	}
	d.site = "http://" + address
	var config strings.Builder
	err = caddyfile.Execute(&config, map[string]any{
		"Dir": d.dir, "Admin": d.admin(), "Lose": d.lose, "WeChat": d.wechat.URL, "Site": d.site, "Orders": d.orders.url, "API": string(d.api),
		"ShopAppID": shopAppID, "ShopMchID": shopMchID,
		"MiniAppID": miniAppID, "MiniMchID": miniMchID, "MiniSerial": mini.Serial, "PublicKeyID": id,
	})
	return config.String(), err
}

// admin is the address of Caddy's admin endpoint: a socket that this user alone
// reaches.
func (d *demo) admin() string { return "unix/" + filepath.Join(d.dir, "admin.sock") }

// register opens an account at WeChat Pay, and gets its certificate.
func (d *demo) register(merchant wepaytest.Merchant) (wepaytest.Credential, error) {
	if err := d.wechat.AddMerchant(merchant); err != nil {
		return wepaytest.Credential{}, err
	}
	return d.wechat.Issue(merchant.MchID)
}

func startCaddy(config string) error {
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(config), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return fmt.Errorf("adapting the Caddyfile: %w", err)
	}
	if err := caddy.Load(adapted, true); err != nil {
		return fmt.Errorf("starting Caddy: %w", err)
	}
	return nil
}

// newSecret makes a secret of Standard Webhooks.
func newSecret() string {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // it never fails
	return "whsec_" + base64.StdEncoding.EncodeToString(secret)
}

func localAddress(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// freeAddress returns an address of this machine that Caddy can listen on: with
// the port given, else one below those that systems give out themselves, so
// that no connection made meanwhile takes it.
func freeAddress(port int) (string, error) {
	candidates := []int{port}
	if port == 0 {
		candidates = make([]int, 100)
		for i := range candidates {
			candidates[i] = 20000 + mathrand.IntN(10000)
		}
	}
	var failed error
	for _, port := range candidates {
		listener, err := net.Listen("tcp", localAddress(port))
		if err == nil {
			return listener.Addr().String(), listener.Close()
		}
		failed = err
	}
	return "", failed
}

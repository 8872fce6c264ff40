package e2e_test

import (
	"crypto/aes"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// refunded refunds 200 fen of an order that is placed and paid for that, to be
// told of at a route.
func (env *environment) refunded(m *merchant, id, route string) (refundID string) {
	env.t.Helper()
	env.paid(m, id, map[string]any{"merchant": m.name})
	request := m.refund(id, "r-"+id, 200)
	request["refund_desc"] = "太大 <&>"
	if route != "" {
		request["notify_url"] = env.site + "/apis/v1/wepay/" + route
	}
	return env.get("refund", request)["refund_id"]
}

// finish ends a refund, of which WeChat then tells.
func (env *environment) finish(m *merchant, id, status string, options ...wepaytest.PayOption) *wepaytest.Delivery {
	env.t.Helper()
	delivery, err := env.wechat.FinishRefund(m.mchID, "r-"+id, status, options...)
	if err != nil || delivery == nil {
		env.t.Fatalf("nobody was told of the refund of %s: %v", id, err)
	}
	return delivery
}

// each has every block of a text encrypted or decrypted with a merchant's key.
func each(t *testing.T, m *merchant, text []byte, encrypt bool) []byte {
	t.Helper()
	block, err := aes.NewCipher(fmt.Appendf(nil, "%x", md5.Sum([]byte(m.key))))
	if err != nil || len(text)%aes.BlockSize != 0 {
		t.Fatalf("%d bytes: %v", len(text), err)
	}
	var out []byte
	for one := range slices.Chunk(text, aes.BlockSize) {
		done := make([]byte, aes.BlockSize)
		if encrypt {
			block.Encrypt(done, one)
		} else {
			block.Decrypt(done, one)
		}
		out = append(out, done...)
	}
	return out
}

// sealed is a refund notification about what a text says.
func sealed(t *testing.T, m *merchant, text string) string {
	t.Helper()
	padding := aes.BlockSize - len(text)%aes.BlockSize
	text += strings.Repeat(string(rune(padding)), padding)
	return fmt.Sprintf("<xml><return_code>SUCCESS</return_code><appid>%s</appid><mch_id>%s</mch_id><nonce_str>n</nonce_str><req_info>%s</req_info></xml>",
		m.appID, m.mchID, base64.StdEncoding.EncodeToString(each(t, m, []byte(text), true)))
}

// opened is what a refund notification says, all of it in one.
func opened(t *testing.T, m *merchant, body []byte) (fields map[string]string, inner string) {
	t.Helper()
	fields = readXML(t, body)
	text, err := base64.StdEncoding.DecodeString(fields["req_info"])
	if err != nil {
		t.Fatal(err)
	}
	text = each(t, m, text, false)
	text = text[:len(text)-int(text[len(text)-1])]
	delete(fields, "req_info")
	maps.Copy(fields, readXML(t, text))
	return fields, string(text)
}

// confirmable is what of a refund notification WeChat says again when it is
// asked: what nobody signed and no query tells is not handed over, nor a
// sub_appid that the configuration does not have.
func confirmable(t *testing.T, m *merchant, body []byte) map[string]string {
	t.Helper()
	fields, _ := opened(t, m, body)
	maps.DeleteFunc(fields, func(name, value string) bool {
		return value == "" || name == "sub_appid" && value != appFirst || name == "nonce_str" || name == "refund_request_source" || name == "a_field_of_tomorrow"
	})
	return fields
}

// checkRefundCallback looks at the one callback there was, which is to hold
// what the notification truly says, flat.
func checkRefundCallback(t *testing.T, env *environment, m *merchant, delivery *wepaytest.Delivery, path string) (webhookID string) {
	t.Helper()
	got, fields := env.deliveredOnce()
	if want := confirmable(t, m, delivery.Body()); !maps.Equal(fields, want) || fields["refund_id"] == "" || fields["mch_id"] != m.mchID {
		t.Errorf("the order service got\n%v\nwants\n%v", fields, want)
	}
	if got.path != path {
		t.Errorf("the callback came to %s, wants %s", got.path, path)
	}
	return got.header.Get("webhook-id")
}

// Refunds are told where refunds are to be told, whichever route WeChat tells
// them at, and payments where payments are.
func TestRefundNotification(t *testing.T) {
	env, shop, plain := newEnvironment(t), newMerchant("shop", 1), newMerchant("plain", 2)
	plain.signType = "HMAC-SHA256"
	l := env.stalls(stall{shop, []string{"cb_refund_notify_url " + env.orders.URL + "/refunded/shop"}}, stall{plain, nil})
	env.serve(l)
	ids := make(map[string]bool)
	for _, m := range []*merchant{shop, plain} {
		path := map[*merchant]string{shop: "/refunded/shop", plain: "/paid/plain"}[m]
		for i, route := range []string{"refund_notify", "refund_notify/" + m.name, "pay_notify", "pay_notify/" + m.name} {
			t.Run(m.name+" at "+route, func(t *testing.T) {
				env := env.in(t)
				id := fmt.Sprintf("order-%s-%d", m.name, i)
				env.refunded(m, id, route)
				delivery := env.finish(m, id, wepaytest.RefundSuccess, wepaytest.WithField("a_field_of_tomorrow", "明天 <&>"))
				checkTaken(t, delivery)
				webhookID := checkRefundCallback(t, env, m, delivery, path)
				if !strings.HasPrefix(webhookID, "evt_") || ids[webhookID] {
					t.Errorf("the event is %q", webhookID)
				}
				ids[webhookID] = true
			})
		}
	}
	t.Run("as the merchant platform says", func(t *testing.T) {
		env := env.in(t)
		account := wepaytest.Merchant{MchID: shop.mchID, AppIDs: []string{shop.appID}, Key: shop.key, RefundNotifyURL: env.site + "/apis/v1/wepay/refund_notify"}
		if err := env.wechat.AddMerchant(account); err != nil {
			t.Fatal(err)
		}
		env.refunded(shop, "order-platform", "")
		delivery := env.finish(shop, "order-platform", wepaytest.RefundClosed)
		checkTaken(t, delivery)
		checkRefundCallback(t, env, shop, delivery, "/refunded/shop")
	})
	t.Run("a payment at refund_notify", func(t *testing.T) {
		env := env.in(t)
		env.get("get_pay_request_params", shop.order("order-paid"))
		delivery := env.pay(shop, "order-paid", wepaytest.Held())
		if a := env.post("refund_notify", string(delivery.Body())); a.body != taken {
			t.Errorf("WeChat hears %s", a.body)
		}
		checkCallback(t, env, shop, delivery)
	})
}

// One outcome is one event however often it is told, and another outcome is
// another; what was not taken is sent again.
func TestRefundNotificationAgain(t *testing.T) {
	env, shop := newStall(t)
	env.refunded(shop, "order-1", "refund_notify")
	env.orders.answers(replying(http.StatusOK, `{"errcode":1}`))
	delivery := env.finish(shop, "order-1", wepaytest.RefundChanged)
	if got := string(delivery.Attempts()[0].Answer); got != refused("not_taken") {
		t.Errorf("WeChat got %s", got)
	}
	stuck := checkRefundCallback(t, env, shop, delivery, "/paid/shop")
	env.orders.answers(nil)
	env.clock.Advance(15 * time.Second)
	checkTaken(t, delivery)
	if again := checkRefundCallback(t, env, shop, delivery, "/paid/shop"); again != stuck {
		t.Errorf("the event was %s and then %s", stuck, again)
	}
	if err := delivery.Repeat(); err != nil {
		t.Fatal(err)
	}
	if again := checkRefundCallback(t, env, shop, delivery, "/paid/shop"); again != stuck {
		t.Errorf("the event was %s and then %s", stuck, again)
	}
	delivery = env.finish(shop, "order-1", wepaytest.RefundSuccess)
	checkTaken(t, delivery)
	if then := checkRefundCallback(t, env, shop, delivery, "/paid/shop"); then == stuck {
		t.Errorf("two outcomes are one event %s", then)
	}
}

// A refund notification has no signature: what does not open with the
// merchant's key to a refund is FAIL, WeChat is not asked, and nobody hears of
// it.
func TestForgedRefunds(t *testing.T) {
	env, shop, other := newEnvironment(t), newMerchant("shop", 1), newMerchant("other", 2)
	env.serve(env.stalls(stall{shop, nil}, stall{other, nil}))
	env.refunded(shop, "order-1", "refund_notify")
	delivery := env.finish(shop, "order-1", wepaytest.RefundSuccess, wepaytest.Held())
	genuine := string(delivery.Body())
	_, inner := opened(t, shop, delivery.Body())
	info := readXML(t, []byte(genuine))["req_info"]
	with := func(reqInfo string) string { return strings.Replace(genuine, info, reqInfo, 1) }
	said := func(old, by string) string {
		if !strings.Contains(inner, old) {
			t.Fatalf("%q does not stand in %s", old, inner)
		}
		return sealed(t, shop, strings.ReplaceAll(inner, old, by))
	}
	bytes, err := base64.StdEncoding.DecodeString(info)
	if err != nil {
		t.Fatal(err)
	}
	moved := slices.Concat(bytes[16:32], bytes[:16], bytes[32:])
	const wrong = "wrong_signature"
	for _, test := range []struct{ name, body, reason string }{
		{"sealed with another key", strings.ReplaceAll(sealed(t, other, inner), other.mchID, shop.mchID), "foreign"},
		{"sealed with another key, for this appid", strings.NewReplacer(other.mchID, shop.mchID, other.appID, shop.appID).Replace(sealed(t, other, inner)), wrong},
		{"of another merchant here", strings.NewReplacer(shop.mchID, other.mchID, shop.appID, other.appID).Replace(genuine), wrong},
		{"of a merchant elsewhere", strings.ReplaceAll(genuine, shop.mchID, "1999999999"), "foreign"},
		{"with blocks moved", with(base64.StdEncoding.EncodeToString(moved)), wrong},
		{"cut by a block", with(base64.StdEncoding.EncodeToString(bytes[:len(bytes)-16])), wrong},
		{"cut within a block", with(base64.StdEncoding.EncodeToString(bytes[:len(bytes)-1])), wrong},
		{"with no base64", with("!" + info), wrong},
		{"with nothing in it", with(""), "unsigned"},
		{"in the clear", with(base64.StdEncoding.EncodeToString([]byte(inner))), wrong},
		{"without req_info", strings.Replace(genuine, "req_info>", "req_inf>", 2), "unsigned"},
		{"with a field twice", strings.Replace(genuine, "<xml>", "<xml><mch_id>1</mch_id>", 1), "malformed"},
		{"return_code FAIL", strings.Replace(genuine, "SUCCESS", "FAIL", 1), "malformed"},
		{"no refund_id", said("refund_id>", "refund_no>"), wrong},
		{"one field twice", said("</root>", "<refund_fee>1</refund_fee></root>"), wrong},
		{"another root", said("root>", "xml>"), wrong},
		{"no XML", sealed(t, shop, `{"refund_status":"SUCCESS"}`), wrong},
	} {
		t.Run(test.name, func(t *testing.T) {
			env := env.in(t)
			for _, route := range []string{"refund_notify", "refund_notify/shop", "pay_notify"} {
				a := env.post(route, test.body, "Content-Type", "text/xml")
				if route == "refund_notify/shop" && test.name == "of another merchant here" {
					checkRefused(t, env, a, "foreign")
					continue
				}
				checkRefused(t, env, a, test.reason)
			}
			if n := len(env.wechat.Requests("/pay/refundquery")); n > 0 {
				t.Errorf("WeChat was asked %d times", n)
			}
		})
	}
	t.Run("the genuine one at another's door", func(t *testing.T) {
		env := env.in(t)
		for _, route := range []string{"refund_notify/other", "refund_notify/nobody", "refund_notify/shop/shop"} {
			checkRefused(t, env, env.post(route, genuine), "foreign")
		}
	})
	t.Run("the genuine one", func(t *testing.T) {
		env := env.in(t)
		for _, body := range []string{genuine, sealed(t, shop, inner)} {
			if a := env.post("refund_notify/shop", body); a.body != taken || len(env.orders.forget()) != 1 {
				t.Errorf("WeChat hears %s", a.body)
			}
		}
	})
	t.Run("what the log keeps", func(t *testing.T) {
		log, err := os.ReadFile(filepath.Join(env.dir, "caddy.log"))
		if err != nil {
			t.Fatal(err)
		}
		for _, kept := range []string{info[:40], "out_refund_no", "招商银行", shop.key} {
			if strings.Contains(string(log), kept) {
				t.Errorf("the log says %s", kept)
			}
		}
	})
}

package reconcile_test

import (
	"bytes"
	"context"
	"crypto/rsa"
	"io/fs"
	"net/http"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/recovery"
	"github.com/windsome/caddy-wepay/caddymodule/recovery/reconcile"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/caddymodule/store/storetest"
	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// noFiles are platform certificates that nobody keeps.
type noFiles struct{}

func (noFiles) Store(context.Context, string, []byte) error { return nil }
func (noFiles) Load(context.Context, string) ([]byte, time.Time, error) {
	return nil, time.Time{}, fs.ErrNotExist
}

// simulated is a shop at WeChat's simulator, over either API, direct or a partner.
type simulated struct {
	*testing.T
	weChat *wepaytest.Server
	clock  *wepaytest.FakeClock
	*wepay.Merchant
	gateway recovery.Client
	store   *storetest.Memory
	ledger  *recovery.Ledger
	*reconcile.Reconciler
}

func newSimulated(t *testing.T, api wepay.API, partner bool) *simulated {
	t.Helper()
	s := &simulated{T: t, clock: wepaytest.NewFakeClock(noon), store: storetest.NewMemory()}
	var err error
	if s.weChat, err = wepaytest.NewServer(wepaytest.WithClock(s.clock)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.weChat.Close)
	account := wepaytest.Merchant{MchID: mchID, AppIDs: []string{appID}, Key: "Kd7q2Vn0sX9tB4mHc6Zr1Lw8Fy3Pj5Ga", APIv3Key: "v3v3v3v3v3v3v3v3v3v3v3v3v3v3v3v3"}
	s.Merchant = &wepay.Merchant{
		Name: "shop", Env: wepay.NATIVE, Type: wepay.Direct, API: api, AppID: appID, MchID: mchID, PartnerKey: account.Key, SignType: wepay.MD5,
		APIv3Key: account.APIv3Key, NotifyURL: "https://pay.example.cn/apis/v1/wepay/pay_notify", CbNotifyURL: "http://orders", Endpoints: []string{s.weChat.URL},
	}
	if partner {
		account.SubMerchants = []wepaytest.SubMerchant{{MchID: subMchID}}
		s.Merchant.Type, s.Merchant.SubMchID, s.Merchant.SubMchIDs = wepay.Partner, subMchID, []string{wepay.AnySubMerchant}
	}
	if err := s.weChat.AddMerchant(account); err != nil {
		t.Fatal(err)
	}
	credential, err := s.weChat.Issue(mchID)
	if err != nil {
		t.Fatal(err)
	}
	s.Certificate, s.PrivateKey, s.MchSerial = &credential.Certificate, credential.Certificate.PrivateKey.(*rsa.PrivateKey), credential.Serial
	s.connect(api)
	return s
}

func (s *simulated) connect(api wepay.API) {
	s.Helper()
	transport := wepay.NewTransport(s.Merchant)
	transport.TLSClientConfig.RootCAs = s.weChat.RootCAs()
	s.Cleanup(transport.CloseIdleConnections)
	options := wepay.ClientOptions{Transport: transport, Now: s.clock.Now, Timeout: time.Minute}
	s.gateway = apiv2.NewClient(s.Merchant, options)
	if api == wepay.V3 {
		s.gateway = apiv3.NewClient(s.Merchant, apiv3.NewKeyRing(s.Merchant, noFiles{}, options), options)
	}
	if err := s.store.Open(s.Context(), store.Options{Now: s.clock.Now}); err != nil {
		s.Fatal(err)
	}
	s.ledger = &recovery.Ledger{Store: s.store, Now: s.clock.Now, Schedule: recovery.DefaultSchedule, CallbackURL: func(string, wepay.Kind) string { return "http://orders" }}
	r := recovery.New(recovery.Config{
		Ledger: s.ledger, Logger: zap.NewNop(), Asked: func(*store.Order, string) {}, Learned: func(recovery.Taken) {},
		Accounts: map[string]*recovery.Account{"shop": {Merchant: s.Merchant, Client: func(wepay.API) (recovery.Client, error) { return s.gateway, nil }}},
	})
	s.Reconciler = reconcile.New(reconcile.Config{
		Store: s.store, Recovery: r, Logger: zap.NewNop(), Storage: &reports{all: make(map[string][]byte)},
		Merchants: []reconcile.Merchant{{Merchant: s.Merchant, Download: s.gateway.Download}},
	})
}

// does makes a call that is recorded.
func (s *simulated) does(op wepay.Operation, pairs ...string) {
	s.Helper()
	var in wepay.Fields
	for i := 0; i < len(pairs); i += 2 {
		in.Set(pairs[i], pairs[i+1])
	}
	r, err := s.ledger.Record(s.Context(), s.Merchant, op, s.API, in, http.Header{})
	if err != nil {
		s.Fatal(err)
	}
	reply, err := s.gateway.Do(s.Context(), op, in)
	if err := s.ledger.Answer(s.Context(), r, reply, err); err != nil {
		s.Fatal(err)
	}
	if err != nil {
		s.Fatal(err)
	}
}

// Over either API, a merchant's or a partner's: what was paid and refunded, and lost its
// notification, is found in the bill as WeChat writes it and handed over.
func TestSimulated(t *testing.T) {
	for _, api := range []wepay.API{wepay.V2, wepay.V3} {
		for kind, partner := range map[string]bool{"direct": false, "partner": true} {
			t.Run(string(api)+" "+kind, func(t *testing.T) {
				s := newSimulated(t, api, partner)
				s.does(wepay.PlaceOrder, "out_trade_no", "PAID-1", "total_fee", "1200", "body", "袜子, 一双", "spbill_create_ip", "203.0.113.7")
				s.does(wepay.PlaceOrder, "out_trade_no", "NEVER-PAID", "total_fee", "100", "body", "袜子", "spbill_create_ip", "203.0.113.7")
				if _, err := s.weChat.Pay(mchID, "PAID-1", wepaytest.Held()); err != nil {
					t.Fatal(err)
				}
				s.does(wepay.Refund, "out_trade_no", "PAID-1", "out_refund_no", "BACK-1", "total_fee", "1200", "refund_fee", "200")
				if _, err := s.weChat.FinishRefund(mchID, "BACK-1", "SUCCESS", wepaytest.Held()); err != nil {
					t.Fatal(err)
				}
				s.clock.Advance(22*time.Hour + 15*time.Minute)
				r, err := s.ByHand(t.Context(), mchID, date)
				if err != nil {
					t.Fatal(err)
				}
				w := &world{T: t}
				if r.Paid.Fen != 1200 || r.Refunded.Fen != 200 || r.Others.Count != 0 || r.OthersRefunded.Count != 0 || r.Fees != 6000 {
					t.Errorf("got %+v", r)
				}
				w.check(r, "paid_not_handed_over PAID-1 1200/1200/1200 refunding waiting handed_over",
					"refund_not_handed_over BACK-1 200/200/200 refunded waiting handed_over")
				events, _, err := s.store.List(t.Context(), store.Filter{}, "", 10)
				if err != nil || len(events) != 2 || !bytes.Contains(events[0].Payload, []byte("PAID-1")) {
					t.Errorf("the events are %+v (%v)", events, err)
				}
				if err := s.weChat.DelayBills(mchID, true); err != nil {
					t.Fatal(err)
				}
				if _, err := s.ByHand(t.Context(), "shop", date); err == nil {
					t.Error("a bill in the making was taken")
				}
			})
		}
	}
}

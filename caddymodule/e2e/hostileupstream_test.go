package e2e_test

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// besieged is an environment in which every server that Caddy asks is hostile: WeChat's,
// and the order services. For each misbehaviour there are merchants whose servers
// all do that.
type besieged struct {
	*environment
	names   []string // of the misbehaviours
	servers *hostileServer
	opening *merchant // whose notifications open with the merchants' APIv3 key
}

// The merchants' names are of a kind and a misbehaviour.
const (
	oldKind     = "old-"     // of API v2
	newKind     = "new-"     // of API v3, with WeChat's public key
	certKind    = "cert-"    // of API v3, which has to fetch certificates
	sandboxKind = "sandbox-" // of API v2's sandbox, which has to fetch a key
)

const shortTimes = "call_timeout 400ms\ncallback_timeout 400ms\n"

// besiege registers nobody but the one whose certificate all present.
func besiege(t *testing.T, names []string) *besieged {
	t.Helper()
	b := &besieged{environment: newEnvironment(t), names: names, opening: moving("opening", 99, "v3")}
	b.register(b.opening)
	b.servers = newHostileServer(t, b.does)
	return b
}

// does finds the misbehaviour that a request asks for by its path, or by its
// merchant where all have one server.
func (b *besieged) does(r *http.Request) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	id := r.URL.Query().Get("appid")
	if first == "risk" {
		var asked struct {
			MchID string `xml:"mch_id"`
		}
		if err := xml.NewDecoder(r.Body).Decode(&asked); err != nil {
			b.t.Error(err)
		}
		id = asked.MchID
	}
	for n, name := range b.names {
		if first == name || id == appID(n) || id == mchID(n) {
			return name
		}
	}
	b.t.Errorf("nobody told what to do at %s", r.URL)
	return "silence"
}

func appID(n int) string { return fmt.Sprintf("wx00000000000000%02d", n) }
func mchID(n int) string { return fmt.Sprintf("19000099%02d", n) }

// merchants are the blocks of all of them.
func (b *besieged) merchants() string {
	var all strings.Builder
	file := b.dir + "/opening "
	for n, name := range b.names {
		common := fmt.Sprintf("\tapp_id %s\n\tmch_id %s\n\tendpoint %[3]s/%[4]s\n\tcb_notify_url %[3]s/%[4]s/paid\n\tnotify_url http://m.example.cn/\n\tpayouts\n\tpassthrough\n",
			appID(n), mchID(n), b.servers.URL, name)
		pair := fmt.Sprintf("\tcert %q %q\n", file+"cert.pem", file+"key.pem")
		second := strings.NewReplacer("app_id wx0", "app_id wx1", "mch_id 19000099", "mch_id 19000098")
		third := strings.NewReplacer("app_id wx0", "app_id wx2", "mch_id 19000099", "mch_id 19000097")
		fourth := strings.NewReplacer("app_id wx0", "app_id wx3", "mch_id 19000099", "mch_id 19000096")
		v3 := "\tapi v3\n\tapiv3_key " + b.opening.v3.key + "\n"
		block := func(kind, lines string) { fmt.Fprintf(&all, "merchant %s%s {\n%s%s}\n", kind, name, lines, pair) }
		block(oldKind, common+"\tpartner_key "+b.opening.key+"\n\tapp_secret "+appSecret+"\n")
		block(newKind, second.Replace(common)+v3+fmt.Sprintf("\tpublic_key %s %q\n", b.opening.v3.id, file+"pub_key.pem"))
		block(certKind, third.Replace(common)+v3)
		block(sandboxKind, fourth.Replace(common)+"\tpartner_key "+b.opening.key+"\n\tsandbox\n")
	}
	return all.String() + fmt.Sprintf("risk_endpoint %[1]s/risk\nlogin_endpoint %[1]s/login\n", b.servers.URL)
}

// An ask is one of the ways in which Caddy can be made to ask others.
type ask struct {
	name string
	send func(ctx context.Context, b *besieged, n int, misbehaviour string) (*http.Request, error)
}

// operationOf asks for an operation of a merchant's.
func operationOf(kind, route string, request map[string]any) ask {
	return ask{kind + route, func(ctx context.Context, b *besieged, _ int, misbehaviour string) (*http.Request, error) {
		all := map[string]any{"merchant": kind + misbehaviour}
		for name, value := range request {
			all[name] = value
		}
		return http.NewRequestWithContext(ctx, http.MethodPost, b.site+"/apis/v1/wepay/"+route, strings.NewReader(toJSON(b.t, all)))
	}}
}

// everyAsk is all of them.
func everyAsk() []ask {
	type object = map[string]any
	order, day := object{"out_trade_no": "o1"}, object{"bill_date": "20260101"}
	refund := object{"out_trade_no": "o1", "out_refund_no": "r1", "total_fee": 2, "refund_fee": 1}
	json := object{"bill_date": "20260101", "format": "json"}
	return []ask{
		operationOf(oldKind, "order_query", order),
		operationOf(oldKind, "refund", refund),
		operationOf(oldKind, "download_bill", day),
		operationOf(oldKind, "download_bill", json),
		operationOf(oldKind, "red_packet_query", object{"mch_billno": "1", "bill_type": "MCHT"}),
		operationOf(oldKind, "pay_bank", bankPayout("bank1001")),
		operationOf(oldKind, "openid", object{"code": "c1"}),
		operationOf(oldKind, "get_sign_key", nil),
		operationOf(oldKind, "v2/pay/orderquery", order),
		operationOf(oldKind, "v2/secapi/pay/refund", refund),
		{"payment over API v2", notifyV2(oldKind)},

		operationOf(newKind, "order_query", order),
		operationOf(newKind, "refund", refund),
		operationOf(newKind, "download_bill", day),
		{"file", passing(http.MethodGet, "/v3/billdownload/file?token=1", "", "")},
		{"passed on", passing(http.MethodPost, "/v3/refund/domestic/refunds", "application/json", `{"out_trade_no":"o1","out_refund_no":"r9","amount":{"refund":1,"total":2}}`)},
		operationOf(newKind, "combine_order", combinedOrder()),
		operationOf(newKind, "transfer", transferV3()),
		{"upload", upload},

		{"payment over API v3", notifyV3},
		operationOf(sandboxKind, "order_query", order),
		{"payment in the sandbox", notifyV2(sandboxKind)},
	}
}

func combinedOrder() map[string]any {
	part := map[string]any{"out_trade_no": "part-1", "total_fee": 1, "body": "茶", "attach": "a"}
	return map[string]any{"combine_out_trade_no": "c1", "sub_orders": []any{part}, "openid": openID}
}

func transferV3() map[string]any {
	scene := []any{map[string]any{"info_type": "活动名称", "info_content": "新会员有礼"}, map[string]any{"info_type": "奖励说明", "info_content": "注册会员抽奖一等奖"}}
	return map[string]any{
		"partner_trade_no": "t1", "openid": openID, "check_name": "NO_CHECK", "amount": 100, "desc": "报销",
		"transfer_scene_id": "1000", "transfer_scene_report_infos": scene,
	}
}

func notifyV2(kind string) func(context.Context, *besieged, int, string) (*http.Request, error) {
	return func(ctx context.Context, b *besieged, n int, misbehaviour string) (*http.Request, error) {
		payer := *b.opening
		payer.appID, payer.mchID = appID(n), mchID(n)
		if kind == sandboxKind {
			payer.appID, payer.mchID = "wx3"+payer.appID[3:], "19000096"+payer.mchID[8:]
		}
		body := payer.notification(b.t, "o1")
		return http.NewRequestWithContext(ctx, http.MethodPost, b.site+"/apis/v1/wepay/pay_notify/"+kind+misbehaviour, strings.NewReader(body))
	}
}

// notifyV3 names a certificate that has to be fetched.
func notifyV3(ctx context.Context, b *besieged, n int, misbehaviour string) (*http.Request, error) {
	d, err := b.wechat.Notify(b.opening.mchID, wepaytest.Event{
		URL: b.site, Type: "TRANSACTION.SUCCESS", OriginalType: "transaction", Resource: b.opening.paid3(fmt.Sprintf("order-%d", n)),
	}, wepaytest.Held())
	if err != nil {
		return nil, err
	}
	header, err := d.Header()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.site+"/apis/v1/wepay/pay_notify/"+certKind+misbehaviour, bytes.NewReader(d.Body()))
	if err != nil {
		return nil, err
	}
	req.Header = header
	return req, nil
}

func passing(method, path, contentType, body string) func(context.Context, *besieged, int, string) (*http.Request, error) {
	return func(ctx context.Context, b *besieged, _ int, misbehaviour string) (*http.Request, error) {
		separator := "?"
		if strings.Contains(path, "?") {
			separator = "&"
		}
		req, err := http.NewRequestWithContext(ctx, method, b.site+"/apis/v1/wepay"+path+separator+"merchant="+newKind+misbehaviour, strings.NewReader(body))
		if err == nil && contentType != "" {
			req.Header.Set("Content-Type", contentType)
		}
		return req, err
	}
}

// upload is of more than connections take without being read.
func upload(ctx context.Context, b *besieged, n int, misbehaviour string) (*http.Request, error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for name, text := range map[string]string{"meta": `{"filename":"a.jpg","sha256":"a"}`, "file": strings.Repeat("x", 4<<20)} {
		part, err := form.CreatePart(textproto.MIMEHeader{"Content-Disposition": {fmt.Sprintf("form-data; name=%q", name)}})
		if err != nil {
			return nil, err
		}
		if _, err := io.WriteString(part, text); err != nil {
			return nil, err
		}
	}
	if err := form.Close(); err != nil {
		return nil, err
	}
	return passing(http.MethodPost, "/v3/merchant/media/upload", form.FormDataContentType(), body.String())(ctx, b, n, misbehaviour)
}

// lasting are asks that may last longer than a call: files are given their time.
// Whoever asked for them has them end.
var lasting = map[string]bool{"file": true, "upload": true, oldKind + "download_bill": true, newKind + "download_bill": true}

var (
	errNotAsked = errors.New("refused before anybody was asked")
	errcode     = regexp.MustCompile(`"errcode":(\d+)`)
)

// isAsked reads an answer to the end, which has to be of somebody who was asked.
func isAsked(resp *http.Response) error {
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if code := errcode.FindSubmatch(text); code != nil && string(code[1]) != "40000" {
		return fmt.Errorf("%w: %s", errNotAsked, text)
	}
	return err
}

// Whatever others do on a connection, whoever asked has an answer soon, and the
// connection is closed.
func TestHostileUpstreams(t *testing.T) {
	b := besiege(t, names())
	before := goleak.IgnoreCurrent()
	if err := b.load(layout{options: shortTimes + b.merchants()}); err != nil {
		t.Fatal(err)
	}
	const patience = 10 * time.Second
	var asks errgroup.Group
	asks.SetLimit(32)
	for n, misbehaviour := range b.names {
		for _, ask := range everyAsk() {
			if ask.name == "upload" && !strings.HasPrefix(misbehaviour, "s") {
				continue // it takes its time
			}
			asks.Go(func() error {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				if lasting[ask.name] {
					time.AfterFunc(time.Second, cancel)
				}
				req, err := ask.send(ctx, b, n, misbehaviour)
				if err != nil {
					return err
				}
				began := time.Now()
				resp, err := b.web.Do(req)
				if err == nil {
					err = isAsked(resp)
				}
				if errors.Is(err, errNotAsked) {
					t.Errorf("%s, %s: %v", ask.name, misbehaviour, err)
				}
				if took := time.Since(began); took > patience/2 {
					t.Errorf("%s, %s: it took %v (%v)", ask.name, misbehaviour, took, err)
				}
				return nil
			})
		}
	}
	if err := asks.Wait(); err != nil {
		t.Fatal(err)
	}
	b.servers.untilClosed(t, "connected", "more-than-said", "unmodified", "no-content", "no-reset", "redirect", "proxied")
	if err := caddy.Stop(); err != nil {
		t.Error(err)
	}
	b.web.CloseIdleConnections()
	b.servers.untilClosed(t)
	goleak.VerifyNone(t, before)
}

package natsoutbox

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// fleet is three Caddys at three NATS servers, each a process of its own, and
// their order service, whose URL tells which Caddy it is called by.
type fleet struct {
	testing.TB
	dir                string
	ports, admins      []int // the Caddys'
	nodePorts, cluster []int // the NATS servers'
	caddys, nodes      []*exec.Cmd
	orders             *httptest.Server
	web                *http.Client

	holding atomic.Bool   // the order service answers the third Caddy
	killed  chan struct{} // only when that is killed

	mu    sync.Mutex
	held  int
	heard map[string][]hearing // by webhook-id
}

// hearing is that the order service was told of an event by a Caddy, which may
// have been killed before it noted that.
type hearing struct {
	caddy  string
	doomed bool
}

const fleetKey = "0123456789abcdefghijklmnopqrstuv"

func startFleet(t testing.TB) *fleet {
	t.Helper()
	f := &fleet{
		TB: t, dir: t.TempDir(), caddys: make([]*exec.Cmd, 3), nodes: make([]*exec.Cmd, 3), heard: make(map[string][]hearing), killed: make(chan struct{}),
		ports: freePorts(t, 3), admins: freePorts(t, 3), nodePorts: freePorts(t, 3), cluster: freePorts(t, 3),
		web: &http.Client{Transport: new(http.Transport)},
	}
	t.Cleanup(f.web.CloseIdleConnections)
	f.orders = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hold := f.holding.Load() && r.URL.Path == "/2"
		f.hear(r.Header.Get("webhook-id"), r.URL.Path, hold)
		if hold {
			<-f.killed
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(f.orders.Close)
	for i := range f.nodes {
		f.startNode(i)
	}
	for i := range f.caddys {
		f.startCaddy(i)
	}
	for i := range f.caddys {
		f.awaitCaddy(i)
	}
	return f
}

func (f *fleet) hear(id, caddy string, held bool) {
	doomed := caddy == "/2"
	select {
	case <-f.killed:
		doomed = false
	default:
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard[id] = append(f.heard[id], hearing{caddy, doomed})
	if held {
		f.held++
	}
}

// start starts a process of the fleet.
func (f *fleet) start(kind, log string, args ...string) *exec.Cmd {
	f.Helper()
	return startProcess(f, kind, filepath.Join(f.dir, log), args...)
}

func (f *fleet) startNode(i int) {
	f.Helper()
	var routes []string
	for _, port := range f.cluster {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", port))
	}
	f.nodes[i] = f.start("nats", fmt.Sprintf("nats%d.log", i),
		"-a", "127.0.0.1", "-p", fmt.Sprint(f.nodePorts[i]), "-n", fmt.Sprintf("n%d", i), "-js", "-sd", filepath.Join(f.dir, fmt.Sprintf("nats%d", i)),
		"-cluster_name", "c", "-cluster", routes[i], "-routes", strings.Join(routes, ","))
}

func (f *fleet) urls() (urls []string) {
	for _, port := range f.nodePorts {
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", port))
	}
	return urls
}

// caddyfile is the config of a Caddy.
func (f *fleet) caddyfile(i, workers int) string {
	return fmt.Sprintf(`{
	admin 127.0.0.1:%d
	persist_config off
	auto_https off
	storage file_system %s
	wepay {
		merchant shop {
			app_id wx9af096e5f111831a
			mch_id 1525312341
			partner_key %s
			callback_secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw
			notify_url https://m.example.cn/apis/v1/wepay/pay_notify
			cb_notify_url %s/%d
		}
		outbox nats {
			url %s
			workers %d
		}
	}
}
http://127.0.0.1:%d {
	bind 127.0.0.1
	wepay {
		allow 127.0.0.1
	}
	respond "the rest of the site"
}
`, f.admins[i], filepath.Join(f.dir, fmt.Sprintf("caddy%d", i)), fleetKey, f.orders.URL, i, strings.Join(f.urls(), " "), workers, f.ports[i])
}

func (f *fleet) startCaddy(i int) {
	f.Helper()
	config := write(f, "Caddyfile", []byte(f.caddyfile(i, 16)))
	f.caddys[i] = f.start("caddy", fmt.Sprintf("caddy%d.log", i), "run", "--config", config, "--adapter", "caddyfile")
}

func (f *fleet) awaitCaddy(i int) {
	f.Helper()
	f.Cleanup(func() {
		if f.Failed() {
			text, _ := os.ReadFile(filepath.Join(f.dir, fmt.Sprintf("caddy%d.log", i)))
			f.Logf("caddy %d: %s", i, text[max(0, len(text)-10000):])
		}
	})
	await(f, fmt.Sprintf("caddy %d", i), func() bool {
		text, err := f.send(patience, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", f.ports[i]), "", "")
		return err == nil && text == "the rest of the site"
	})
}

// patience is how long WeChat waits for an answer.
const patience = 5 * time.Second

// send sends a request and returns the answer.
func (f *fleet) send(within time.Duration, method, url, contentType, body string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", contentType)
	response, err := f.web.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("HTTP status %d: %s", response.StatusCode, text)
	}
	return string(text), err
}

// reload gives a Caddy another config.
func (f *fleet) reload(i, workers int) {
	f.Helper()
	if _, err := f.send(time.Minute, http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/load", f.admins[i]), "text/caddyfile", f.caddyfile(i, workers)); err != nil {
		f.Errorf("reloading caddy %d: %v", i, err)
	}
}

// notification is WeChat's of a payment, and the event that it tells of.
func (f *fleet) notification(n int) (text, id string) {
	order := fmt.Sprintf("order-%04d", n)
	fields := wepay.NewFields(map[string]string{
		"appid": "wx9af096e5f111831a", "mch_id": "1525312341", "return_code": "SUCCESS", "result_code": "SUCCESS", "nonce_str": "5K8264ILTKCH16CQ2502SI8ZNMTM67VS",
		"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", "out_trade_no": order, "transaction_id": "42" + order, "trade_type": "JSAPI", "bank_type": "CMC",
		"total_fee": "1200", "cash_fee": "1200", "fee_type": "CNY", "time_end": "20260101120000", "is_subscribe": "N",
	})
	fields.Set("sign", apiv2.Sign(fields, wepay.MD5, fleetKey))
	data, err := apiv2.Encode("xml", fields)
	if err != nil {
		f.Error(err)
	}
	notification := wepay.Notification{Kind: wepay.Payment, Merchant: &wepay.Merchant{MchID: "1525312341"}, Fields: fields}
	return string(data), notification.EventID()
}

// tell tells a Caddy of an event, and reports whether it hears SUCCESS.
func (f *fleet) tell(caddy int, text string) bool {
	answer, err := f.send(patience, http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/apis/v1/wepay/pay_notify", f.ports[caddy]), "text/xml", text)
	return err == nil && strings.Contains(answer, "SUCCESS")
}

// burst has WeChat tell of events until each is acknowledged: each by one Caddy
// after the other, some by all at once. Done is closed when half of them are.
func (f *fleet) burst(n int, half chan<- struct{}) {
	var next, acknowledged atomic.Int64
	var senders sync.WaitGroup
	for range 12 {
		senders.Go(func() {
			for k := int(next.Add(1)); k <= n; k = int(next.Add(1)) {
				text, _ := f.notification(k)
				var more sync.WaitGroup
				for caddy := range f.caddys {
					if k%5 == 0 {
						more.Go(func() { f.tell(caddy, text) })
					}
				}
				more.Wait()
				for try := k; !f.tell(try%3, text); try++ {
					if try > k+100 {
						f.Errorf("order %d is never acknowledged", k)
						return
					}
				}
				if acknowledged.Add(1) == int64(n)/2 {
					close(half)
				}
			}
		})
	}
	senders.Wait()
}

// A Caddy and the server that leads the stream are killed, another Caddy is
// reloaded, all in one burst: what was acknowledged arrives, and once, but for
// what the Caddy had in hand that was killed.
func TestFleet(t *testing.T) {
	f := startFleet(t)
	const n = 2000
	half, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		f.burst(n, half)
	}()
	f.awaitHeard(n / 10)
	f.holding.Store(true)
	await(f, "events in the third Caddy's hands", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.held > 4
	})
	killed := time.Now()
	kill9(f.caddys[2])
	f.holding.Store(false)
	close(f.killed)
	for i := range 10 {
		f.reload(0, 8+i)
	}
	f.startCaddy(2)
	<-half
	o := openOutbox(t, &NATS{URLs: f.urls()})
	kill9(f.nodes[f.leader(o)])
	<-done
	for i := range f.nodes {
		if f.nodes[i].ProcessState != nil {
			f.startNode(i)
		}
	}
	t.Logf("%d events were in the hands of the Caddy that was killed", f.giveBackLeases(o, killed))
	f.awaitHeard(n)
	f.check(n)
}

func (f *fleet) awaitHeard(n int) {
	f.Helper()
	await(f, fmt.Sprintf("%d events", n), func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.heard) >= n
	})
}

// leader is the number of the server that leads the stream.
func (f *fleet) leader(o *NATS) (node int) {
	f.Helper()
	info, err := o.store.events.Info(within(f, lots))
	if err != nil {
		f.Fatalf("asking for the leader: %v", err)
	}
	if _, err := fmt.Sscanf(info.Cluster.Leader, "n%d", &node); err != nil {
		f.Fatalf("the leader is %q", info.Cluster.Leader)
	}
	return node
}

// giveBackLeases waits until the only events that still wait are in the hands of
// the Caddy that was killed, and has those leases end before their time.
func (f *fleet) giveBackLeases(o *NATS, killed time.Time) (n int) {
	f.Helper()
	// What a Caddy was given as the leader died may wait for a lease's end that
	// nobody heard of, or until it is found to be overlooked.
	const longest = 2 * time.Minute
	ctx := within(f, longest+time.Minute)
	held := func() (records []*record, others int) {
		subjects, err := o.store.subjects(ctx, o.stream.waiting(payments))
		if err != nil {
			f.Fatalf("listing what waits: %v", err)
		}
		for _, subject := range subjects {
			msg, err := o.store.events.GetLastMsgForSubject(ctx, subject)
			if err != nil {
				others++ // it has just been settled
				continue
			}
			r, err := o.store.decode(msg.Subject, msg.Data, msg.Sequence)
			if err != nil {
				f.Fatal(err)
			}
			if msg.Time.After(killed) || r.Leased.IsZero() {
				others++
			}
			records = append(records, r)
		}
		return records, others
	}
	var records []*record
	awaitLong(f, longest, "the end of all that is in no dead hands", func() bool {
		var others int
		records, others = held()
		return others == 0
	})
	for _, r := range records {
		expected := r.seq
		if err := o.store.write(ctx, &record{Event: r.Event}, expected, 0); err != nil {
			f.Errorf("ending the lease of %s: %v", r.ID, err)
		}
	}
	return len(records)
}

// check says what was heard too often.
func (f *fleet) check(n int) {
	f.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for k := range n {
		_, id := f.notification(k + 1)
		heard := f.heard[id]
		switch {
		case len(heard) == 0:
			f.Errorf("order %d was acknowledged and is never heard", k+1)
		case len(heard) == 2 && heard[0].doomed && !heard[1].doomed:
		case len(heard) > 1:
			f.Errorf("order %d is heard %d times: %v", k+1, len(heard), heard)
		}
	}
}

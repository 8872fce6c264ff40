package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// orderService is a site's own service, as small as one can be that is still
// right: it knows that a callback came from its Caddy by the signature, and a
// repeated event by its webhook-id.
type orderService struct {
	address string
	url     string
	webhook *standardwebhooks.Webhook
	wechat  *wepaytest.Server
	server  *http.Server
	served  chan error

	mu       sync.Mutex
	seen     map[string]bool
	received []callback
	more     chan struct{} // closed when there is another one
}

// callback is what the service was told, once.
type callback struct {
	id      string
	body    []byte
	payment map[string]string
	event   string // its wepay-event, of what came to /event
	source  string // its wepay-source: what Caddy knows it from
}

func startOrderService(address, secret string, wechat *wepaytest.Server) (*orderService, error) {
	webhook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return nil, err
	}
	s := &orderService{
		webhook: webhook,
		wechat:  wechat,
		seen:    make(map[string]bool),
		more:    make(chan struct{}),
	}
	return s, s.start(address)
}

// start serves at an address until stop.
func (s *orderService) start(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /pay_notify", s.takePayment)
	mux.HandleFunc("POST /event", s.takeEvent)
	mux.HandleFunc("POST /customer_pays", s.customerPays)
	s.address, s.url = listener.Addr().String(), "http://"+listener.Addr().String()
	s.server, s.served = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}, make(chan error, 1)
	go func() { s.served <- s.server.Serve(listener) }()
	return nil
}

func (s *orderService) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := s.server.Shutdown(ctx)
	<-s.served
	return err
}

// takePayment answers Caddy's callback.
func (s *orderService) takePayment(w http.ResponseWriter, r *http.Request) {
	s.take(w, r, func(c *callback) error { return json.Unmarshal(c.body, &c.payment) })
}

// takeEvent answers what is no payment: which event it is its header says.
func (s *orderService) takeEvent(w http.ResponseWriter, r *http.Request) {
	s.take(w, r, func(c *callback) error {
		c.event = r.Header.Get("wepay-event")
		return nil
	})
}

func (s *orderService) take(w http.ResponseWriter, r *http.Request, read func(*callback) error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err == nil {
		err = s.webhook.Verify(body, r.Header)
	}
	id := r.Header.Get(standardwebhooks.HeaderWebhookID)
	told := callback{id: id, body: body, source: r.Header.Get("wepay-source")}
	if err == nil {
		err = read(&told)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	if !s.seen[id] {
		s.seen[id] = true
		s.received = append(s.received, told)
		close(s.more)
		s.more = make(chan struct{})
	}
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintln(w, `{"errcode":0}`)
}

// customerPays stands for the customer's phone, for trying things out.
func (s *orderService) customerPays(w http.ResponseWriter, r *http.Request) {
	mchID := r.FormValue("mch_id")
	if mchID == "" {
		mchID = shopMchID
	}
	delivery, err := s.wechat.Pay(mchID, r.FormValue("out_trade_no"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "WeChat sent\n%s\n\n", delivery.Body())
	for _, attempt := range delivery.Attempts() {
		if attempt.Err != nil {
			fmt.Fprintf(w, "and got no answer: %s\n", attempt.Err)
			continue
		}
		fmt.Fprintf(w, "and got\n%s\n", attempt.Answer)
	}
}

// deliveredOf returns what the service got of an order.
func (s *orderService) deliveredOf(outTradeNo string) []callback {
	return s.that(func(c callback) bool { return c.payment["out_trade_no"] == outTradeNo })
}

func (s *orderService) that(is func(callback) bool) (delivered []callback) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.received {
		if is(c) {
			delivered = append(delivered, c)
		}
	}
	return delivered
}

// awaitOf waits until the service gets something of an order, and returns it.
func (s *orderService) awaitOf(ctx context.Context, outTradeNo string) ([]callback, error) {
	return s.await(ctx, outTradeNo, func(c callback) bool { return c.payment["out_trade_no"] == outTradeNo })
}

// awaitEvent waits until the service gets an event, and returns it.
func (s *orderService) awaitEvent(ctx context.Context, event string) (callback, error) {
	delivered, err := s.await(ctx, event, func(c callback) bool { return c.event == event })
	if err != nil {
		return callback{}, err
	}
	return delivered[0], nil
}

func (s *orderService) await(ctx context.Context, what string, is func(callback) bool) ([]callback, error) {
	for {
		s.mu.Lock()
		more := s.more
		s.mu.Unlock()
		if delivered := s.that(is); len(delivered) > 0 {
			return delivered, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the order service does not hear of %s: %w", what, ctx.Err())
		case <-more:
		}
	}
}

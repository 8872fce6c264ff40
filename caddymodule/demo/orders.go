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
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err == nil {
		err = s.webhook.Verify(body, r.Header)
	}
	var payment map[string]string
	if err == nil {
		err = json.Unmarshal(body, &payment)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	id := r.Header.Get(standardwebhooks.HeaderWebhookID)
	s.mu.Lock()
	if !s.seen[id] {
		s.seen[id] = true
		s.received = append(s.received, callback{id, body, payment})
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
		fmt.Fprintf(w, "and got\n%s\n", attempt.Answer)
	}
}

// deliveredOf returns what the service got of an order.
func (s *orderService) deliveredOf(outTradeNo string) []callback {
	s.mu.Lock()
	defer s.mu.Unlock()
	var delivered []callback
	for _, c := range s.received {
		if c.payment["out_trade_no"] == outTradeNo {
			delivered = append(delivered, c)
		}
	}
	return delivered
}

// awaitOf waits until the service gets something of an order, and returns it.
func (s *orderService) awaitOf(ctx context.Context, outTradeNo string) ([]callback, error) {
	for {
		s.mu.Lock()
		more := s.more
		s.mu.Unlock()
		if delivered := s.deliveredOf(outTradeNo); len(delivered) > 0 {
			return delivered, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the order service does not hear of %s: %w", outTradeNo, ctx.Err())
		case <-more:
		}
	}
}

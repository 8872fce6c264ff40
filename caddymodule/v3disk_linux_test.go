package caddymodule_test

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// While the disk is full WeChat hears 503 of a notification of API v3, and why in
// a word, and has it taken when it sends again and there is room.
func TestV3OutboxDiskFull(t *testing.T) {
	w, shop := newV3Shop(t, "")
	w.patience = redials
	if err := w.load(layout{sellers: []*seller{shop}, options: w.outbox(), site: counting}); err != nil {
		t.Fatal(err)
	}
	w.get("get_pay_request_params", shop.order3("order-1")) // WeChat is known from now on
	w.orders.answers(replying(http.StatusBadGateway, ""))
	limit := func(size uint64) {
		t.Helper()
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: ^uint64(0)}); err != nil {
			t.Fatal(err)
		}
	}
	limit(512 << 10)
	defer limit(^uint64(0))
	var d *wepaytest.Delivery
	for n := 0; ; n++ {
		d = w.paidEvent(shop, shop.paid3(fmt.Sprintf("order-%d", n), "attach", strings.Repeat("x", 20<<10)))
		w.orders.forget()
		a := w.deliver("pay_notify", d, nil)
		if a.status != http.StatusNoContent {
			checkAnswerV3(t, a, http.StatusServiceUnavailable, "not_stored")
			break
		}
		if n > 1000 {
			t.Fatal("there is room without end")
		}
	}
	if n := w.counts("shop", "not_stored"); n != 1 {
		t.Errorf("%d are counted", n)
	}
	limit(^uint64(0))
	if a := w.deliver("pay_notify", d, nil); a.status != http.StatusNoContent {
		t.Errorf("with room again WeChat hears %d %s", a.status, a.body)
	}
}

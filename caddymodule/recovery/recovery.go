package recovery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/internal/sampler"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// Config is what a Recovery works with.
type Config struct {
	Ledger   *Ledger
	Accounts map[string]*Account // by merchants' names
	Logger   *zap.Logger

	// Asked is called for each question, with how it ended.
	Asked func(o *store.Order, result string)

	// Learned is called for what an answer has changed.
	Learned func(Taken)
}

// Account is a merchant's way to WeChat.
type Account struct {
	Merchant *wepay.Merchant

	// Client returns the client of an API, or what the merchant lacks for that.
	Client func(wepay.API) (Client, error)
}

// Client asks about an order over the API that it was placed by, and closes it.
type Client interface {
	wepay.Gateway
	wepay.Asker
}

// Recovery asks WeChat about orders that nothing is heard of, until each has ended.
type Recovery struct {
	Config
	paces   map[string]*pace // by mch_ids
	workers chan struct{}
	failed  sampler.Sampler
	bills   Bills // nil: nobody reconciles

	ctx    context.Context
	cancel context.CancelFunc
	asking sync.WaitGroup
}

const (
	// workers is how many questions are asked at a time.
	workers = 16
	// questionTime bounds a question with all that follows from it.
	questionTime = 30 * time.Second
	// claimTerm is how long a claimed order is nobody else's: longer than a question
	// takes, and not longer than an order may wait that was claimed by one who died.
	claimTerm = questionTime + 15*time.Second
)

// lookEvery is how often the store is looked into; a test looks less often.
var lookEvery = time.Second

// New returns a recovery that does nothing yet.
func New(config Config) *Recovery {
	r := &Recovery{Config: config, paces: make(map[string]*pace), workers: make(chan struct{}, workers)}
	for _, account := range config.Accounts {
		if r.paces[account.Merchant.MchID] == nil {
			r.paces[account.Merchant.MchID] = newPace()
		}
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// Start begins to ask. Stop ends it.
func (r *Recovery) Start() { r.asking.Go(r.run) }

// Stop ends it. What is being asked is asked again.
func (r *Recovery) Stop() {
	r.cancel()
	r.asking.Wait()
}

// run claims what is due, as long as there are workers for it.
func (r *Recovery) run() {
	for r.ctx.Err() == nil {
		claimed, err := r.round()
		switch {
		case err != nil && r.ctx.Err() == nil:
			if r.failed.Log("store") {
				r.Logger.Error("looking for orders to ask about fails: it is tried again each second", zap.Error(err))
			}
		case err == nil && r.failed.Over("store"):
			r.Logger.Info("orders are looked for again")
		}
		if claimed > 0 {
			continue
		}
		select {
		case <-time.After(lookEvery):
		case <-r.ctx.Done():
		}
	}
}

// round has each merchant with due orders get its share of the workers that are
// free, and returns how many orders that came to.
func (r *Recovery) round() (claimed int, err error) {
	select {
	case r.workers <- struct{}{}: // wait for one
		<-r.workers
	case <-r.ctx.Done():
		return 0, nil
	}
	if r.bills != nil {
		if err := r.bills.Plan(r.ctx); err != nil {
			return 0, err
		}
	}
	first, err := r.Ledger.Store.FirstDue(r.ctx)
	if err != nil {
		return 0, err
	}
	now := r.Ledger.Now()
	due := slices.DeleteFunc(slices.Sorted(maps.Keys(first)), func(merchant string) bool {
		return r.Accounts[merchant] == nil || first[merchant].After(now) || r.paceOf(merchant).room(time.Now(), 1) == 0
	})
	if len(due) == 0 {
		return 0, nil
	}
	share := max((cap(r.workers)-len(r.workers))/len(due), 1)
	for _, merchant := range due {
		n, err := r.claim(merchant, r.paceOf(merchant).room(time.Now(), share))
		claimed += n
		if err != nil {
			return claimed, err
		}
	}
	return claimed, nil
}

func (r *Recovery) paceOf(merchant string) *pace { return r.paces[r.Accounts[merchant].Merchant.MchID] }

// claim takes orders of a merchant, up to a limit, and has them asked about: each by
// a worker that is free, since the claim ends.
func (r *Recovery) claim(merchant string, limit int) (claimed int, err error) {
	limit = r.reserve(limit)
	if limit == 0 {
		return 0, nil // its account has got another's share
	}
	orders, err := r.Ledger.Store.Claim(r.ctx, merchant, limit, claimTerm)
	r.release(limit - len(orders))
	if err != nil {
		return 0, err
	}
	pace := r.paceOf(merchant)
	pace.claimed(len(orders))
	for _, o := range orders {
		r.asking.Go(func() {
			defer r.release(1)
			defer pace.done()
			r.resolve(o, pace)
		})
	}
	return len(orders), nil
}

// reserve takes workers that are free, up to so many, and returns how many.
func (r *Recovery) reserve(most int) int {
	for n := range most {
		select {
		case r.workers <- struct{}{}:
		default:
			return n
		}
	}
	return most
}

func (r *Recovery) release(workers int) {
	for range workers {
		<-r.workers
	}
}

// resolve asks WeChat about an order, and records the answer.
func (r *Recovery) resolve(o *store.Order, pace *pace) {
	if o.Kind == store.DailyBill {
		r.reconcile(o)
		return
	}
	ctx, cancel := context.WithTimeout(r.ctx, questionTime)
	defer cancel()
	err := pace.wait(ctx)
	if err == nil {
		_, err = r.Ask(ctx, o)
	}
	if err == nil {
		return
	}
	unleft := zap.DebugLevel
	if r.ctx.Err() == nil {
		level := zap.DebugLevel
		var failed *wepay.Error
		if !errors.As(err, &failed) && r.failed.Log(o.Merchant) {
			level = zap.WarnLevel
		}
		r.Logger.Log(level, "asking about an order failed, and is tried again", append(Fields(o), zap.Error(err))...)
		unleft = zap.WarnLevel
	}
	if err := r.leave(o); err != nil {
		r.Logger.Log(unleft, "an order is asked about again when its claim has ended", append(Fields(o), zap.Error(err))...)
	}
}

// leaveTime is how long the store may take to hear that an order had no answer.
const leaveTime = time.Second

// leave has an order wait that WeChat gave no answer about: by the schedule, or as this
// recovery stops, for the next one, at once.
func (r *Recovery) leave(o *store.Order) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), leaveTime)
	defer cancel()
	return r.Ledger.update(ctx, o, func(now *store.Order) {
		if !now.Due.Equal(o.Due) {
			return // something else has become of it meanwhile
		}
		if r.ctx.Err() != nil {
			now.Due = r.Ledger.Now()
			return
		}
		again := *now
		again.Asked = max(again.Asked, 1)
		r.Ledger.Schedule.postpone(&again, r.Ledger.Now())
		now.Due = again.Due
	})
}

// Ask asks WeChat about an order, closes it if it is time for that, and records what
// came of it. The error is of the last question.
func (r *Recovery) Ask(ctx context.Context, o *store.Order) (Taken, error) {
	return r.ask(ctx, o, store.SourceQuery)
}

func (r *Recovery) ask(ctx context.Context, o *store.Order, source store.Source) (Taken, error) {
	account := r.Accounts[o.Merchant]
	if account == nil {
		return Taken{}, fmt.Errorf("%w: %q, which placed the order", wepay.ErrNoMerchant, o.Merchant)
	}
	client, err := account.Client(o.API)
	var out *wepay.Outcome
	if err == nil {
		out, err = r.outcome(ctx, client, o)
	}
	if err == nil && out.State == wepay.Pending && source == store.SourceQuery && r.closes(o) {
		out, err = r.close(ctx, client, o, out)
	}
	if err != nil {
		r.Asked(o, "no_answer")
		return Taken{}, err
	}
	r.Asked(o, string(out.State))
	taken, err := r.Ledger.Learn(ctx, account.Merchant, o, out, source)
	if err != nil {
		return Taken{}, fmt.Errorf("recording WeChat Pay's answer: %w", err)
	}
	if taken.Changed {
		r.Learned(taken)
	}
	return taken, nil
}

// outcome asks WeChat about an order once.
func (r *Recovery) outcome(ctx context.Context, client Client, o *store.Order) (*wepay.Outcome, error) {
	out, err := client.Outcome(ctx, o.Operation, o.Number, o.SubMchID)
	var failed *wepay.Error
	if err != nil && !errors.As(err, &failed) {
		return nil, err // nothing was asked
	}
	if r.ctx.Err() == nil && r.paceOf(o.Merchant).answered(time.Now(), failed) {
		r.Logger.Error("WeChat Pay has given no answer about orders for more than an hour", zap.String("merchant", o.Merchant), zap.Error(err))
	}
	return out, err
}

// closes reports whether it is time to close an order.
func (r *Recovery) closes(o *store.Order) bool {
	return !o.CloseAt.IsZero() && !r.Ledger.Now().Before(o.CloseAt) && o.Operation == wepay.PlaceOrder
}

// close closes an order at WeChat, and asks whether it is closed: it may have been
// paid in the same moment, and over API v3 the answer to a closing proves nothing.
func (r *Recovery) close(ctx context.Context, client Client, o *store.Order, before *wepay.Outcome) (*wepay.Outcome, error) {
	in := wepay.Fields{{Name: "out_trade_no", Value: o.Number}}
	if o.SubMchID != "" {
		in.Set("sub_mch_id", o.SubMchID)
	}
	_, err := client.Do(ctx, wepay.CloseOrder, in)
	var refused *wepay.Error
	if err != nil && !(errors.As(err, &refused) && (refused.Verdict == wepay.Done || refused.Verdict == wepay.Query)) {
		r.Logger.Warn("closing an unpaid order failed, and is tried again", append(Fields(o), zap.Error(err))...)
		return before, nil
	}
	return r.outcome(ctx, client, o)
}

// Fields name an order in the log.
func Fields(o *store.Order) []zap.Field {
	named := []zap.Field{zap.String("merchant", o.Merchant), zap.String("kind", string(o.Kind))}
	if o.Kind != store.Refund {
		return append(named, zap.String("out_trade_no", o.Number))
	}
	if o.OutTradeNo != "" {
		named = append(named, zap.String("out_trade_no", o.OutTradeNo))
	}
	return append(named, zap.String("out_refund_no", o.Number))
}

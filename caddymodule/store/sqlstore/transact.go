package sqlstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// Transact runs something in one transaction.
func (i *instance) Transact(ctx context.Context, run func(store.Tx) error) error {
	_, err := with(i, func(db *database) (any, error) { return nil, db.transact(ctx, run) })
	return err
}

// transact runs something in one transaction: of the committer, which many share,
// where there may be one writer, else in one of its own.
func (d *database) transact(ctx context.Context, run func(store.Tx) error) error {
	j := &job{ctx: ctx, transaction: true}
	j.apply = func(s session) (err error) {
		t := &tx{session: s, db: d, rows: make(map[store.OrderKey]int64)}
		j.puts, err = t.run(run)
		return err
	}
	var err error
	if d.dialect.oneWriter {
		err = d.commits.do(j)
	} else if err = d.change(ctx, j.apply); err == nil {
		d.announce(j.puts)
	}
	if u, ok := errors.AsType[*undone](err); ok {
		err = u.cause
	}
	if p, ok := err.(*panicked); ok {
		panic(p) // where its caller recovers it
	}
	return err
}

// undone is why a transaction was undone by itself: its database is well, and the
// transactions that share its commit go on.
type undone struct{ cause error }

func (u *undone) Error() string { return u.cause.Error() }

func (u *undone) Unwrap() error { return u.cause }

// panicked is a panic of a transaction.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("%v\n\n%s", p.value, p.stack) }

// tx is a transaction of a store, on a session that it may share with others.
type tx struct {
	session
	db *database

	asked []orderNumber            // whose orders are all in rows
	rows  map[store.OrderKey]int64 // the orders that were read or set
	puts  []*job
	saved bool
	err   error // of the tx itself
}

// orderNumber is a number of a kind.
type orderNumber struct {
	kind   store.OrderKind
	number string
}

// run runs the transaction, and returns the events that it put. An error that is
// undone leaves the session as it was before; after any other all of the session is
// to be undone.
func (t *tx) run(run func(store.Tx) error) (puts []*job, err error) {
	err = t.call(run)
	if t.err != nil && !errors.Is(err, t.err) {
		err = t.err
	}
	if err == nil {
		return t.puts, t.end("RELEASE wepay_tx")
	}
	if t.err != nil && !harmless(t.err) {
		return nil, err // the database's
	}
	if ended := t.end("ROLLBACK TO wepay_tx"); ended != nil {
		return nil, errors.Join(err, ended)
	}
	return nil, &undone{err}
}

// call calls run, and makes an error of its panic.
func (t *tx) call(run func(store.Tx) error) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }: // the file's: see guarded
			panic(p)
		default:
			err = &panicked{p, debug.Stack()}
		}
	}()
	return run(t)
}

// save begins what can be undone by itself, where others share the session.
func (t *tx) save() error {
	if t.err != nil || t.saved || !t.db.dialect.oneWriter {
		return t.err
	}
	t.saved = true
	_, err := t.exec("SAVEPOINT wepay_tx")
	return t.failed(err)
}

// end ends what save began.
func (t *tx) end(how string) error {
	if !t.saved {
		return nil
	}
	_, err := t.exec(how)
	if err == nil && how != "RELEASE wepay_tx" {
		_, err = t.exec("RELEASE wepay_tx")
	}
	return err
}

// failed remembers an error of the database's: whatever run makes of it, nothing of
// the transaction is stored.
func (t *tx) failed(err error) error {
	if err != nil && t.err == nil {
		t.err = err
	}
	return err
}

// refused remembers that the tx was asked for what it cannot do.
func (t *tx) refused(err error) error { return t.failed(&undone{err}) }

// Orders returns the orders of a kind and number.
func (t *tx) Orders(kind store.OrderKind, number string) ([]*store.Order, error) {
	if !storable(string(kind) + number) {
		return nil, t.err
	}
	orders, err := t.find(" WHERE number = ? AND kind = ?", number, string(kind))
	if err == nil {
		t.asked = append(t.asked, orderNumber{kind, number})
	}
	return orders, err
}

// Refunds returns the refunds of an order.
func (t *tx) Refunds(mchID, subMchID, outTradeNo string) ([]*store.Order, error) {
	if !storable(mchID + subMchID + outTradeNo) {
		return nil, t.err
	}
	return t.find(" WHERE out_trade_no = ? AND kind = ? AND mch_id = ? AND sub_mch_id = ?", outTradeNo, string(store.Refund), mchID, subMchID)
}

// find returns orders, which nobody changes until the transaction ends.
func (t *tx) find(where string, args ...any) (orders []*store.Order, err error) {
	if t.err != nil {
		return nil, t.err
	}
	err = t.query(selectOrder+"wepay_order"+where+" ORDER BY placed DESC, seq DESC"+t.db.dialect.forUpdate, func(scan func(...any) error) error {
		o, err := scanOrder(scan)
		if err == nil {
			t.rows[o.Key()] = o.seq
			orders = append(orders, o.Order)
		}
		return err
	}, args...)
	return orders, t.failed(err)
}

// SetOrder stores an order.
func (t *tx) SetOrder(o *store.Order) error {
	if err := o.Check(); err != nil {
		return t.refused(err)
	}
	if !slices.Contains(t.asked, orderNumber{o.Kind, o.Number}) {
		if _, err := t.Orders(o.Kind, o.Number); err != nil {
			return err
		}
	}
	args, err := orderArgs(o)
	if err != nil {
		return t.refused(err)
	}
	if err := t.save(); err != nil {
		return err
	}
	key := o.Key()
	if seq, ok := t.rows[key]; ok {
		_, err = t.exec(updateOrder, append(args[keyColumns:], seq)...)
		return t.failed(err)
	}
	return t.insertOrder(o, args)
}

func (t *tx) insertOrder(o *store.Order, args []any) error {
	inserted, err := t.exec(insertOrder+t.db.dialect.ignoreOrder, args...)
	if err == nil && inserted == 0 {
		err = errRace
	}
	t.asked = slices.DeleteFunc(t.asked, func(n orderNumber) bool { return n == orderNumber{o.Kind, o.Number} })
	return t.failed(err)
}

// Put stores an event that the store does not have yet.
func (t *tx) Put(e *store.Event) (added bool, err error) {
	if err := checkEvent(e); err != nil {
		return false, t.refused(err)
	}
	if err := t.save(); err != nil {
		return false, err
	}
	own := *e
	own.Payload = bytes.Clone(e.Payload)
	j := &job{event: &own}
	if err := t.db.insert(t.session, []*job{j}); err != nil {
		return false, t.failed(err)
	}
	if j.err != nil {
		return false, t.refused(j.err)
	}
	t.puts = append(t.puts, j)
	return j.added, nil
}

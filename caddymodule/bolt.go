package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/internal/parse"
)

func init() {
	caddy.RegisterModule(&Bolt{})
}

// Bolt is an outbox in a file on this machine, for one Caddy. What is in it
// survives kill -9 and the loss of power.
type Bolt struct {
	// The file. Default: `wepay/outbox.db` in Caddy's data directory.
	Path string `json:"path,omitempty"`

	OutboxOptions

	path   string
	logger *zap.Logger

	mu     sync.Mutex
	key    string        // of boltStores
	store  *boltStore    // nil: not yet open
	closed chan struct{} // closed by Close
}

// CaddyModule returns the Caddy module information.
func (*Bolt) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "wepay.outbox.bolt",
		New: func() caddy.Module { return new(Bolt) },
	}
}

// Provision sets up the outbox. The file is not touched: another config, or
// another process, may have it open.
func (b *Bolt) Provision(ctx caddy.Context) error {
	b.logger = ctx.Logger()
	path, err := replace(caddy.NewReplacer(), "path", b.Path)
	if err != nil {
		return err
	}
	if path == "" {
		path = filepath.Join(caddy.AppDataDir(), "wepay", "outbox.db")
	}
	if b.path, err = filepath.Abs(path); err != nil {
		return fmt.Errorf("path: %w", err)
	}
	return b.OutboxOptions.Provision()
}

// UnmarshalCaddyfile sets up the outbox from its block. Syntax:
//
//	outbox bolt {
//		path    <file>
//		retry   <first wait> <longest wait>
//		give_up <duration>
//		keep    <duration>
//		workers <number>
//	}
func (b *Bolt) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return b.UnmarshalBlock(d, func(option string) error {
		if option != "path" {
			return UnknownOption(d, option)
		}
		return parse.Text(d, &b.Path)
	})
}

// boltStores are the files that this process has open, by their paths: the
// configs of a reload share them, whatever their other options are.
var boltStores = caddy.NewUsagePool()

// Open opens the file, or joins those of this process that have it open.
func (b *Bolt) Open(context.Context) error {
	if err := os.MkdirAll(filepath.Dir(b.path), 0o700); err != nil {
		return fmt.Errorf("making the outbox's directory: %w", err)
	}
	key := realPath(b.path)
	value, joined, err := boltStores.LoadOrNew(key, func() (caddy.Destructor, error) {
		return openBoltStore(b.path, b.logger)
	})
	if err != nil {
		return err
	}
	store := value.(*boltStore)
	if joined {
		if err := store.checkPlace(); err != nil {
			_, left := boltStores.Delete(key)
			return errors.Join(err, left)
		}
	}
	store.keep.Store(int64(b.Keep))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.key, b.store, b.closed = key, store, make(chan struct{})
	return nil
}

// Close leaves the file to others, or closes it as the last.
func (b *Bolt) Close() error {
	store, closed := b.opened()
	if store == nil || isClosed(closed) {
		return nil
	}
	close(closed)
	store.release(b)
	_, err := boltStores.Delete(b.key)
	return err
}

// openBoltReadOnly opens a file that no server has open, to look into it.
func openBoltReadOnly(path string) (*boltFile, error) {
	store, err := openBoltFile(path, true, zap.NewNop())
	if err != nil {
		return nil, err
	}
	if store.untrue != nil && !errors.Is(store.untrue, errMarked) {
		return nil, errors.Join(fmt.Errorf("%s: %w; a server that opens it makes it anew from what can be read", path, store.untrue), store.db.Close())
	}
	return &boltFile{Bolt{store: store, closed: make(chan struct{})}}, nil
}

// boltFile is an outbox to look into.
type boltFile struct{ Bolt }

// Close closes the file.
func (f *boltFile) Close() error { return f.store.db.Close() }

func (b *Bolt) opened() (*boltStore, chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.store, b.closed
}

func isClosed(closed <-chan struct{}) bool {
	select {
	case <-closed:
		return true
	default:
		return false
	}
}

// write has the store's one writer do something, and waits until it is durable.
// Requests of a config that has ended still get through as long as another one
// has the file open.
func (b *Bolt) write(ctx context.Context, apply func(*boltTx) error) error {
	store, _ := b.opened()
	if store == nil {
		return ErrOutboxClosed
	}
	return store.write(ctx, apply)
}

func (b *Bolt) read(ctx context.Context, look func(*boltTx) error) error {
	store, _ := b.opened()
	if store == nil {
		return ErrOutboxClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return store.read(look)
}

// Put stores an event that is not known yet.
func (b *Bolt) Put(ctx context.Context, event *Event) error {
	e := *event
	return b.write(ctx, func(tx *boltTx) error { return tx.add(&e) })
}

// Lease takes waiting events that are due, and waits until there are any.
func (b *Bolt) Lease(ctx context.Context, queue Queue, limit int, term time.Duration) ([]*Lease, error) {
	store, closed := b.opened()
	if store == nil {
		return nil, ErrOutboxClosed
	}
	for {
		if isClosed(closed) {
			return nil, ErrOutboxClosed
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		// Whatever changes after this wakes us.
		changed := store.leases.changed(queue)
		leases, next, err := store.lease(b, queue, limit, term)
		if err != nil || len(leases) > 0 {
			return leases, err
		}
		timer := newTimer(next)
		select {
		case <-timer.C:
		case <-changed:
		case <-closed:
		case <-store.closed:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// newTimer fires at a time; never at none.
func newTimer(at time.Time) *time.Timer {
	if at.IsZero() {
		timer := time.NewTimer(time.Hour)
		timer.Stop()
		return timer
	}
	return time.NewTimer(time.Until(at))
}

// Settle stores a leased event as its holder has left it.
func (b *Bolt) Settle(ctx context.Context, lease *Lease) error {
	token, ok := lease.Token.(*boltLease)
	if !ok {
		return ErrLeaseLost
	}
	e := *lease.Event
	return b.write(ctx, func(tx *boltTx) error {
		if tx.store.leases.current(token.number) != token {
			return ErrLeaseLost
		}
		// What is known of the event as it was leased is all that is needed of it.
		leased := numbered{&Event{Merchant: token.queue.Merchant, Kind: token.queue.Kind, State: Waiting, Due: token.due}, token.number}
		if !tx.waits(leased) {
			tx.end(token.number)
			return ErrLeaseLost
		}
		return tx.change(leased, &e)
	})
}

// Get returns an event.
func (b *Bolt) Get(ctx context.Context, id string) (e *Event, err error) {
	err = b.read(ctx, func(tx *boltTx) error {
		found, err := tx.get(id)
		e = found.Event
		return err
	})
	return e, err
}

// List returns events in the order in which they came.
func (b *Bolt) List(ctx context.Context, filter Filter, after string, limit int) (events []*Event, next string, err error) {
	err = b.read(ctx, func(tx *boltTx) error {
		events, next, err = tx.list(filter, after, limit)
		return err
	})
	return events, next, err
}

// Count returns how many events there are.
func (b *Bolt) Count(ctx context.Context) (counts []Count, err error) {
	err = b.read(ctx, func(tx *boltTx) error {
		counts, err = tx.counts()
		return err
	})
	return counts, err
}

// Replay has a dead event handed over again.
func (b *Bolt) Replay(ctx context.Context, id string) error {
	return b.change(ctx, id, func(e *Event) *Event { return e.Replayed(time.Now()) }, Dead)
}

// Drop takes an event out of the way.
func (b *Bolt) Drop(ctx context.Context, id, reason string) error {
	return b.change(ctx, id, func(e *Event) *Event { return e.Dropped(reason, time.Now()) }, Waiting, Dead)
}

// change changes an event that is in one of some states.
func (b *Bolt) change(ctx context.Context, id string, change func(*Event) *Event, states ...State) error {
	return b.write(ctx, func(tx *boltTx) error {
		before, err := tx.get(id)
		if err != nil {
			return err
		}
		for _, state := range states {
			if before.State == state {
				return tx.change(before, change(before.Event))
			}
		}
		return ErrWrongState
	})
}

// Interface guards
var (
	_ caddy.Provisioner     = (*Bolt)(nil)
	_ caddyfile.Unmarshaler = (*Bolt)(nil)
	_ Outbox                = (*Bolt)(nil)
)

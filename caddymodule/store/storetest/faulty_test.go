package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// memoryPlace returns what makes instances that work on one empty place in memory,
// with the fault of a name or, for "", none.
func memoryPlace(name string) func() store.Store {
	first := NewMemory()
	faults := slices.Concat(faults, orderFaults)
	i := slices.IndexFunc(faults, func(f fault) bool { return f.name == name })
	return func() store.Store {
		m := first.Another()
		if i < 0 {
			return m
		}
		return faults[i].alter(m)
	}
}

// fault is what may be wrong with a store, and the part of the contract that
// finds it.
type fault struct {
	name, check string
	alter       func(*Memory) store.Store
}

// faults are stores that look like good ones.
var faults = []fault{
	{"open from the start", "closed", func(m *Memory) store.Store { m.opened = true; return m }},
	{"ignores contexts", "context", func(m *Memory) store.Store { return ignoresContexts{m} }},
	{"forgets when closed", "durable", func(m *Memory) store.Store { return forgets{m} }},
	{"writes JSON anew", "durable", func(m *Memory) store.Store { return rewrites{m} }},
	{"loses headers", "durable", func(m *Memory) store.Store { return losesHeaders{m} }},
	{"shares what it keeps", "copies", func(m *Memory) store.Store { return shares{m} }},
	{"stores what it knows", "known in every state", func(m *Memory) store.Store { return overwrites{m} }},
	{"stores at once what comes at once", "same event at once", func(m *Memory) store.Store { return duplicates{m} }},
	{"knows everything", "unknown", func(m *Memory) store.Store { return knowsAll{m} }},
	{"last first", "order", func(m *Memory) store.Store { return lastFirst{m} }},
	{"believes any due time", "due too far ahead", func(m *Memory) store.Store { return patient{m} }},
	{"ahead of time", "due", func(m *Memory) store.Store { return early{m} }},
	{"more than asked for", "limit", func(m *Memory) store.Store { return generous{m} }},
	{"put wakes nobody", "put wakes", func(m *Memory) store.Store { return sleepy{m} }},
	{"close wakes nobody", "close wakes", func(m *Memory) store.Store { return quiet{m} }},
	{"one queue for all", "queues", func(m *Memory) store.Store { return oneQueue{m} }},
	{"leased to two", "leased once", func(m *Memory) store.Store { return leasesTwice{m} }},
	{"leases for ever", "lease runs out", func(m *Memory) store.Store { return leasesForEver{m} }},
	{"settles what is lost", "lease runs out", func(m *Memory) store.Store { return settlesLost{m} }},
	{"settles nothing late", "settled late", func(m *Memory) store.Store { return strict{m} }},
	{"leases outlive close", "leases end with close", func(m *Memory) store.Store { return holdsOn{m} }},
	{"tries again at once", "try again", func(m *Memory) store.Store { return impatient{m} }},
	{"settles twice", "settled", func(m *Memory) store.Store { return settlesTwice{m} }},
	{"forgets the payload of what was delivered", "settled", func(m *Memory) store.Store { return forgetsPayload{m} }},
	{"repairs no text", "hostile text", func(m *Memory) store.Store { return rawText{m} }},
	{"replays what is dead alone", "replay", func(m *Memory) store.Store { return replaysDead{m} }},
	{"replays what is leased", "replay what waits", func(m *Memory) store.Store { return replaysLeased{m} }},
	{"replays with old attempts", "replay", func(m *Memory) store.Store { return replaysOld{m} }},
	{"drops the payload", "drop", func(m *Memory) store.Store { return dropsPayload{m} }},
	{"forgets what is dropped", "drop", func(m *Memory) store.Store { return dropForgets{m} }},
	{"drops nothing leased", "drop leased", func(m *Memory) store.Store { return dropsFree{m} }},
	{"skips one between pages", "list", func(m *Memory) store.Store { return skips{m} }},
	{"oldest first", "list", func(m *Memory) store.Store { return oldestFirst{m} }},
	{"ignores numbers", "numbers", func(m *Memory) store.Store { return ignoresNumbers{m} }},
	{"takes whatever for a page's end", "list", func(m *Memory) store.Store { return pagesAnywhere{m} }},
	{"counts what is leased apart", "count", func(m *Memory) store.Store { return countsFree{m} }},
	{"keeps payloads for ever", "payloads go", func(m *Memory) store.Store { return hoards{m} }},
	{"keeps rows for ever", "rows go", func(m *Memory) store.Store { return hoards{m} }},
	{"clears what waits", "payloads go", func(m *Memory) store.Store { return clearsWaiting{m} }},
	{"says that all is added", "known in every state", func(m *Memory) store.Store { return addsAll{m} }},
	{"loses columns", "durable", func(m *Memory) store.Store { return losesColumns{m} }},
	{"folds names", "names", func(m *Memory) store.Store { return foldsNames{m} }},
}

type ignoresContexts struct{ *Memory }

func (f ignoresContexts) Put(_ context.Context, e *store.Event) (bool, error) {
	return f.Memory.Put(context.Background(), e)
}

type forgets struct{ *Memory }

func (f forgets) Close() error {
	f.mu.Lock()
	clear(f.events)
	f.mu.Unlock()
	return f.Memory.Close()
}

type rewrites struct{ *Memory }

func (f rewrites) Put(ctx context.Context, e *store.Event) (bool, error) {
	e = copyEvent(e)
	var text bytes.Buffer
	if err := json.Compact(&text, e.Payload); err != nil {
		return false, err
	}
	e.Payload = text.Bytes()
	return f.Memory.Put(ctx, e)
}

type losesHeaders struct{ *Memory }

func (f losesHeaders) Put(ctx context.Context, e *store.Event) (bool, error) {
	e = copyEvent(e)
	for name, values := range e.Trace {
		e.Trace[name] = values[:1]
	}
	return f.Memory.Put(ctx, e)
}

type shares struct{ *Memory }

func (f shares) Get(ctx context.Context, id string) (*store.Event, error) {
	if _, err := f.Memory.Get(ctx, id); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return &f.events[id].Event, nil
}

type overwrites struct{ *Memory }

func (f overwrites) Put(ctx context.Context, e *store.Event) (added bool, err error) {
	err = f.do(ctx, func() error {
		added = f.events[e.ID] == nil
		if added || f.events[e.ID].State != store.Waiting {
			f.events[e.ID] = new(kept)
			f.keep(f.events[e.ID], e)
		}
		return nil
	})
	return added, err
}

type duplicates struct{ *Memory }

func (f duplicates) Put(ctx context.Context, e *store.Event) (bool, error) {
	if _, err := f.Get(ctx, e.ID); err == nil {
		e = copyEvent(e)
		e.ID += " again"
	}
	return f.Memory.Put(ctx, e)
}

type knowsAll struct{ *Memory }

func (f knowsAll) Replay(ctx context.Context, id string) (store.State, error) {
	was, err := f.Memory.Replay(ctx, id)
	if errors.Is(err, store.ErrNoEvent) {
		err = store.ErrNoPayload
	}
	return was, err
}

type lastFirst struct{ *Memory }

func (f lastFirst) Lease(ctx context.Context, queue store.Queue, limit int, term time.Duration) ([]*store.Lease, error) {
	leases, err := f.Memory.Lease(ctx, queue, limit, term)
	slices.Reverse(leases)
	return leases, err
}

type early struct{ *Memory }

func (f early) Put(ctx context.Context, e *store.Event) (bool, error) {
	e = copyEvent(e)
	e.Due = e.Due.Add(-100 * time.Millisecond)
	return f.Memory.Put(ctx, e)
}

type patient struct{ *Memory }

func (f patient) Open(ctx context.Context, options store.Options) error {
	options.LongestWait = 0
	return f.Memory.Open(ctx, options)
}

type generous struct{ *Memory }

func (f generous) Lease(ctx context.Context, queue store.Queue, limit int, term time.Duration) ([]*store.Lease, error) {
	return f.Memory.Lease(ctx, queue, limit+1, term)
}

type sleepy struct{ *Memory }

func (f sleepy) Put(ctx context.Context, e *store.Event) (added bool, err error) {
	err = f.do(ctx, func() error {
		if added = f.events[e.ID] == nil; added {
			f.events[e.ID] = &kept{Event: *copyEvent(e)}
		}
		return nil
	})
	return added, err
}

type quiet struct{ *Memory }

func (f quiet) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opened = false
	return nil
}

type oneQueue struct{ *Memory }

func (f oneQueue) Lease(ctx context.Context, queue store.Queue, limit int, term time.Duration) ([]*store.Lease, error) {
	f.mu.Lock()
	for _, r := range f.events {
		queue = r.Queue()
	}
	f.mu.Unlock()
	return f.Memory.Lease(ctx, queue, limit, term)
}

type leasesTwice struct{ *Memory }

func (f leasesTwice) Lease(ctx context.Context, queue store.Queue, limit int, _ time.Duration) ([]*store.Lease, error) {
	return f.Memory.Lease(ctx, queue, limit, 0)
}

type leasesForEver struct{ *Memory }

func (f leasesForEver) Lease(ctx context.Context, queue store.Queue, limit int, _ time.Duration) ([]*store.Lease, error) {
	return f.Memory.Lease(ctx, queue, limit, time.Hour)
}

type settlesLost struct{ *Memory }

func (f settlesLost) Settle(ctx context.Context, lease *store.Lease) error {
	f.mu.Lock()
	if r := f.events[lease.Event.ID]; r != nil && r.State == store.Waiting {
		lease.Token = r.lease
	}
	f.mu.Unlock()
	return f.Memory.Settle(ctx, lease)
}

type strict struct{ *Memory }

func (f strict) Settle(ctx context.Context, lease *store.Lease) error {
	f.mu.Lock()
	r := f.events[lease.Event.ID]
	late := r != nil && r.until.Before(time.Now())
	f.mu.Unlock()
	if late {
		return store.ErrLeaseLost
	}
	return f.Memory.Settle(ctx, lease)
}

type holdsOn struct{ *Memory }

func (f holdsOn) Close() error {
	f.mu.Lock()
	for _, r := range f.events {
		if r.holder == f.Memory {
			r.holder = &Memory{place: f.place, opened: true}
		}
	}
	f.mu.Unlock()
	return f.Memory.Close()
}

package caddymodule

import "context"

// task is what runs in the background until it is done or stopped.
type task struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// startTask runs something that ends soon after its context.
func startTask(run func(ctx context.Context)) *task {
	ctx, cancel := context.WithCancel(context.Background())
	t := &task{cancel, make(chan struct{})}
	go func() {
		defer close(t.done)
		run(ctx)
	}()
	return t
}

// stop ends it.
func (t *task) stop() {
	t.cancel()
	<-t.done
}

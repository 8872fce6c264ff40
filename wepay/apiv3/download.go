package apiv3

import (
	"context"
	"fmt"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// download is one fetch of certificates, for all who wait for it.
type download struct {
	waiting int                // guarded by the platform's mu
	cancel  context.CancelFunc // for when nobody needs it any more
	done    chan struct{}
	err     error // what came of it, once done
}

// refresh fetches the certificates, once for all who wait, unless WeChat was
// asked less than a time ago. The download outlives a caller who gives up, for
// the others who wait and those who come after; Close and the wire's time-out end
// it.
func (p *Platform) refresh(ctx context.Context, least time.Duration) error {
	d, err := p.join(least)
	if d == nil {
		return err
	}
	defer p.leave(d)
	select {
	case <-d.done:
		return d.err
	case <-ctx.Done():
		return fmt.Errorf("%w: waiting for platform certificates: %w", wepay.ErrNoAnswer, context.Cause(ctx))
	}
}

// join returns the download that is running, or else begins one. Where WeChat
// was asked less than a time ago it returns what came of that, and no download.
func (p *Platform) join(least time.Duration) (*download, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		now := p.now()
		if !p.asked.IsZero() && now.Sub(p.asked) < least {
			return nil, p.failed
		}
		p.asked = now
		ctx, cancel := context.WithCancel(context.Background())
		p.running = &download{cancel: cancel, done: make(chan struct{})}
		go p.download(ctx, p.running)
	}
	p.running.waiting++
	return p.running, nil
}

// download fetches the certificates for those who wait.
func (p *Platform) download(ctx context.Context, d *download) {
	defer close(d.done)
	defer d.cancel()
	d.err = p.fetch(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == d {
		p.running, p.failed = nil, d.err
	}
}

// leave is for who waits no longer.
func (p *Platform) leave(d *download) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d.waiting--
	p.endUnneeded(d)
}

// endUnneeded ends a download that nobody waits for, nor will: who comes now
// begins another. It says whether it did. The caller holds mu.
func (p *Platform) endUnneeded(d *download) bool {
	if !p.closed || d.waiting > 0 {
		return false
	}
	d.cancel()
	if p.running == d {
		p.running, p.asked = nil, time.Time{}
	}
	return true
}

// Close ends the download that is running, unless somebody still waits for it:
// then it ends with the last of them. It has ended, and stores nothing any more,
// when Close returns. Whoever asks for a key after that is served as before.
func (p *Platform) Close() {
	p.mu.Lock()
	p.closed = true
	d := p.running
	ended := d != nil && p.endUnneeded(d)
	p.mu.Unlock()
	if ended {
		<-d.done
	}
}

package apiv3

import (
	"context"
	"fmt"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// download is one fetch of certificates, for all who wait for it.
type download struct {
	waiting int                // guarded by the key ring's mu
	cancel  context.CancelFunc // for when nobody needs it any more
	done    chan struct{}
	err     error // what came of it, once done
}

// refresh fetches the certificates, once for all who wait, unless WeChat was
// asked less than a time ago. The download outlives a caller who gives up, for
// the others who wait and those who come after; Close and the wire's time-out end
// it.
func (k *KeyRing) refresh(ctx context.Context, least time.Duration) error {
	d, err := k.join(least)
	if d == nil {
		return err
	}
	defer k.leave(d)
	select {
	case <-d.done:
		return d.err
	case <-ctx.Done():
		return fmt.Errorf("%w: waiting for platform certificates: %w", wepay.ErrNoAnswer, context.Cause(ctx))
	}
}

// join returns the download that is running, or else begins one. Where WeChat
// was asked less than a time ago it returns what came of that, and no download.
func (k *KeyRing) join(least time.Duration) (*download, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.running == nil {
		now := k.now()
		if !k.asked.IsZero() && now.Sub(k.asked) < least {
			return nil, k.failed
		}
		k.asked = now
		ctx, cancel := context.WithCancel(context.Background())
		k.running = &download{cancel: cancel, done: make(chan struct{})}
		go k.download(ctx, k.running)
	}
	k.running.waiting++
	return k.running, nil
}

// download fetches the certificates for those who wait.
func (k *KeyRing) download(ctx context.Context, d *download) {
	defer close(d.done)
	defer d.cancel()
	d.err = k.fetch(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.running == d {
		k.running, k.failed = nil, d.err
	}
}

// leave is for who waits no longer.
func (k *KeyRing) leave(d *download) {
	k.mu.Lock()
	defer k.mu.Unlock()
	d.waiting--
	k.endUnneeded(d)
}

// endUnneeded ends a download that nobody waits for, nor will: who comes now
// begins another. It says whether it did. The caller holds mu.
func (k *KeyRing) endUnneeded(d *download) bool {
	if !k.closed || d.waiting > 0 {
		return false
	}
	d.cancel()
	if k.running == d {
		k.running, k.asked = nil, time.Time{}
	}
	return true
}

// Close ends the download that is running, unless somebody still waits for it:
// then it ends with the last of them. It has ended, and stores nothing any more,
// when Close returns. Whoever asks for a key after that is served as before.
func (k *KeyRing) Close() {
	k.mu.Lock()
	k.closed = true
	d := k.running
	ended := d != nil && k.endUnneeded(d)
	k.mu.Unlock()
	if ended {
		<-d.done
	}
}

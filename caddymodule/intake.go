package caddymodule

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/windsome/caddy-wepay/wepay"
)

const (
	// smallNotification is let in however many there are, in bytes, so that large
	// ones of strangers keep none of WeChat's out, which are of 1 to 4 KiB.
	smallNotification = 8 << 10
	// roomForLarge is what all that are larger may hold together, in bytes.
	roomForLarge = 16 << 20
)

// largeNotifications bounds what notifications hold in memory. Anybody may send
// them, and some have to wait before it is known whether they are WeChat's.
var largeNotifications = semaphore.NewWeighted(roomForLarge)

// intake is a notification's body on its way in. It ends with wepay.ErrBusy where
// there is no room for it.
type intake struct {
	io.ReadCloser
	read  int
	holds bool // room for maxBody
}

// Read reads what there is room for.
func (in *intake) Read(p []byte) (int, error) {
	if in.read == smallNotification && !in.holds {
		if in.holds = largeNotifications.TryAcquire(maxBody); !in.holds {
			return 0, fmt.Errorf("%w: there are %d bytes of notifications that are larger than %d", wepay.ErrBusy, roomForLarge, smallNotification)
		}
	}
	if !in.holds {
		p = p[:min(len(p), smallNotification-in.read)]
	}
	n, err := in.ReadCloser.Read(p)
	in.read += n
	return n, err
}

// busyPause is how long, at least, whoever is refused for want of room waits to
// hear of it. A flood would come again at once, and leave no time for others;
// WeChat waits longer.
const busyPause = 2 * time.Second

// holdOff waits as long as that, and has net/http read nothing of what comes.
func holdOff(ctx context.Context, w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	select {
	case <-time.After(busyPause + rand.N(busyPause)):
	case <-ctx.Done():
	}
}

// release gives the room back.
func (in *intake) release() {
	if in.holds {
		largeNotifications.Release(maxBody)
		in.holds = false
	}
}

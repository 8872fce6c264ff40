package natsoutbox

import (
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// clock tells the time of the NATS servers. It is the same for all nodes, and
// what is due and what is leased goes by it: by their own clocks one that is
// ahead would take what another holds, and one that is behind would hold up what
// others have put.
type clock struct {
	local  func() time.Time
	off    atomic.Int64 // nanoseconds from the machine's time to the servers'
	logger *zap.Logger
}

// mostOff is how far from the servers' a clock is taken for right: an answer's
// way takes its time.
const mostOff = time.Second

// note compares the clock with what a server said that was asked a time ago.
func (c *clock) note(server, asked time.Time) {
	now := c.local()
	off := server.Sub(asked.Add(now.Sub(asked) / 2)).Round(time.Millisecond)
	if off.Abs() <= mostOff || server.IsZero() {
		off = 0
	}
	before := time.Duration(c.off.Swap(int64(off)))
	switch {
	case before == 0 && off != 0:
		c.logger.Warn("this machine's clock is not that of the NATS servers: the outbox goes by theirs, and all else may be wrong; have both set by NTP",
			zap.Duration("servers_ahead", off))
	case before != 0 && off == 0:
		c.logger.Info("this machine's clock is that of the NATS servers again")
	}
}

func (c *clock) now() time.Time { return c.served(c.local()) }

// served returns a time of this machine as the servers have it. No time stays
// none.
func (c *clock) served(t time.Time) time.Time {
	if off := time.Duration(c.off.Load()); off != 0 && !t.IsZero() {
		return t.Add(off)
	}
	return t
}

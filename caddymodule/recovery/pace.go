package recovery

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/windsome/caddy-wepay/wepay"
)

// How fast WeChat is asked about the orders of one account: the limits that it
// publishes for queries are ten times as high.
// Source: WeChat Pay, 查询订单 (API v3, 600 a second).
const (
	questionsPerSecond = 50
	questionsAtOnce    = 8
)

// An account that WeChat gives no answers about, or is asked too much, is left alone for waits that
// double from the first to the longest.
const (
	firstPause   = time.Second
	longestPause = 5 * time.Minute
)

// alarmAfter is how long WeChat may give no answers before an operator hears of it.
const alarmAfter = time.Hour

// pace is how fast an account is asked about, all of whose merchants share it.
type pace struct {
	limiter *rate.Limiter

	mu       sync.Mutex
	asking   int       // orders that are claimed
	failures int       // since the last answer
	since    time.Time // when the first of them was
	until    time.Time // no question before
	alarmed  time.Time
}

func newPace() *pace {
	return &pace{limiter: rate.NewLimiter(questionsPerSecond, questionsAtOnce)}
}

// room returns how many orders may be claimed, of so many at most. As long as the last
// question had no answer it is one at a time.
func (p *pace) room(now time.Time, most int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case now.Before(p.until), p.failures > 0 && p.asking > 0:
		return 0
	case p.failures > 0:
		return 1
	default:
		return most
	}
}

// claimed and done count the orders that are asked about.
func (p *pace) claimed(orders int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asking += orders
}

func (p *pace) done() { p.claimed(-1) }

// wait waits until a question may be asked.
func (p *pace) wait(ctx context.Context) error { return p.limiter.Wait(ctx) }

// answered is called for what came of a question. It reports whether to alert the
// operator: WeChat has given no answer for an hour, and for each hour more.
func (p *pace) answered(now time.Time, err *wepay.Error) (alarm bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil || err.Verdict != wepay.Later && err.Err == nil { // a refusal is an answer
		p.failures, p.alarmed = 0, time.Time{}
		return false
	}
	if p.failures == 0 {
		p.since = now
	}
	if !now.Before(p.until) { // else it was asked before the pause began
		pause := firstPause << min(p.failures, 16)
		p.failures++
		p.until = now.Add(min(pause, longestPause))
	}
	if err.Verdict == wepay.Later || now.Sub(p.since) < alarmAfter || now.Sub(p.alarmed) < alarmAfter {
		return false
	}
	p.alarmed = now
	return true
}

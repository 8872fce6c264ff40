package natsoutbox

import (
	"context"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule"
)

// identity tells a stream from all others, by whatever servers and credentials
// it is reached: another of its name was made at another time.
type identity struct {
	name string
	made int64 // nanoseconds
}

// users counts this process's stores of each stream. After a reload with other
// servers or credentials the stream has another.
var users = struct {
	sync.Mutex
	of map[identity]int
}{of: make(map[identity]int)}

// use notes the stream that a store uses.
func (s *store) use(id identity) {
	users.Lock()
	defer users.Unlock()
	users.of[id]++
	s.used = id
}

// leave reports whether no other store of this process uses the stream.
func (s *store) leave() bool {
	if s.used == (identity{}) {
		return false
	}
	users.Lock()
	defer users.Unlock()
	users.of[s.used]--
	if users.of[s.used] > 0 {
		return false
	}
	delete(users.of, s.used)
	return true
}

// leftTimeout bounds how long a reload waits for what is left in a stream to be
// counted.
const leftTimeout = 2 * time.Second

// reportLeft says what is left in a stream that no config uses any more.
func (s *store) reportLeft() {
	if last := s.leave(); !last || caddy.Exiting() {
		return
	}
	ctx, cancel := context.WithTimeout(s.open, leftTimeout)
	defer cancel()
	logger := s.logger.With(zap.String("stream", string(s.stream)), zap.String("servers", s.hosts))
	counts, err := s.count(ctx)
	if err != nil {
		logger.Warn("the config has this outbox no more, and what is left there could not be counted", zap.Error(err))
		return
	}
	if waiting, dead := caddymodule.Left(counts); waiting+dead > 0 {
		logger.Warn("the config has this outbox no more: what waits there is handed over by other servers that have it, or not at all",
			zap.Int("waiting", waiting), zap.Int("dead", dead))
	}
}

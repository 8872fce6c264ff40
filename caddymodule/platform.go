package caddymodule

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
)

// platforms are what the accounts of an app know WeChat by over API v3, one for
// each account at WeChat.
type platforms struct {
	*apiv3.KeyRings // all of them, once they are

	store apiv3.Store
	all   []*apiv3.KeyRing
	byKey map[platformKey]*apiv3.KeyRing
	names map[*apiv3.KeyRing][]string // of the merchants that share it
}

// platformKey is all that an apiv3.KeyRing depends on.
type platformKey struct {
	mchID, apiV3Key, serial, private, publicID, public, endpoints string
}

func newPlatforms(store apiv3.Store) *platforms {
	return &platforms{store: store, byKey: make(map[platformKey]*apiv3.KeyRing), names: make(map[*apiv3.KeyRing][]string)}
}

// of returns what a merchant's account knows WeChat by; nil for a merchant that
// can know it by nothing.
func (p *platforms) of(merchant *wepay.Merchant, options wepay.ClientOptions) *apiv3.KeyRing {
	if !merchant.Uses(wepay.V3) || merchant.PublicKey == nil && merchant.RequireV3() != nil {
		return nil
	}
	key := platformKey{
		mchID: merchant.MchID, apiV3Key: merchant.APIv3Key, publicID: merchant.PublicKeyID,
		endpoints: strings.Join(merchant.Endpoints, " "),
	}
	serial, private := merchant.SigningKey()
	key.serial = serial
	if private != nil {
		key.private = string(private.N.Bytes())
	}
	if merchant.PublicKey != nil {
		key.public = string(merchant.PublicKey.N.Bytes())
	}
	known := p.byKey[key]
	if known == nil {
		known = apiv3.NewKeyRing(merchant, p.store, options)
		p.byKey[key] = known
		p.all = append(p.all, known)
	}
	p.names[known] = append(p.names[known], merchant.Name)
	return known
}

// close ends what is fetched for nobody. Requests that are still being answered
// go on.
func (p *platforms) close() {
	for _, platform := range p.all {
		platform.Close()
	}
}

// certificateStore keeps platform certificates in Caddy's storage, which a fleet
// may share, and logs where it cannot. They are kept as WeChat sent them,
// encrypted.
type certificateStore struct {
	storage certmagic.Storage
	logger  *zap.Logger
}

// Store keeps a value. Whoever waits for certificates waits for that, too, so
// that it does not take long.
func (s *certificateStore) Store(ctx context.Context, key string, value []byte) error {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	err := s.storage.Store(ctx, key, value)
	if err != nil {
		s.logger.Warn("keeping platform certificates failed: a restart has to fetch them again", zap.String("key", key), zap.Error(err))
	}
	return err
}

// Load returns a value, and when it was stored.
func (s *certificateStore) Load(ctx context.Context, key string) ([]byte, time.Time, error) {
	value, err := s.storage.Load(ctx, key)
	var info certmagic.KeyInfo
	if err == nil {
		info, err = s.storage.Stat(ctx, key)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil {
		s.logger.Warn("reading the platform certificates that were kept failed", zap.String("key", key), zap.Error(err))
	}
	return value, info.Modified, err
}

// keeper has platform certificates fetched before they are needed. Each
// account's are due by themselves; where fetching fails those held before go on,
// and whatever needs others has them fetched itself.
type keeper struct {
	platforms *platforms
	logger    *zap.Logger
	metrics   *metrics
	cancel    context.CancelFunc
	done      chan struct{}
}

// The keeper's rounds: how long after one the next begins, on average, so that
// the servers of a fleet do not ask at the same times; and how many accounts ask
// at once.
const (
	keeperPause    = time.Minute
	keeperAtOnce   = 8
	keeperLoadTime = 10 * time.Second // how long the storage may take, for each account
)

// storeTime is how long the storage may take to keep certificates.
const storeTime = 2 * time.Second

// startKeeper begins to keep certificates, until stop.
func startKeeper(platforms *platforms, logger *zap.Logger, metrics *metrics) *keeper {
	ctx, cancel := context.WithCancel(context.Background())
	k := &keeper{platforms, logger, metrics, cancel, make(chan struct{})}
	go func() {
		defer close(k.done)
		for {
			k.round(ctx)
			select {
			case <-time.After(keeperPause/2 + rand.N(keeperPause)):
			case <-ctx.Done():
				return
			}
		}
	}()
	return k
}

// stop ends it, and waits for nobody's answer.
func (k *keeper) stop() {
	k.cancel()
	<-k.done
}

// round has those fetched that are due, and tells when all expire.
func (k *keeper) round(ctx context.Context) {
	var fetches errgroup.Group
	fetches.SetLimit(keeperAtOnce)
	for _, platform := range k.platforms.all {
		fetches.Go(func() error {
			if ctx.Err() == nil {
				k.keep(ctx, platform)
			}
			return nil
		})
	}
	_ = fetches.Wait() // keep has reported what failed
}

// keep has an account's certificates fetched if they are due.
func (k *keeper) keep(ctx context.Context, platform *apiv3.KeyRing) {
	loading, cancel := context.WithTimeout(ctx, keeperLoadTime)
	defer cancel()
	platform.Load(loading)
	names := k.platforms.names[platform]
	if at, ever := platform.Due(); ever && !time.Now().Before(at) {
		if err := platform.Refresh(ctx); err != nil && ctx.Err() == nil {
			k.logger.Warn("fetching platform certificates failed, and is tried again", zap.Strings("merchants", names), zap.Error(err))
		}
	}
	if expires := platform.Expires(); !expires.IsZero() {
		k.metrics.platformCertificate(names, expires)
	}
}

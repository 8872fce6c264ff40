package caddymodule

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
)

// keyRings are those of an app's accounts: what WeChat is known by over API v3.
type keyRings struct {
	*apiv3.KeyRings // all of them, once they are

	store apiv3.Store
	all   []*apiv3.KeyRing
	byKey map[keyRingKey]*apiv3.KeyRing
	names map[*apiv3.KeyRing][]string // of the merchants that share it
}

// keyRingKey is all that an apiv3.KeyRing depends on.
type keyRingKey struct {
	mchID, apiV3Key, serial, private, publicID, public, endpoints string
}

func newKeyRings(store apiv3.Store) *keyRings {
	return &keyRings{store: store, byKey: make(map[keyRingKey]*apiv3.KeyRing), names: make(map[*apiv3.KeyRing][]string)}
}

// of returns what a merchant's account knows WeChat by; nil for a merchant that
// can know it by nothing.
func (p *keyRings) of(merchant *wepay.Merchant, options wepay.ClientOptions) *apiv3.KeyRing {
	if !merchant.Uses(wepay.V3) || merchant.PublicKey == nil && merchant.RequireV3() != nil {
		return nil
	}
	key := keyRingKey{
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

// close ends what is fetched in the background. Requests that are still being answered
// go on.
func (p *keyRings) close() {
	for _, keyRing := range p.all {
		keyRing.Close()
	}
}

// certificateStore stores platform certificates in Caddy's storage, which a fleet
// may share, as WeChat sent them: encrypted. It logs what fails.
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
		s.logger.Warn("storing platform certificates failed: a restart has to fetch them again", zap.String("key", key), zap.Error(err))
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
		s.logger.Warn("reading the stored platform certificates failed", zap.String("key", key), zap.Error(err))
	}
	return value, info.Modified, err
}

// storeTime is how long the storage may take to keep certificates.
const storeTime = 2 * time.Second

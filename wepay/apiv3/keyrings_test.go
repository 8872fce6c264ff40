package apiv3_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
)

// lister is a WeChat that lists certificates of some serial numbers to one account,
// which has an APIv3 key of its own; an account that has none knows it by the public
// key.
type lister struct {
	*wechat
	*apiv3.KeyRing
	key string // the APIv3 key

	mu   sync.Mutex
	body string // "": it has none
}

func newLister(t *testing.T, name, key string, serials ...int64) *lister {
	t.Helper()
	l := &lister{key: key}
	l.lists(t, serials...)
	l.wechat = newWechat(t, func(http.ResponseWriter, *http.Request) answer {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.body == "" {
			return answer{status: http.StatusNotFound, body: `{"code":"RESOURCE_NOT_EXISTS","message":"x"}`}
		}
		return answer{body: l.body, header: signedBy(t, wechatsKey(t), serialOf(serials[0]), l.body)}
	})
	m := l.merchant(t)
	m.Name, m.APIv3Key = name, key
	if len(serials) > 0 {
		m.PublicKey, m.PublicKeyID = nil, ""
	}
	l.KeyRing = apiv3.NewKeyRing(m, nil, wepay.ClientOptions{Now: l.clock.Now, Transport: plainTransport(t)})
	return l
}

func (l *lister) lists(t *testing.T, serials ...int64) {
	t.Helper()
	var all []listed
	for _, serial := range serials {
		all = append(all, listed{serial: serial, sealedBy: l.key})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(all) > 0 {
		l.body = list(t, all...)
	}
}

// naming is a notification of a time that names the key it is signed with, and
// brings what an APIv3 key opens.
func naming(t testing.TB, serial, key string, at time.Time) *apiv3.Unverified {
	t.Helper()
	return unverified(t, serial, at, fmt.Sprintf(`{"event_type":"x","resource_type":"encrypt-resource","resource":{"algorithm":"AEAD_AES_256_GCM","nonce":"61f9c719728a","associated_data":"certificate","ciphertext":%q}}`,
		sealed(t, key, "{}")))
}

func unverified(t testing.TB, serial string, at time.Time, body string) *apiv3.Unverified {
	t.Helper()
	u, err := apiv3.ReadNotification(http.Header{
		"Wechatpay-Timestamp": {strconv.FormatInt(at.Unix(), 10)}, "Wechatpay-Nonce": {"n"}, "Wechatpay-Serial": {serial}, "Wechatpay-Signature": {"AAAA"},
	}, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// naming is one for the shop, of now.
func (s *shop) naming(serial string) *apiv3.Unverified {
	s.t.Helper()
	return naming(s.t, serial, apiV3Key, s.clock.Now())
}

// keyOf is an account's APIv3 key.
func keyOf(n int) string { return fmt.Sprintf("v3v3v3v3v3v3v3v3v3v3v3v3v3%06d", n) }

// An account is found by the key that signed. For one that nobody has WeChat is
// asked about the account whose APIv3 key opens the content, and no other.
func TestKeyRings(t *testing.T) {
	a, b := newLister(t, "a", keyOf(1), 1, 7), newLister(t, "b", keyOf(2), 2)
	public := newLister(t, "c", keyOf(3))
	twin := apiv3.NewKeyRing(public.Merchant(), nil, wepay.ClientOptions{Now: public.clock.Now, Transport: plainTransport(t)})
	ps := apiv3.NewKeyRings(public.KeyRing, twin, a.KeyRing, b.KeyRing)
	if !slices.Equal(ps.All(), []*apiv3.KeyRing{public.KeyRing, twin, a.KeyRing, b.KeyRing}) {
		t.Errorf("got %v", ps.All())
	}
	all := []*lister{a, b, public}
	// finds demands who holds a key, and how often WeChat was asked about each.
	finds := func(what string, u *apiv3.Unverified, asked []int, want ...*apiv3.KeyRing) {
		t.Helper()
		found, err := ps.Find(t.Context(), u)
		if !slices.Equal(found, want) || (err == nil) != (len(want) > 0) || len(want) == 0 && !errors.Is(err, wepay.ErrUnknownKey) {
			t.Errorf("%s: got %v, %v", what, found, err)
		}
		for i, l := range all {
			if l.asked() != asked[i] {
				t.Errorf("%s: WeChat was asked %d times about %d, wants %d", what, l.asked(), i, asked[i])
			}
		}
	}
	finds("by the public key", naming(t, public.Merchant().PublicKeyID, keyOf(3), start), []int{0, 0, 0}, public.KeyRing, twin)
	finds("a stranger's", naming(t, serialOf(1), keyOf(4), start), []int{0, 0, 0})
	// At once, whoever else there is.
	finds("by a certificate", naming(t, serialOf(2), keyOf(2), start), []int{0, 1, 0}, b.KeyRing)
	finds("by another's", naming(t, serialOf(1), keyOf(1), start), []int{1, 1, 0}, a.KeyRing)
	finds("a second certificate", naming(t, serialOf(7), keyOf(1), start), []int{1, 1, 0}, a.KeyRing)
	for range 10 {
		finds("not twice in a minute", naming(t, serialOf(8), keyOf(1), start), []int{1, 1, 0})
	}
	a.clock.Advance(time.Minute)
	public.clock.Advance(time.Minute) // which is the first, and tells the time
	later := start.Add(time.Minute)
	a.lists(t, 1, 8)
	finds("a minute later", naming(t, serialOf(8), keyOf(1), later), []int{2, 1, 0}, a.KeyRing)
	// What an account learns by itself is found as well, and what expires is not.
	a.lists(t, 1, 9)
	if err := a.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	finds("a new one", naming(t, serialOf(9), keyOf(4), later), []int{3, 1, 0}, a.KeyRing)
	a.clock.Advance(2 * time.Hour)
	finds("an expired one", naming(t, serialOf(9), keyOf(4), later), []int{3, 1, 0})
	for _, odd := range []string{"x", strings.Repeat("a", 40), "PUB_KEY_ID_01"} {
		finds(odd, naming(t, odd, keyOf(1), later), []int{3, 1, 0})
	}
	if _, err := apiv3.NewKeyRings().Find(t.Context(), naming(t, serialOf(1), keyOf(1), start)); !errors.Is(err, wepay.ErrUnknownKey) {
		t.Errorf("of none: got %v", err)
	}
}

// Accounts that were given one APIv3 key are asked about in turn, until one has
// the certificate.
func TestKeyRingsOfOneAPIv3Key(t *testing.T) {
	none, other, right, last := newLister(t, "none", apiV3Key), newLister(t, "other", apiV3Key, 3), newLister(t, "right", apiV3Key, 2), newLister(t, "last", apiV3Key, 4)
	ps := apiv3.NewKeyRings(none.KeyRing, other.KeyRing, right.KeyRing, last.KeyRing)
	found, err := ps.Find(t.Context(), naming(t, serialOf(2), apiV3Key, start))
	if err != nil || !slices.Equal(found, []*apiv3.KeyRing{right.KeyRing}) {
		t.Errorf("got %v, %v", found, err)
	}
	for range 5 {
		// The first could not tell, so that it may be that one's.
		if _, err := ps.Find(t.Context(), naming(t, serialOf(9), apiV3Key, start)); !errors.Is(err, wepay.ErrNoAnswer) {
			t.Errorf("got %v", err)
		}
	}
	for _, l := range []*lister{none, other, right, last} {
		if l.asked() != 1 {
			t.Errorf("%s was asked about %d times", l.Merchant().Name, l.asked())
		}
	}
}

// A certificate that has just come is found, also before all are sorted by it.
func TestFindWhatHasJustCome(t *testing.T) {
	a := newLister(t, "a", keyOf(1), 1)
	ps := apiv3.NewKeyRings(a.KeyRing)
	if _, err := ps.Find(t.Context(), naming(t, serialOf(1), keyOf(2), start)); !errors.Is(err, wepay.ErrUnknownKey) {
		t.Errorf("a stranger's: got %v", err)
	}
	apiv3.Untold(a.KeyRing)
	if err := a.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found, err := ps.Find(t.Context(), naming(t, serialOf(1), keyOf(1), start)); err != nil || !slices.Equal(found, []*apiv3.KeyRing{a.KeyRing}) {
		t.Errorf("got %v, %v", found, err)
	}
}

// Who finds no time to try all keys is refused, and so is who would be one too many
// of those that wait: at once. What is known, or named, waits for nobody.
func TestFindWaitsForOthers(t *testing.T) {
	a := newLister(t, "a", keyOf(1), 1)
	ps := apiv3.NewKeyRings(a.KeyRing)
	u := naming(t, serialOf(1), keyOf(1), start)
	busy := func(ctx context.Context, cause error) {
		t.Helper()
		if found, err := ps.Find(ctx, u); !errors.Is(err, wepay.ErrBusy) || !errors.Is(err, cause) || errors.Is(err, wepay.ErrNoAnswer) {
			t.Errorf("got %v, %v", found, err)
		}
	}
	end, err := apiv3.Search(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	busy(ctx, context.DeadlineExceeded)
	waiting, leave := context.WithCancel(t.Context())
	var others sync.WaitGroup
	for range apiv3.Room() - 1 {
		others.Go(func() { busy(waiting, context.Canceled) })
	}
	for apiv3.Waiting() < apiv3.Room() {
		runtime.Gosched()
	}
	busy(t.Context(), wepay.ErrBusy)
	leave()
	others.Wait()
	if _, err := a.Key(t.Context(), u); err != nil { // one that is named waits for nobody
		t.Error(err)
	}
	if found, err := ps.Find(ctx, u); err != nil || len(found) != 1 {
		t.Errorf("what is known: got %v, %v", found, err)
	}
	end()
	if apiv3.Waiting() > 0 {
		t.Errorf("%d wait for ever", apiv3.Waiting())
	}
}

// After a restart the accounts are found by the stored certificates.
func TestKeyRingsAfterRestart(t *testing.T) {
	s := openShop(t, ways[0])
	if err := s.keyRing.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	serial := s.keyRing.Serial()
	s.connect()
	ps := apiv3.NewKeyRings(s.keyRing)
	if found, err := ps.Find(t.Context(), s.naming(serial)); err != nil || len(found) != 1 || s.fetches() != 1 {
		t.Errorf("got %v, %v, %d fetches", found, err, s.fetches())
	}
}

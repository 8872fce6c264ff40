package apiv3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
)

// slow is a WeChat Pay that lists a certificate when a test has it answer.
type slow struct {
	*apiv3.KeyRing
	asked  chan struct{} // one for each time it was
	answer chan struct{} // what the test sends
	ended  chan error    // why a question was given up
	list   string
	header http.Header       // which signs it
	names  *apiv3.Unverified // a notification of WeChat's that is signed with it
}

// newSlow is made in a bubble, where whoever waits takes no time.
func newSlow(t *testing.T, store apiv3.Store) *slow {
	t.Helper()
	s := &slow{
		asked: make(chan struct{}, 9), answer: make(chan struct{}, 9), ended: make(chan error, 9),
		list: list(t, listed{serial: 1}), names: naming(t, serialOf(1), apiV3Key, start),
	}
	m := (&wechat{Server: new(httptest.Server), keys: vectorKeys(t)}).merchant(t)
	m.PublicKey, m.PublicKeyID, m.Endpoints = nil, "", []string{"https://wechat.invalid", "https://spare.invalid"}
	s.KeyRing = apiv3.NewKeyRing(m, store, wepay.ClientOptions{Transport: s, Timeout: time.Hour, Now: func() time.Time { return start }})
	t.Cleanup(s.Close)
	s.header = signedBy(t, wechatsKey(t), s.names.Serial(), s.list)
	return s
}

func (s *slow) RoundTrip(r *http.Request) (*http.Response, error) {
	s.asked <- struct{}{}
	select {
	case <-s.answer:
		return &http.Response{StatusCode: http.StatusOK, Header: s.header, Body: io.NopCloser(strings.NewReader(s.list))}, nil
	case <-r.Context().Done():
		s.ended <- context.Cause(r.Context())
		return nil, context.Cause(r.Context())
	}
}

// ask waits for the certificate, and returns the result.
func (s *slow) ask(ctx context.Context) <-chan error {
	got := make(chan error, 1)
	go func() {
		_, err := s.Key(ctx, s.names)
		got <- err
	}()
	synctest.Wait()
	return got
}

// A download goes on when the one who had it begun gives up, and is there for
// who comes next.
func TestDownloadOutlivesWhoGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlow(t, nil)
		first, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		if err := <-s.ask(first); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, wepay.ErrNoAnswer) {
			t.Errorf("who gave up got %v", err)
		}
		second := s.ask(t.Context())
		s.answer <- struct{}{}
		if err := <-second; err != nil {
			t.Errorf("the next got %v", err)
		}
		if len(s.asked) != 1 || len(s.ended) != 0 {
			t.Errorf("WeChat was asked %d times, %d of them in vain", len(s.asked), len(s.ended))
		}
	})
}

// Whoever comes while a certificate is looked for among all accounts waits for
// that, too, and is not told that nobody knows it.
func TestFindWaitsForDownload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlow(t, nil)
		all := apiv3.NewKeyRings(s.KeyRing)
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		if _, err := all.Find(ctx, s.names); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who gave up got %v", err)
		}
		found := make(chan []*apiv3.KeyRing, 1)
		go func() {
			rings, err := all.Find(t.Context(), s.names)
			if err != nil {
				t.Error(err)
			}
			found <- rings
		}()
		synctest.Wait()
		s.answer <- struct{}{}
		if got := <-found; len(got) != 1 || got[0] != s.KeyRing || len(s.asked) != 1 {
			t.Errorf("found %v, WeChat was asked %d times", got, len(s.asked))
		}
		if _, err := all.Find(t.Context(), naming(t, serialOf(2), apiV3Key, start)); !errors.Is(err, wepay.ErrUnknownKey) || len(s.asked) != 1 {
			t.Errorf("another one: got %v, WeChat was asked %d times", err, len(s.asked))
		}
	})
}

// Close ends a download that nobody waits for, whatever its time-out, and the
// next access point is not asked.
func TestCloseEndsDownload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlow(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		got := s.ask(ctx)
		cancel()
		if err := <-got; !errors.Is(err, context.Canceled) {
			t.Errorf("who gave up got %v", err)
		}
		synctest.Wait()
		if len(s.ended) != 0 {
			t.Error("it ended with the one who gave up")
		}
		before := time.Now()
		s.Close()
		if passed := time.Since(before); passed != 0 || len(s.ended) != 1 || len(s.asked) != 1 {
			t.Errorf("Close took %s, %d of %d downloads ended", passed, len(s.ended), len(s.asked))
		}
		s.Close() // again, which does no harm
	})
}

// Who waits is not hurt by Close: the download ends with the last of them.
func TestCloseWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlow(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		patient, hasty := s.ask(t.Context()), s.ask(ctx)
		before := time.Now()
		s.Close()
		if passed := time.Since(before); passed != 0 {
			t.Errorf("Close took %s", passed)
		}
		cancel()
		<-hasty
		s.answer <- struct{}{}
		if err := <-patient; err != nil || len(s.ended) != 0 {
			t.Errorf("who waits gets %v", err)
		}

		// Nobody is left to wait for this one.
		ctx, cancel = context.WithCancel(t.Context())
		again := make(chan error, 1)
		go func() { again <- s.Refresh(ctx) }()
		synctest.Wait()
		cancel()
		<-again
		synctest.Wait()
		if len(s.ended) != 1 || len(s.asked) != 2 {
			t.Errorf("%d of %d downloads ended", len(s.ended), len(s.asked))
		}
	})
}

// What Close ended was not asked: whoever still needs a certificate has it
// fetched.
func TestAskingAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlow(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		got := s.ask(ctx)
		cancel()
		<-got
		s.Close()
		s.answer <- struct{}{}
		if err := <-s.ask(t.Context()); err != nil {
			t.Errorf("got %v", err)
		}
	})
}

// stuck is a store that answers nobody before their time is up.
type stuck struct{}

func (stuck) Store(ctx context.Context, _ string, _ []byte) error { <-ctx.Done(); return ctx.Err() }

func (stuck) Load(ctx context.Context, _ string) ([]byte, time.Time, error) {
	<-ctx.Done()
	return nil, time.Time{}, ctx.Err()
}

// A store that hangs holds nobody up for longer than they have time.
func TestStoreHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlow(t, stuck{})
		long, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		first := s.ask(long)
		short, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		before := time.Now()
		if err := <-s.ask(short); !errors.Is(err, context.DeadlineExceeded) || time.Since(before) != 4*time.Second {
			t.Errorf("who has 4 s got %v after %s", err, time.Since(before))
		}
		<-first
		// A download that cannot be stored ends with Close as well.
		s.answer <- struct{}{}
		synctest.Wait()
		s.Close()
		if !s.Holds(s.names.Serial()) {
			t.Error("what was fetched is not held")
		}
	})
}

// All who wait for certificates wait for one fetch, and who gives up gives up
// for himself alone.
func TestOneFetchForAll(t *testing.T) {
	s := openShop(t, ways[0])
	release := make(chan struct{})
	arrived := make(chan struct{})
	var once sync.Once
	s.merchant.Endpoints = []string{"https://wechat.invalid"}
	s.connectOver(roundTripper(func(r *http.Request) (*http.Response, error) {
		once.Do(func() { close(arrived) })
		<-release
		return nil, errors.New("no network")
	}))
	names := s.naming(strings.Repeat("A", 40))
	gave, cancel := context.WithCancel(t.Context())
	var first, all sync.WaitGroup
	first.Go(func() {
		if _, err := s.keyRing.Key(gave, names); !errors.Is(err, context.Canceled) || !errors.Is(err, wepay.ErrNoAnswer) {
			t.Errorf("who gave up got %v", err)
		}
	})
	<-arrived
	cancel()
	first.Wait()
	for range 20 {
		all.Go(func() {
			if _, err := s.keyRing.Key(t.Context(), names); !errors.Is(err, wepay.ErrNoAnswer) || errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
	}
	close(release)
	all.Wait()
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Many calls at once fetch once.
func TestConcurrentCalls(t *testing.T) {
	s := openShop(t, ways[0])
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if _, err := s.client.Do(t.Context(), wepay.PlaceOrder, order(fmt.Sprintf("ORDER-%04d", i), "1")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if s.fetches() != 1 {
		t.Errorf("%d fetches", s.fetches())
	}
}

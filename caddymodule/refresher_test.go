package caddymodule

import (
	"bytes"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// lister is a WeChat Pay that lists certificates, at the time of a bubble.
type lister struct {
	wechat *wepaytest.Server
	clock  *wepaytest.FakeClock

	mu    sync.Mutex
	does  func(*http.Request) error // nil: nothing goes wrong
	asked []time.Time
}

// newLister is made outside of a bubble, since its connections are real.
func newLister(t *testing.T) *lister {
	t.Helper()
	// Bubbles begin at this time.
	l := &lister{clock: wepaytest.NewFakeClock(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))}
	var err error
	if l.wechat, err = wepaytest.NewServer(wepaytest.WithClock(l.clock)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.wechat.Close)
	return l
}

func (l *lister) RoundTrip(r *http.Request) (*http.Response, error) {
	l.mu.Lock()
	l.asked = append(l.asked, time.Now())
	does := l.does
	l.mu.Unlock()
	if does != nil {
		return nil, does(r)
	}
	l.clock.Advance(time.Since(l.clock.Now()))
	transport := wepay.NewTransport(new(wepay.Merchant))
	transport.TLSClientConfig.RootCAs = l.wechat.RootCAs()
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, err
}

// fails has every question fail that comes from now on.
func (l *lister) fails(does func(*http.Request) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.does = does
}

// took returns when it was asked, since it was called last.
func (l *lister) took() []time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	asked := l.asked
	l.asked = nil
	return asked
}

// accounts are those of so many merchants.
func (l *lister) accounts(t *testing.T, n int) *keyRings {
	t.Helper()
	all := newKeyRings(nil)
	for i := range n {
		m := *testMerchant
		m.Name, m.MchID = fmt.Sprintf("shop%d", i), fmt.Sprintf("19000001%02d", i)
		m.API, m.APIv3Key, m.Endpoints = wepay.V3, testV3Key, []string{l.wechat.URL}
		if err := l.wechat.AddMerchant(wepaytest.Merchant{MchID: m.MchID, AppIDs: []string{m.AppID}, APIv3Key: testV3Key}); err != nil {
			t.Fatal(err)
		}
		credential, err := l.wechat.Issue(m.MchID)
		if err != nil {
			t.Fatal(err)
		}
		m.PrivateKey, m.MchSerial, m.Certificate = credential.Certificate.PrivateKey.(*rsa.PrivateKey), credential.Serial, nil
		all.of(&m, wepay.ClientOptions{Transport: l, Timeout: time.Hour})
	}
	return all
}

func newRefresher(t *testing.T, all *keyRings) *refresher {
	t.Helper()
	return startRefresher(all, zap.NewNop(), newMetrics())
}

func noNetwork(*http.Request) error { return errors.New("no network") }

// checkPauses demands that each request came so long after the one before it, or
// at the latest with the refresher's next round.
func checkPauses(t *testing.T, asked []time.Time, pause time.Duration) {
	t.Helper()
	for i, at := range asked[min(1, len(asked)):] {
		if since := at.Sub(asked[i]); since < pause || since > pause+refreshPause*3/2 {
			t.Errorf("request %d came after %s, want %s and no round more", i+2, since, pause)
		}
	}
}

// What failed is fetched again after a while, and what was fetched before it is
// old.
func TestRefresherFetchesInTime(t *testing.T) {
	wechat := newLister(t)
	all := wechat.accounts(t, 1)
	synctest.Test(t, func(t *testing.T) {
		wechat.fails(noNetwork)
		k := newRefresher(t, all)
		defer k.stop()
		synctest.Wait()
		if asked := wechat.took(); len(asked) != 1 {
			t.Fatalf("asked %d times at first", len(asked))
		}
		time.Sleep(time.Hour)
		failed := wechat.took()
		if checkPauses(t, failed, 5*time.Minute); len(failed) < 9 || len(failed) > 12 {
			t.Errorf("asked %d times in an hour", len(failed))
		}
		wechat.fails(nil)
		time.Sleep(7 * time.Minute)
		fetched := wechat.took()
		if len(fetched) != 1 || all.all[0].Expires().IsZero() {
			t.Fatalf("asked %d times, and nothing is held", len(fetched))
		}
		time.Sleep(95 * time.Hour)
		fetched = append(fetched, wechat.took()...)
		if checkPauses(t, fetched, apiv3.RefreshEvery); len(fetched) != 10 {
			t.Errorf("asked %d times in 95 hours", len(fetched))
		}
	})
}

// Servers that are started together do not go on asking together.
func TestRefreshersSpread(t *testing.T) {
	wechat := newLister(t)
	var fleet []*keyRings
	for range 20 {
		fleet = append(fleet, wechat.accounts(t, 1))
	}
	synctest.Test(t, func(t *testing.T) {
		wechat.fails(noNetwork)
		for _, server := range fleet {
			defer newRefresher(t, server).stop()
		}
		synctest.Wait()
		wechat.took()
		time.Sleep(5*time.Minute + refreshPause*3/2)
		asked := wechat.took()
		slices.SortFunc(asked, time.Time.Compare)
		if spread := asked[len(asked)-1].Sub(asked[0]); len(asked) != 20 || spread < refreshPause/4 {
			t.Errorf("%d requests within %s", len(asked), spread)
		}
	})
}

// Access points that never answer are asked about a few accounts at a time, and
// do not delay a stop.
func TestRefresherStops(t *testing.T) {
	wechat := newLister(t)
	all := wechat.accounts(t, 20)
	synctest.Test(t, func(t *testing.T) {
		wechat.fails(func(r *http.Request) error {
			<-r.Context().Done()
			return r.Context().Err()
		})
		k := newRefresher(t, all)
		time.Sleep(time.Minute)
		if asked := wechat.took(); len(asked) != refreshesAtOnce {
			t.Errorf("asked about %d accounts at once", len(asked))
		}
		began := time.Now()
		k.stop()
		all.close()
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %s", took)
		}
		if asked := wechat.took(); len(asked) != 0 {
			t.Errorf("it went on to ask about %d accounts", len(asked))
		}
	})
}

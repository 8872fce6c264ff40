package wepaytest_test

import (
	"slices"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

func TestFakeClock(t *testing.T) {
	clock := wepaytest.NewFakeClock(start)
	var got []string
	at := func(d time.Duration, name string) func() bool {
		return clock.AfterFunc(d, func() { got = append(got, name+" "+clock.Now().Sub(start).String()) })
	}
	at(3*time.Second, "third")
	at(time.Second, "first")
	at(time.Second, "second")
	stop := at(2*time.Second, "never")
	at(9*time.Second, "late")
	clock.AfterFunc(time.Second, func() { at(time.Second, "nested") })
	if !stop() || stop() {
		t.Error("stopping says that it was too late, or twice that it was not")
	}
	clock.Advance(5 * time.Second)
	if want := []string{"first 1s", "second 1s", "nested 2s", "third 3s"}; !slices.Equal(got, want) {
		t.Errorf("called were %q, want %q", got, want)
	}
	if now := clock.Now(); !now.Equal(start.Add(5 * time.Second)) {
		t.Errorf("it is %v", now)
	}
	clock.Advance(4 * time.Second)
	if len(got) != 5 {
		t.Errorf("called were %q", got)
	}
}

package sampler_test

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule/internal/sampler"
)

// Each is new once in a minute, and no more than a few are.
func TestDistinct(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := new(sampler.Distinct)
		for range 2 {
			for i, want := range []bool{true, false, true, false, true, false, false} {
				if got := d.New(strconv.Itoa(i/2), 3); got != want {
					t.Errorf("number %d: got %v", i, got)
				}
			}
			<-time.After(sampler.Interval - 1)
			if d.New("3", 3) || d.New("0", 3) {
				t.Error("the minute ended early")
			}
			<-time.After(1)
		}
	})
}

package demo

import (
	"testing"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/windsome/caddy-wepay/wepay"
)

// The walk is the first thing that a newcomer sees: each step fails when what
// it shows did not happen.
func TestWalk(t *testing.T) {
	for _, api := range []wepay.API{wepay.V2, wepay.V3} {
		t.Run(string(api), func(t *testing.T) {
			t.Setenv("XDG_DATA_HOME", t.TempDir()) // the demo sets both; this puts them back
			t.Setenv("XDG_CONFIG_HOME", t.TempDir())
			if err := run(t.Context(), options{once: true, api: api}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

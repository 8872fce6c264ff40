package demo

import (
	"testing"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/windsome/caddy-wepay/wepay"
)

// The walk is the first thing that a newcomer sees: each step fails when what
// it shows did not happen.
func TestWalk(t *testing.T) {
	for name, options := range map[string]options{
		"v2":                  {api: wepay.V2},
		"v3":                  {api: wepay.V3},
		"v2, nothing is told": {api: wepay.V2, lose: true},
		"v3, nothing is told": {api: wepay.V3, lose: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("XDG_DATA_HOME", t.TempDir()) // the demo sets both; this puts them back
			t.Setenv("XDG_CONFIG_HOME", t.TempDir())
			options.once = true
			if err := run(t.Context(), options); err != nil {
				t.Fatal(err)
			}
		})
	}
}

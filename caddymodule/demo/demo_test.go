package demo

import (
	"testing"

	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

// The walk is the first thing that a newcomer sees: each step fails when what
// it shows did not happen.
func TestWalk(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir()) // the demo sets both; this puts them back
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	if err := run(t.Context(), options{once: true}); err != nil {
		t.Fatal(err)
	}
}

package caddymodule_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/caddymodule/store/storetest"
)

// engine is the store that the worlds of these tests have.
const engine = "memory"

// memoryStore is storetest's as a guest: those of one name have the same events.
type memoryStore struct {
	*storetest.Memory `json:"-"`

	Name string `json:"name,omitempty"`
}

func init() { caddy.RegisterModule(&memoryStore{}) }

func (*memoryStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "wepay.store.memory", New: func() caddy.Module { return new(memoryStore) }}
}

func (m *memoryStore) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&m.Name) {
		return d.ArgErr()
	}
	return nil
}

var memories sync.Map

func (m *memoryStore) Provision(caddy.Context) error {
	first, _ := memories.LoadOrStore(m.Name, storetest.NewMemory())
	m.Memory = first.(*storetest.Memory).Another()
	return nil
}

// Open refuses a name that stands for a file, as a store in a file refuses one of
// another kind.
func (m *memoryStore) Open(ctx context.Context, options store.Options) error {
	if _, err := os.Stat(m.Name); err == nil {
		return fmt.Errorf("%s is no store", m.Name)
	}
	return m.Memory.Open(ctx, options)
}

// needsFile skips what a store in memory does not do.
func needsFile(t *testing.T) {
	if engine == "memory" {
		t.Skip("needs a store in a file")
	}
}

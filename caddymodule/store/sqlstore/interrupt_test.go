package sqlstore

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/ncruces/go-sqlite3"
)

// A query whose context ends fails: it does not find nothing.
func TestSQLiteInterrupted(t *testing.T) {
	c := newConn()
	if err := c.open(filepath.Join(t.TempDir(), "store.db"), sqlite3.OPEN_READWRITE|sqlite3.OPEN_CREATE); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	found := 0
	query := func() error { return c.query("SELECT 1", func(func(...any) error) error { found++; return nil }) }
	if err := query(); err != nil || found != 1 { // so that it is prepared
		t.Fatalf("a query finds %d rows (%v)", found, err)
	}
	err := c.within(ctx, func() error {
		cancel()
		return query()
	})
	if err == nil {
		t.Errorf("an interrupted query finds %d rows, and no error", found)
	}
	if err := c.close(); err != nil {
		t.Error(err)
	}
}

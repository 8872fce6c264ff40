package caddymodule

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// records calls found for each record of an event, and lost for each page, with
// all below it, or each element of one that cannot be read. bbolt would stop
// there.
func (tx *boltTx) records(found func(number uint64, record []byte) error, lost func(error)) error {
	return tx.walk(boltEvents, func(key, value []byte) error { return found(numberOf(key), value) }, lost)
}

// walk goes through a bucket as it was before the transaction.
func (tx *boltTx) walk(name []byte, found func(key, value []byte) error, lost func(error)) error {
	bucket := tx.Bucket(name)
	root := uint64(bucket.Root())
	if root == 0 { // it lies within a page that was checked when the file was opened
		return bucket.ForEach(found)
	}
	size := uint64(tx.DB().Info().PageSize)
	w := &boltWalk{boltPages{file: tx.store.file, size: size, end: uint64(tx.Size()) / size}, make(map[uint64]bool), found, lost}
	return w.page(root, 0)
}

// boltWalk is a walk through a bucket's pages.
type boltWalk struct {
	boltPages

	seen  map[uint64]bool
	found func(key, value []byte) error
	lost  func(error)
}

func (w *boltWalk) page(id uint64, depth int) error {
	page, flags, count, err := w.read(id)
	switch {
	case err != nil:
	case w.seen[id] || depth > deepest:
		err = fmt.Errorf("page %d is where it does not belong", id)
	case flags != leafPage && flags != branchPage || pageHeader+count*pageElement > uint64(len(page)):
		err = fmt.Errorf("page %d is no part of a bucket", id)
	}
	if err != nil {
		w.lost(fmt.Errorf("%w: %w", errDamagedPage, err))
		return nil
	}
	w.seen[id] = true
	for n := range count {
		if flags == leafPage {
			err = w.element(id, page, count, n)
		} else {
			err = w.page(childOf(page, n), depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// childOf returns the page that an element of a branch leads to.
func childOf(page []byte, n uint64) uint64 {
	return binary.NativeEndian.Uint64(page[pageHeader+n*pageElement+8:])
}

func (w *boltWalk) element(id uint64, page []byte, count, n uint64) error {
	_, key, value, err := elementOf(id, page, count, n)
	if err != nil {
		w.lost(fmt.Errorf("%w: %w", errDamagedPage, err))
		return nil
	}
	return w.found(key, value)
}

// checkUnlisted reads all pages where the free ones are not written down: bbolt
// looks for those in all others before it writes, in a goroutine where nothing
// could stop a panic.
func (tx *boltTx) checkUnlisted() error {
	size := uint64(tx.DB().Info().PageSize)
	p := &boltPages{file: tx.store.file, size: size}
	_, free, err := p.meta(uint64(tx.ID()))
	if err != nil || free != noPage {
		return err
	}
	for _, name := range append([][]byte{boltEvents}, boltIndexes...) {
		var damage error
		err := tx.walk(name, func(_, _ []byte) error { return nil }, func(err error) { damage = err })
		if err := errors.Join(err, damage); err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
	}
	return nil
}

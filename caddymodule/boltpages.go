package caddymodule

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"

	bolt "go.etcd.io/bbolt"
)

// bbolt takes what a page says of itself for true. Of most pages the worst is
// that something is not found, or a fault. But small buckets lie within the pages
// that name the buckets, are copied from there, and would be read beyond the
// copy's end; and pages that are said to be free are written over. So these are
// checked before anything else is done with a file.
//
// What is relied on here is bbolt's file format, version 2: internal/common of
// go.etcd.io/bbolt.

const (
	pageHeader   = 16 // ID, flags, count, overflow
	pageElement  = 16 // of a branch: position, key's size, page; of a leaf: flags, position, key's size, value's size
	bucketHeader = 16 // root page, sequence

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10

	bucketElement = 0x01

	deepest = 8         // pages below each other
	noPage  = 1<<64 - 1 // is where the free pages are written down
)

// boltPages reads a file's pages.
type boltPages struct {
	file io.ReaderAt
	size uint64 // of a page, in bytes
	end  uint64 // the first page that there is not
}

// checkPages looks at the pages whose damage does harm.
func checkPages(tx *bolt.Tx) error {
	file, err := os.Open(tx.DB().Path())
	if err != nil {
		return err
	}
	defer file.Close()
	p := &boltPages{file: file, size: uint64(tx.DB().Info().PageSize)}
	p.end = uint64(tx.Size()) / p.size
	root, free, err := p.meta(uint64(tx.ID()))
	if err != nil {
		return err
	}
	if err := p.checkNames(root, 0); err != nil {
		return err
	}
	return p.checkFree(free)
}

// meta finds the page that is the transaction's, which bbolt has checked, and
// what it says: where the names of buckets are, and the free pages.
func (p *boltPages) meta(txid uint64) (root, free uint64, err error) {
	for id := range uint64(2) {
		page := make([]byte, pageHeader+64)
		if _, err := p.file.ReadAt(page, int64(id*p.size)); err != nil {
			return 0, 0, err
		}
		field := func(n int) uint64 { return binary.NativeEndian.Uint64(page[pageHeader+16+8*n:]) }
		if field(4) == txid {
			return field(0), field(2), nil
		}
	}
	return 0, 0, fmt.Errorf("%w: neither meta page is of transaction %d", errDamaged, txid)
}

// read returns a page with those that it flows over to, what it is and how many
// elements it has.
func (p *boltPages) read(id uint64) (page []byte, flags, count uint64, err error) {
	page = make([]byte, p.size)
	if id < 2 || id >= p.end {
		return nil, 0, 0, fmt.Errorf("%w: there is no page %d", errDamaged, id)
	}
	if _, err := p.file.ReadAt(page, int64(id*p.size)); err != nil {
		return nil, 0, 0, err
	}
	more := uint64(binary.NativeEndian.Uint32(page[12:]))
	if binary.NativeEndian.Uint64(page) != id || more >= p.end-id {
		return nil, 0, 0, fmt.Errorf("%w: page %d is another", errDamaged, id)
	}
	if more > 0 {
		page = make([]byte, (1+more)*p.size)
		if _, err := p.file.ReadAt(page, int64(id*p.size)); err != nil {
			return nil, 0, 0, err
		}
	}
	return page, uint64(binary.NativeEndian.Uint16(page[8:])), uint64(binary.NativeEndian.Uint16(page[10:])), nil
}

// checkNames checks the pages that name the buckets, with those that lie within.
func (p *boltPages) checkNames(id uint64, depth int) error {
	page, flags, count, err := p.read(id)
	switch {
	case err != nil:
		return err
	case flags == leafPage:
		return checkElements(id, page, count, p.checkBucket)
	case flags != branchPage || depth > deepest || pageHeader+count*pageElement > uint64(len(page)):
		return fmt.Errorf("%w: page %d does not name buckets", errDamaged, id)
	}
	for n := range count {
		at := pageHeader + n*pageElement
		if err := checkBounds(id, page, at, count, binary.NativeEndian.Uint32(page[at:]), binary.NativeEndian.Uint32(page[at+4:])); err != nil {
			return err
		}
		if err := p.checkNames(childOf(page, n), depth+1); err != nil {
			return err
		}
	}
	return nil
}

// checkElements checks the elements of a leaf, and has their values checked.
func checkElements(id uint64, page []byte, count uint64, check func(flags uint32, value []byte) error) error {
	for n := range count {
		flags, _, value, err := elementOf(id, page, count, n)
		if err != nil {
			return err
		}
		if err := check(flags, value); err != nil {
			return fmt.Errorf("page %d: %w", id, err)
		}
	}
	return nil
}

// elementOf returns one of the elements of a leaf.
func elementOf(id uint64, page []byte, count, n uint64) (flags uint32, key, value []byte, err error) {
	if pageHeader+count*pageElement > uint64(len(page)) {
		return 0, nil, nil, fmt.Errorf("%w: page %d has no room for %d elements", errDamaged, id, count)
	}
	at := pageHeader + n*pageElement
	field := func(n uint64) uint32 { return binary.NativeEndian.Uint32(page[at+4*n:]) }
	position, keySize, valueSize := field(1), field(2), field(3)
	if err := checkBounds(id, page, at, count, position, keySize, valueSize); err != nil {
		return 0, nil, nil, err
	}
	begin := at + uint64(position)
	middle := begin + uint64(keySize)
	return field(0), page[begin:middle], page[middle : middle+uint64(valueSize)], nil
}

// checkBounds checks that what an element at a place says lies behind all
// elements and within the page.
func checkBounds(id uint64, page []byte, at, count uint64, position uint32, sizes ...uint32) error {
	begin := at + uint64(position)
	end := begin
	for _, size := range sizes {
		end += uint64(size)
	}
	if begin < pageHeader+count*pageElement || end > uint64(len(page)) {
		return fmt.Errorf("%w: page %d has an element from %d to %d", errDamaged, id, begin, end)
	}
	return nil
}

// checkBucket checks a bucket, and what lies within it.
func (p *boltPages) checkBucket(flags uint32, value []byte) error {
	if flags != bucketElement || len(value) < bucketHeader {
		return fmt.Errorf("%w: it names what is no bucket", errDamaged)
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		_, _, _, err := p.read(root)
		return err
	}
	page := value[bucketHeader:]
	if len(page) < pageHeader || binary.NativeEndian.Uint16(page[8:]) != leafPage {
		return fmt.Errorf("%w: a bucket within is none", errDamaged)
	}
	return checkElements(0, page, uint64(binary.NativeEndian.Uint16(page[10:])), func(flags uint32, _ []byte) error {
		if flags != 0 {
			return fmt.Errorf("%w: a bucket within has another", errDamaged)
		}
		return nil
	})
}

// checkFree checks the list of free pages, which are in order.
func (p *boltPages) checkFree(id uint64) error {
	if id == noPage { // bbolt looks for them
		return nil
	}
	page, flags, count, err := p.read(id)
	if err != nil {
		return err
	}
	list := page[pageHeader:]
	if count == 0xFFFF { // which says that the first number does
		count, list = binary.NativeEndian.Uint64(list), list[8:]
	}
	if flags != freelistPage || count > uint64(len(list)/8) {
		return fmt.Errorf("%w: page %d lists no free pages", errDamaged, id)
	}
	last := uint64(1) // pages 0 and 1 are never free
	for n := range count {
		free := binary.NativeEndian.Uint64(list[8*n:])
		if free <= last || free >= p.end {
			return fmt.Errorf("%w: page %d says that page %d is free", errDamaged, id, free)
		}
		last = free
	}
	return nil
}

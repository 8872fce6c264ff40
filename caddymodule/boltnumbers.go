package caddymodule

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"sync"
)

// boltNumbers are the numbers of a file's events by their IDs. They are in
// memory, some 40 bytes for each event: in the file each would stand in a page of
// its own, so that half of what is written would be for them.
type boltNumbers struct {
	mu   sync.RWMutex
	byID map[idHash]uint64
}

// idHash is of an ID. Two may have the same.
type idHash [8]byte

func hashOf(id string) (hash idHash) {
	sum := sha256.Sum256([]byte(id))
	copy(hash[:], sum[:])
	return hash
}

// find returns the number of the event that may have an ID, or 0.
func (b *boltNumbers) find(id string) uint64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.byID[hashOf(id)]
}

// settle notes what a transaction has written.
func (b *boltNumbers) settle(known, unknown map[idHash]uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for hash, number := range unknown {
		if b.byID[hash] == number {
			delete(b.byID, hash)
		}
	}
	maps.Copy(b.byID, known)
}

// replace forgets what was known before.
func (b *boltNumbers) replace(byID map[idHash]uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.byID = byID
}

// readIDs takes the IDs into memory, of which there should be so many.
func (tx *boltTx) readIDs(want int) error {
	const least = 100 // bytes that an event takes: a count that is damaged may be anything
	byID := make(map[idHash]uint64, min(want, int(tx.Size()/least)))
	n, cursor := 0, tx.Bucket(boltIDs).Cursor()
	for key, value := cursor.First(); key != nil; key, value = cursor.Next() {
		if len(key) != 8 || len(value) != len(idHash{}) {
			return fmt.Errorf("the IDs: %w", errDamaged)
		}
		byID[idHash(value)] = numberOf(key)
		n++
	}
	if n != want {
		return fmt.Errorf("%d events are known by their IDs, and %d were counted: %w", n, want, errDamaged)
	}
	tx.store.numbers.replace(byID)
	return nil
}

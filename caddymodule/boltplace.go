package caddymodule

import (
	"errors"
	"fmt"
	"os"
)

// checkPlace makes sure that the path still leads to the file that is open. What
// is written to one that was moved is durable, but no later start finds it.
func (s *boltStore) checkPlace() error {
	open, err := s.file.Stat()
	if err != nil {
		return fmt.Errorf("looking at the open file of %s: %w", s.path, err)
	}
	there, err := os.Stat(s.path)
	switch {
	case err == nil && os.SameFile(open, there):
		return nil
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("looking for the outbox's file: %w", err)
	}
	return fmt.Errorf("%s is not the file that this server has open, which was moved, removed or replaced: what WeChat hears SUCCESS for "+
		"is written to the open one. Move that back here, or export what is in it, restart the server and import it", s.path)
}

// errNoRoom says that new events would take what those that are there need.
var errNoRoom = errors.New("the disk is full")

// What is kept free on the file's disk, an eighth of it and no more than
// mostReserved bytes: to note what came of an event, or to forget it, takes pages
// too. A disk full to the last byte would never get emptier.
const (
	reservedPart = 8
	mostReserved = 8 << 20
)

// checkRoom refuses new events where there is no room but for what becomes of
// those that are there. The disk is asked once for a transaction.
func (tx *boltTx) checkRoom() error {
	if tx.room == nil {
		err := tx.store.checkDisk(tx.free)
		tx.room = &err
	}
	return *tx.room
}

// checkDisk refuses a disk with too little room, besides what the file has that
// may be written over. One that does not say is not refused.
func (s *boltStore) checkDisk(within int64) error {
	if s.file == nil { // it is just being made
		return nil
	}
	free, size, ok := diskRoom(s.file)
	if reserved := min(size/reservedPart, mostReserved); ok && free+within < reserved {
		return fmt.Errorf("%s: %w: it has %d bytes free, and %d are kept to hand over the events that are there. Make room", s.path, errNoRoom, free, reserved)
	}
	return nil
}

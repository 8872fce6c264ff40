package caddymodule

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// errDamaged says that what was read is not what was written.
var errDamaged = errors.New("damaged")

// encodeRecord writes an event down: a checksum, the length of what follows as
// JSON, that, and the payload byte for byte, which JSON would write otherwise.
func encodeRecord(e *Event) ([]byte, error) {
	meta := *e
	meta.Payload = nil
	text, err := json.Marshal(&meta)
	if err != nil {
		return nil, err
	}
	record := make([]byte, 8, 8+len(text)+len(e.Payload))
	binary.BigEndian.PutUint32(record[4:], uint32(len(text)))
	record = append(append(record, text...), e.Payload...)
	binary.BigEndian.PutUint32(record, crc32.Checksum(record[4:], crc32.MakeTable(crc32.Castagnoli)))
	return record, nil
}

func decodeRecord(record []byte) (*Event, error) {
	if len(record) < 8 || binary.BigEndian.Uint32(record) != crc32.Checksum(record[4:], crc32.MakeTable(crc32.Castagnoli)) {
		return nil, errDamaged
	}
	length := uint64(binary.BigEndian.Uint32(record[4:]))
	if length > uint64(len(record)-8) {
		return nil, errDamaged
	}
	e := new(Event)
	if err := json.Unmarshal(record[8:8+length], e); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if payload := record[8+length:]; len(payload) > 0 {
		e.Payload = bytes.Clone(payload)
	}
	return e, nil
}

// queueKey begins the keys of a queue, and of no other.
func queueKey(q Queue) []byte {
	key := binary.AppendUvarint(nil, uint64(len(q.Merchant)))
	key = append(key, q.Merchant...)
	key = binary.AppendUvarint(key, uint64(len(q.Kind)))
	return append(key, q.Kind...)
}

// timeKey sorts by time.
func timeKey(t time.Time) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(max(t.UnixNano(), 0)))
}

func numberKey(number uint64) []byte { return binary.BigEndian.AppendUint64(nil, number) }

// numberOf returns the number that a key ends with; 0, which no event has, of a
// key that is damaged.
func numberOf(key []byte) uint64 {
	if len(key) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(key[len(key)-8:])
}

func endedKey(e numbered) []byte { return append(timeKey(e.Ended), numberKey(e.number)...) }

func dueKey(q Queue, due time.Time, number uint64) []byte {
	return append(append(queueKey(q), timeKey(due)...), numberKey(number)...)
}

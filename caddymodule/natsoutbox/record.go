package natsoutbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/windsome/caddy-wepay/caddymodule"
)

// record is what a message says: a line of JSON, and then the payload byte for
// byte, which JSON would write otherwise.
type record struct {
	*caddymodule.Event

	// Until when it is somebody's, in whose hands it waits.
	Leased time.Time `json:"leased,omitzero"`

	// Of this writing alone, so that its writer knows it again.
	Mark string `json:"mark"`

	seq uint64 // in the stream; 0: not there
}

func (r *record) encode() ([]byte, error) {
	line := *r
	event := *r.Event
	event.Payload, line.Event = nil, &event
	text, err := json.Marshal(&line)
	if err != nil {
		return nil, err
	}
	return append(append(text, '\n'), r.Payload...), nil
}

// errDamaged says that a message is not what was written.
var errDamaged = errors.New("damaged message")

func decode(data []byte, seq uint64) (*record, error) {
	line, payload, found := bytes.Cut(data, []byte{'\n'})
	r := &record{Event: new(caddymodule.Event), seq: seq}
	err := errors.New("it is cut off")
	if found {
		err = json.Unmarshal(line, r)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: number %d of the stream is no event: %w", errDamaged, seq, err)
	}
	if len(payload) > 0 {
		r.Payload = bytes.Clone(payload)
	}
	return r, nil
}

// free is when it may be leased.
func (r *record) free() time.Time {
	if r.Leased.After(r.Due) {
		return r.Leased
	}
	return r.Due
}

// ended reports whether it is remembered only, and for how long still.
func (r *record) ended(keep time.Duration) (ttl time.Duration, ended bool) {
	if r.State != caddymodule.Delivered && r.State != caddymodule.Dropped {
		return 0, false
	}
	return max(time.Until(r.Ended.Add(keep)).Round(time.Second), time.Second), true
}

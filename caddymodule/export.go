package caddymodule

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// exported is an event as a line. Its payload is text there, since JSON within
// JSON would not stay as it is, byte for byte.
type exported struct {
	*Event
	Payload string `json:"payload,omitempty"`
}

// exportEnd is the last line of an export that is whole.
type exportEnd struct {
	Exported *int `json:"exported"`
}

// serveExport writes whole events as lines of JSON, with the customers' data
// that is in them, and at last how many they were.
func serveExport(o Outbox, w http.ResponseWriter, r *http.Request) error {
	filter, err := filterOf(r)
	if err != nil {
		return err
	}
	if _, err := o.Count(r.Context()); err != nil { // while the status can still be told
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	number := 0
	err = each(r.Context(), o, filter, func(e *Event) error {
		number++
		return json.NewEncoder(w).Encode(exported{e, string(e.Payload)})
	})
	if err != nil {
		panic(http.ErrAbortHandler) // the reader sees that it is cut off
	}
	return json.NewEncoder(w).Encode(exportEnd{&number})
}

// longestLine bounds a line of an import, in bytes.
const longestLine = 1 << 20

// serveImport stores what an export wrote. Events that are known are left as
// they are.
func serveImport(o Outbox, w http.ResponseWriter, r *http.Request) error {
	lines := bufio.NewScanner(r.Body)
	lines.Buffer(nil, longestLine)
	number, ended := 0, false
	for lines.Scan() {
		if ended {
			return badRequest("there are lines after the end")
		}
		var end exportEnd
		if err := json.Unmarshal(lines.Bytes(), &end); err == nil && end.Exported != nil {
			if ended = *end.Exported == number; !ended {
				return badRequest(fmt.Sprintf("%d events are imported, of %d that were exported: some lines are missing", number, *end.Exported))
			}
			continue
		}
		e, err := importedEvent(lines.Bytes())
		if err != nil {
			return badRequest(fmt.Sprintf("line %d (those before it are imported): %v", number+1, err))
		}
		if err := o.Put(r.Context(), e); err != nil {
			return fmt.Errorf("line %d: %w", number+1, err)
		}
		number++
	}
	switch err := lines.Err(); {
	case err != nil:
		return badRequest(fmt.Sprintf("line %d: %v", number+1, err))
	case !ended:
		return badRequest(fmt.Sprintf("the export is cut off after %d events, which are imported", number))
	}
	return answer(w, map[string]int{"imported": number})
}

func importedEvent(line []byte) (*Event, error) {
	from := exported{Event: new(Event)}
	if err := json.Unmarshal(line, &from); err != nil {
		return nil, err
	}
	e := from.Event
	waits := e.State == Waiting || e.State == Dead
	switch {
	case !eventID.MatchString(e.ID):
		return nil, errors.New("id: is no event's")
	case e.Merchant == "":
		return nil, errors.New("merchant: is required")
	case e.Kind != wepay.Payment && e.Kind != wepay.Refunded:
		return nil, fmt.Errorf("kind: %q is not known", e.Kind)
	case !waits && e.State != Delivered && e.State != Dropped:
		return nil, fmt.Errorf("state: %q is not known", e.State)
	case waits && !isObject(from.Payload):
		return nil, errors.New("payload: must be a JSON object")
	case e.Received.IsZero() || e.State == Waiting && e.Due.IsZero() || e.State != Waiting && e.Ended.IsZero():
		return nil, errors.New("received, due or ended: is missing")
	}
	if e.Since.IsZero() {
		e.Since = time.Now()
	}
	if waits {
		e.Payload = json.RawMessage(from.Payload)
	}
	return e, nil
}

func isObject(text string) bool {
	return json.Valid([]byte(text)) && bytes.HasPrefix(bytes.TrimSpace([]byte(text)), []byte("{"))
}

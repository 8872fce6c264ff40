package admin

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	strictjson "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/sync/errgroup"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

// exported is an event as a line. Its payload is text there, since JSON within
// JSON would not stay as it is, byte for byte.
type exported struct {
	*store.Event
	Payload string `json:"payload,omitempty"`
}

// exportEnd is the last line of an export that is whole.
type exportEnd struct {
	Exported *int `json:"exported"`
}

// serveExport writes whole events as lines of JSON, with the customers' data
// that is in them, and at last how many they were.
func serveExport(s store.Store, w http.ResponseWriter, r *http.Request) error {
	filter, err := filterOf(r)
	if err != nil {
		return err
	}
	if _, err := count(r.Context(), s); err != nil { // while the status can still be told
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	number := 0
	err = each(r.Context(), s, filter, func(e *store.Event) error {
		number++
		return json.NewEncoder(w).Encode(exported{e, string(e.Payload)})
	})
	switch {
	case err == nil:
		return json.NewEncoder(w).Encode(exportEnd{&number})
	case number == 0: // nothing was sent
		return err
	default:
		panic(http.ErrAbortHandler) // the reader sees that it is cut off
	}
}

// longestLine bounds a line of an import, in bytes.
const longestLine = 1 << 20

// serveImport stores what an export wrote, and says how many events that were
// and how many the store had before. Those are left as they are.
func serveImport(s store.Store, w http.ResponseWriter, r *http.Request) error {
	puts, ctx := errgroup.WithContext(r.Context())
	puts.SetLimit(changedAtOnce)
	var known atomic.Int64
	number, err := readExport(patient(w, r.Body), func(line int, e *store.Event) error {
		puts.Go(func() error {
			added, err := s.Put(ctx, e)
			if err != nil {
				return fmt.Errorf("line %d: %w", line, err)
			}
			if !added {
				known.Add(1)
			}
			return nil
		})
		return ctx.Err()
	})
	const again = "import it again when that is put right: what is there by then is left as it is"
	if putErr := puts.Wait(); putErr != nil {
		return fmt.Errorf("%w (%s)", putErr, again)
	}
	if err != nil {
		return badRequest(fmt.Sprintf("%v (what comes before is stored; %s)", err, again))
	}
	return answer(w, map[string]int{"imported": number - int(known.Load()), "known": int(known.Load())})
}

// mostSilence is how long an import may send nothing. Caddy gives a whole request
// to its admin endpoint 10 seconds, in which a large one does not come.
const mostSilence = time.Minute

// patient reads a request however long it takes, as long as something comes.
func patient(w http.ResponseWriter, body io.Reader) io.Reader {
	return &patientReader{http.NewResponseController(w), body}
}

type patientReader struct {
	connection *http.ResponseController
	body       io.Reader
}

func (p *patientReader) Read(text []byte) (int, error) {
	_ = p.connection.SetReadDeadline(time.Now().Add(mostSilence)) // one that has no deadlines needs none
	return p.body.Read(text)
}

// readExport reads an export to its end, and returns how many events it has.
func readExport(in io.Reader, do func(line int, e *store.Event) error) (number int, err error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, longestLine)
	ended := false
	for lines.Scan() {
		if ended {
			return number, fmt.Errorf("line %d: comes after the end", number+2)
		}
		var end exportEnd
		if err := strictjson.Unmarshal(lines.Bytes(), &end); err == nil && end.Exported != nil {
			if ended = *end.Exported == number; !ended {
				return number, fmt.Errorf("some lines are missing: there are %d events, of %d that were exported", number, *end.Exported)
			}
			continue
		}
		number++
		e, err := importedEvent(lines.Bytes())
		if err == nil {
			err = do(number, e)
		}
		if err != nil {
			return number, fmt.Errorf("line %d: %w", number, err)
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return number, fmt.Errorf("line %d: is longer than %d bytes", number+1, longestLine)
	case err != nil:
		return number, fmt.Errorf("line %d: %w", number+1, err)
	case !ended:
		return number, fmt.Errorf("the export is cut off after %d events", number)
	}
	return number, nil
}

func importedEvent(line []byte) (*store.Event, error) {
	from := exported{Event: new(store.Event)}
	if err := strictjson.Unmarshal(line, &from); err != nil {
		return nil, err
	}
	e := from.Event
	switch {
	case !eventID.MatchString(e.ID):
		return nil, errors.New("id: is no event's")
	case e.Merchant == "":
		return nil, errors.New("merchant: is required")
	case !slices.Contains(wepay.Kinds(), e.Kind):
		return nil, fmt.Errorf("kind: %q is not known", e.Kind)
	case !slices.Contains(store.States(), e.State):
		return nil, fmt.Errorf("state: %q is not known", e.State)
	case (e.State == store.Waiting || from.Payload != "") && !isPayload(e.Kind, from.Payload):
		return nil, errors.New("payload: must be a JSON object")
	case e.Received.IsZero() || e.State == store.Waiting && e.Due.IsZero() || e.State != store.Waiting && e.Ended.IsZero():
		return nil, errors.New("received, due or ended: is missing")
	}
	if e.Since.IsZero() {
		e.Since = time.Now()
	}
	if from.Payload != "" {
		e.Payload = json.RawMessage(from.Payload)
	}
	return e, nil
}

// isPayload reports whether an event of a kind may have it. What WeChat wrote of an
// event may be another JSON value than an object.
func isPayload(kind wepay.Kind, text string) bool {
	value := jsontext.Value(text)
	return value.IsValid() && (value.Kind() == '{' || kind == wepay.OtherEvent)
}

package natsoutbox

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/windsome/caddy-wepay/caddymodule"
)

// names is the stream's name, from which all others come. The subjects are
//
//	<stream>.<state>.<event ID>.<merchant>.<kind>   an event, in the stream
//	<stream>_DEAD.<event ID>.<merchant>.<kind>      a dead letter, in a stream of its own
//
// so that one pattern holds all that is written about an event, another what
// waits in a queue, and the subjects alone tell how many events are in a state.
type names string

// defaultStream is the stream where the config names none.
const defaultStream = "WEPAY"

var streamName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func parseNames(stream string) (names, error) {
	if stream == "" {
		stream = defaultStream
	}
	if !streamName.MatchString(stream) {
		return "", fmt.Errorf("stream: %q is not 1 to 64 letters, digits, - and _", stream)
	}
	return names(stream), nil
}

func (n names) events() string { return string(n) }

func (n names) letters() string { return string(n) + "_DEAD" }

func (n names) pattern(state, id, merchant, kind string) string {
	return strings.Join([]string{string(n), state, id, merchant, kind}, ".")
}

func (n names) letterPattern(id, merchant, kind string) string {
	return strings.Join([]string{n.letters(), id, merchant, kind}, ".")
}

func (n names) eventSubjects() string { return n.pattern("*", "*", "*", "*") }

func (n names) letterSubjects() string { return n.letterPattern("*", "*", "*") }

// event is where an event stands in its state.
func (n names) event(e *caddymodule.Event) string {
	return n.pattern(string(e.State), idToken(e.ID), token(e.Merchant), token(string(e.Kind)))
}

// letter is where an event stands among the dead letters.
func (n names) letter(e *caddymodule.Event) string {
	return n.letterPattern(idToken(e.ID), token(e.Merchant), token(string(e.Kind)))
}

// anyState is whatever is written about the event of an ID's token.
func (n names) anyState(id string) string { return n.pattern("*", id, "*", "*") }

// waiting is what waits in a queue.
func (n names) waiting(q caddymodule.Queue) string {
	return n.pattern(string(caddymodule.Waiting), "*", token(q.Merchant), token(string(q.Kind)))
}

func (n names) filter(f caddymodule.Filter) string {
	state, merchant := "*", "*"
	if f.State != "" {
		state = token(string(f.State))
	}
	if f.Merchant != "" {
		merchant = token(f.Merchant)
	}
	return n.pattern(state, "*", merchant, "*")
}

// parse returns what the subject of an event says, its ID as a token.
func (n names) parse(subject string) (state caddymodule.State, id, merchant string, ok bool) {
	rest, ok := strings.CutPrefix(subject, string(n)+".")
	parts := strings.Split(rest, ".")
	if !ok || len(parts) != 4 {
		return "", "", "", false
	}
	return caddymodule.State(parts[0]), parts[1], text(parts[2]), true
}

// consumer is the name of a queue's consumer, which is a file's name at the
// server: one that is too long for that is told by its hash.
func (n names) consumer(q caddymodule.Queue) string {
	return shorten(token(string(q.Kind)) + "-" + token(q.Merchant))
}

// idToken returns an ID as one word of a subject.
func idToken(id string) string { return shorten(token(id)) }

// shorten returns a token, or the hash of one that is too long.
func shorten(token string) string {
	if len(token) <= 128 {
		return token
	}
	hash := sha256.Sum256([]byte(token))
	return "=" + hex.EncodeToString(hash[:])
}

// token returns any text as one word of a subject, and of a file's name on a
// system that does not tell A from a: what is not a small letter, a digit, - or
// _ becomes = and two hexadecimal digits for each byte, and no text a single =.
func token(text string) string {
	if text == "" {
		return "="
	}
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; isPlain(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "=%02x", c)
		}
	}
	return b.String()
}

func isPlain(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// isToken reports whether a text has only what tokens have.
func isToken(text string) bool {
	for i := range len(text) {
		if c := text[i]; !isPlain(c) && c != '=' {
			return false
		}
	}
	return true
}

// text returns what a token stands for.
func text(token string) string {
	var b strings.Builder
	for i := 0; i < len(token); i++ {
		if token[i] == '=' && i+2 < len(token) {
			if c, err := strconv.ParseUint(token[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		if token != "=" {
			b.WriteByte(token[i])
		}
	}
	return b.String()
}

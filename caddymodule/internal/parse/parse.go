// Package parse reads what the blocks of several modules have in common in a
// Caddyfile.
package parse

import (
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Once remembers which directives a block has had.
type Once map[string]bool

// Check refuses the directive that the dispenser stands on if the block has had
// it before, unless it is one of the repeatable ones.
func (o Once) Check(d *caddyfile.Dispenser, repeatable ...string) error {
	directive := d.Val()
	if o[directive] && !slices.Contains(repeatable, directive) {
		return d.Errf("%s already specified", directive)
	}
	o[directive] = true
	return nil
}

// word is what a directive may be called. Keys, passphrases and tokens are longer, or
// have other characters.
var word = regexp.MustCompile(`^[a-z_]{1,24}$`)

// hidden stands for what may be a secret.
const hidden = "(not shown, as it may be a secret)"

// Word quotes what stands in the place of a directive, unless it may be a secret.
func Word(text string) string {
	if word.MatchString(text) {
		return strconv.Quote(text)
	}
	return hidden
}

// Value quotes what stands in the place of a number, a time or an address, unless it
// may be a secret.
func Value(text string) string {
	if len(text) <= 8 || address.MatchString(text) && strings.ContainsAny(text, ".:") {
		return strconv.Quote(text)
	}
	return Word(text)
}

// Hides reports whether Value does not show a text.
func Hides(text string) bool { return Value(text) == hidden }

var address = regexp.MustCompile(`^[0-9A-Fa-f.:/]{1,43}$`)

// ArgErr says that a directive has too few values, or too many.
func ArgErr(d *caddyfile.Dispenser, directive string) error {
	if d.Val() == directive || !Hides(d.Val()) {
		return d.ArgErr() // which repeats the last
	}
	return d.Errf("%s: wrong number of values", directive)
}

// Text reads a directive of one value.
func Text(d *caddyfile.Dispenser, text *string) error {
	directive := d.Val()
	if !d.AllArgs(text) {
		return ArgErr(d, directive)
	}
	return nil
}

// Path returns where a file is whose name stands where the dispenser does: a
// relative one starts at the Caddyfile, and not at the working directory, which is
// another one for `caddy reload` than for the server. One that begins with a
// placeholder stays as it is.
func Path(d *caddyfile.Dispenser, name string) string {
	if name == "" || strings.HasPrefix(name, "{") || filepath.IsAbs(name) {
		return name
	}
	path, err := filepath.Abs(filepath.Join(filepath.Dir(d.File()), name))
	if err != nil {
		return name // there is no working directory
	}
	return path
}

// Texts reads a directive of one value or more.
func Texts(d *caddyfile.Dispenser) ([]string, error) {
	texts := d.RemainingArgs()
	if len(texts) == 0 {
		return nil, d.ArgErr()
	}
	return texts, nil
}

// Switch reads a directive that is on where it stands.
func Switch(d *caddyfile.Dispenser, on *bool) error {
	directive := d.Val()
	if d.NextArg() {
		return ArgErr(d, directive)
	}
	*on = true
	return nil
}

// Duration reads a directive whose value is a time above 0.
func Duration(d *caddyfile.Dispenser, duration *caddy.Duration) error {
	directive, text := d.Val(), ""
	if err := Text(d, &text); err != nil {
		return err
	}
	parsed, err := caddy.ParseDuration(text)
	if err != nil || parsed <= 0 {
		return d.Errf("%s: %s is not a time above 0", directive, Value(text))
	}
	*duration = caddy.Duration(parsed)
	return nil
}

// Number reads a directive whose value is a whole number above 0.
func Number(d *caddyfile.Dispenser, number *int) error {
	directive, text := d.Val(), ""
	if err := Text(d, &text); err != nil {
		return err
	}
	parsed, err := strconv.Atoi(text)
	if err != nil || parsed <= 0 {
		return d.Errf("%s: %s is not a number above 0", directive, Value(text))
	}
	*number = parsed
	return nil
}

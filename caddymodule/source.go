package caddymodule

import (
	"errors"
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/windsome/caddy-wepay/wepay"
)

// source says where the Caddyfile has each directive ("Caddyfile:12"), so that
// what only provisioning can find wrong (a placeholder's value, a file) is
// reported with its line. The block's own place stands under "block".
type source map[string]string

// note remembers where the dispenser stands.
func (s *source) note(d *caddyfile.Dispenser, directive string) {
	if *s == nil {
		*s = make(source)
	}
	(*s)[directive] = fmt.Sprintf("%s:%d", d.File(), d.Line())
}

// locate puts the place of the directive that an error is about before it, or
// the place of the block. Config in JSON has no places.
func (s source) locate(err error) error {
	directive := ""
	var field *wepay.FieldError
	if errors.As(err, &field) {
		directive = field.Field
	}
	place, found := s[directive]
	if !found {
		place, found = s["block"]
	}
	if !found {
		return err
	}
	return fmt.Errorf("%s: %w", place, err)
}

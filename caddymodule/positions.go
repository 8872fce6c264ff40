package caddymodule

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/windsome/caddy-wepay/wepay"
)

// positions says where the Caddyfile has each directive of a block
// ("Caddyfile:12"), so that what only provisioning can find wrong (a
// placeholder's value, a file) is reported with its line. The block's own stands
// under "block".
type positions map[string]string

// note remembers where the dispenser stands.
func (p positions) note(d *caddyfile.Dispenser, directive string) {
	p[directive] = fmt.Sprintf("%s:%d", d.File(), d.Line())
}

// locate puts the position of the directive that an error is about before it, or
// that of the block. What did not come from a Caddyfile has none.
func (p positions) locate(err error) error {
	directive := ""
	var field *wepay.FieldError
	if errors.As(err, &field) {
		directive = field.Field
	}
	position, found := p[directive]
	if !found {
		position, found = p["block"]
	}
	if !found {
		return err
	}
	return fmt.Errorf("%s: %w", position, err)
}

// adapted has the positions of the blocks that this process has read last, by
// what they configure. The JSON in between has no room for them, but most
// commands, such as `caddy validate`, adapt and provision in one process; after
// `caddy reload`, which leaves provisioning to the server, errors have no lines.
var adapted struct {
	sync.Mutex
	blocks map[[sha256.Size]byte]positions
}

// forgetPositions is called before a Caddyfile is read.
func forgetPositions() {
	adapted.Lock()
	defer adapted.Unlock()
	adapted.blocks = make(map[[sha256.Size]byte]positions)
}

// keep remembers where a config was read from.
func (p positions) keep(config any) {
	key := sha256.Sum256(caddyconfig.JSON(config, nil))
	adapted.Lock()
	defer adapted.Unlock()
	if adapted.blocks == nil {
		adapted.blocks = make(map[[sha256.Size]byte]positions)
	}
	adapted.blocks[key] = p
}

// positionsOf returns where a config was read from. Provisioning asks before it
// changes anything of it.
func positionsOf(config any) positions {
	key := sha256.Sum256(caddyconfig.JSON(config, nil))
	adapted.Lock()
	defer adapted.Unlock()
	return adapted.blocks[key]
}

package caddymodule

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/windsome/caddy-wepay/wepay"
)

// readConfigFile reads merchants from the JSON file of the Node service that
// this module succeeds, one object or an array of them.
func readConfigFile(path string) ([]*MerchantConfig, error) {
	path, err := replace(caddy.NewReplacer(), "config_file", path)
	if err != nil {
		return nil, err
	}
	data, err := readFile("config_file", path)
	if err != nil {
		return nil, err
	}
	configs, err := parseConfigFile(data, path)
	if err != nil {
		return nil, &wepay.FieldError{Field: "config_file", Reason: path, Err: err}
	}
	for _, config := range configs {
		if err := config.findPFX(filepath.Dir(path)); err != nil {
			return nil, config.positions.locate(err)
		}
	}
	return configs, nil
}

// findPFX looks for the certificate beside the file that names it.
func (c *MerchantConfig) findPFX(dir string) error {
	if c.PFX == "" || filepath.IsAbs(c.PFX) {
		return nil
	}
	if isContents(c.PFX) {
		return contentsError("pfx")
	}
	path := filepath.Join(dir, c.PFX)
	// Joined it looks like a path, whatever it is.
	if _, err := os.Stat(path); err != nil && !isPath(c.PFX) && !strings.Contains(c.PFX, "{") {
		return unreadableError("pfx", c.PFX, err)
	}
	c.PFX = path
	return nil
}

// parseConfigFile reads the text of such a file and gives each merchant a name.
// Path is where errors about a merchant say that it is.
func parseConfigFile(data []byte, path string) ([]*MerchantConfig, error) {
	text, err := wepay.TextFile(data)
	if err != nil {
		return nil, err
	}
	r := &configReader{text: text, dec: newMemberReader(text), place: "config_file " + path}
	configs, err := r.entries()
	end := int(r.dec.InputOffset())
	var at *jsontext.SyntacticError
	switch {
	case errors.As(err, &at):
		return nil, r.wrong(int(at.ByteOffset), whyNoJSON(text, int(at.ByteOffset)))
	case err != nil:
		return nil, err
	case !isAtEnd(r.dec):
		return nil, r.wrong(end, "there is more behind the object or array: several objects belong in an array, [ … ]")
	}
	nameConfigEntries(configs)
	return configs, nil
}

// nameConfigEntries names each merchant by its name, which meant nothing to
// the Node service and may repeat or be left out, else by its mchId, and by
// its env as well where that repeats.
func nameConfigEntries(configs []*MerchantConfig) {
	names, ids := make(map[string]int), make(map[string]int)
	for _, config := range configs {
		names[config.Name]++
		ids[config.MchID]++
	}
	for _, config := range configs {
		switch {
		case config.Name != "" && names[config.Name] == 1:
		case ids[config.MchID] == 1:
			config.Name = config.MchID
		default:
			config.Name = config.MchID + "-" + cmp.Or(config.Env, string(wepay.H5))
		}
	}
}

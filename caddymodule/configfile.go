package caddymodule

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/windsome/caddy-wepay/wepay"
)

// readConfigFile reads merchants from the JSON file of the Node service that
// this module succeeds, one object or an array of them.
func readConfigFile(path string) ([]*MerchantConfig, error) {
	path, err := replace(caddy.NewReplacer(), "config_file", path)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, &wepay.FieldError{Field: "config_file", Reason: "reading the file", Err: err}
	}
	configs, err := parseConfigFile(data)
	if err != nil {
		return nil, &wepay.FieldError{Field: "config_file", Reason: path, Err: err}
	}
	for i, config := range configs {
		if config.PFX != "" && !filepath.IsAbs(config.PFX) {
			config.PFX = filepath.Join(filepath.Dir(path), config.PFX)
		}
		config.positions = positions{"block": fmt.Sprintf("config_file %s: entry %d", path, i+1)}
	}
	return configs, nil
}

// parseConfigFile reads the text of such a file and gives each merchant a
// name.
func parseConfigFile(data []byte) ([]*MerchantConfig, error) {
	var entries []map[string]json.RawMessage
	var into any = &entries
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		entries = make([]map[string]json.RawMessage, 1)
		into = &entries[0]
	}
	if err := json.Unmarshal(data, into); err != nil {
		return nil, fmt.Errorf("reading JSON, an object or an array of objects: %w", err)
	}
	var configs []*MerchantConfig
	for i, entry := range entries {
		config, err := parseConfigEntry(entry)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i+1, err)
		}
		configs = append(configs, config)
	}
	nameConfigEntries(configs)
	return configs, nil
}

func parseConfigEntry(entry map[string]json.RawMessage) (*MerchantConfig, error) {
	config := new(MerchantConfig)
	subMchID := ""
	keys := map[string]*string{
		"name": &config.Name, "env": &config.Env, "type": &config.Type,
		"appId": &config.AppID, "mchId": &config.MchID,
		"subAppId": &config.SubAppID, "subMchId": &subMchID,
		"notifyUrl": &config.NotifyURL, "cbNotifyUrl": &config.CbNotifyURL,
		"partnerKey": &config.PartnerKey, "pfx": &config.PFX, "passphrase": &config.Passphrase,
	}
	for _, key := range slices.Sorted(maps.Keys(entry)) {
		if strings.HasPrefix(key, "_") {
			continue
		}
		value, known := keys[key]
		if !known {
			return nil, fmt.Errorf("%q: no such key (a comment's key begins with _)", key)
		}
		if err := unmarshalConfigText(entry[key], value); err != nil {
			return nil, fmt.Errorf("%q: %w", key, err)
		}
	}
	if subMchID != "" {
		config.SubMchID = []string{subMchID}
	}
	return config, nil
}

// unmarshalConfigText reads text, or a number that somebody wrote without quotes: a
// mchId or a passphrase. Null is as if the key were not there.
func unmarshalConfigText(raw json.RawMessage, text *string) error {
	var number json.Number
	if err := json.Unmarshal(raw, text); err == nil {
		return nil
	} else if json.Unmarshal(raw, &number) != nil {
		return fmt.Errorf("must be text")
	}
	*text = number.String()
	return nil
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

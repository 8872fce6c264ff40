package caddymodule

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// configReader reads the entries of a config_file, and says where in it something
// is.
type configReader struct {
	text  []byte
	dec   *jsontext.Decoder
	place string // the file, as errors call it
}

// at is a line and column of the file, both from 1.
func (r *configReader) at(offset int) string {
	before := r.text[:min(offset, len(r.text))]
	line := before[bytes.LastIndexByte(before, '\n')+1:]
	return fmt.Sprintf("line %d, column %d", bytes.Count(before, []byte("\n"))+1, utf8.RuneCount(line)+1)
}

// wrong says where something is, and what: nothing of the file, in which there
// are keys.
func (r *configReader) wrong(offset int, what string) error {
	return fmt.Errorf("%s: %s", r.at(offset), what)
}

// next is where the next value begins.
func (r *configReader) next() int {
	offset := int(r.dec.InputOffset())
	for offset < len(r.text) && strings.IndexByte(" \t\r\n,:", r.text[offset]) >= 0 {
		offset++
	}
	return offset
}

// entries reads one object, or an array of them.
func (r *configReader) entries() (configs []*MerchantConfig, err error) {
	switch r.dec.PeekKind() {
	case '{':
		config, err := r.entry(1)
		return []*MerchantConfig{config}, err
	case '[':
	default:
		if _, err := r.dec.ReadValue(); err != nil && len(bytes.TrimSpace(r.text)) > 0 {
			return nil, err
		}
		return nil, r.wrong(0, "must be a JSON object, or an array of objects")
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return nil, err
	}
	for r.dec.PeekKind() != ']' {
		config, err := r.entry(len(configs) + 1)
		if err != nil {
			return nil, err
		}
		configs = append(configs, config)
	}
	_, err = r.dec.ReadToken()
	return configs, err
}

// entry reads one merchant, of which it is the number.
func (r *configReader) entry(number int) (*MerchantConfig, error) {
	begin := r.next()
	if r.dec.PeekKind() != '{' {
		if _, err := r.dec.ReadValue(); err != nil {
			return nil, err
		}
		return nil, r.wrong(begin, fmt.Sprintf("entry %d: must be an object", number))
	}
	config, subMchID := &MerchantConfig{}, ""
	config.positions = positions{"block": fmt.Sprintf("%s: %s: entry %d", r.place, r.at(begin), number)}
	keys := config.keys(&subMchID)
	seen := make(map[string]bool)
	err := eachMember(r.dec, func(key string, value jsontext.Value) error {
		offset := int(r.dec.InputOffset()) - len(value)
		d, known := keys[key]
		switch {
		case strings.HasPrefix(key, "_"):
			return nil
		case !known:
			return r.wrong(offset, fmt.Sprintf("entry %d: %s", number, unknownKey(key, keys)))
		case seen[key]:
			return r.wrong(offset, fmt.Sprintf("entry %d: %q: stands there twice", number, key))
		}
		if err := unmarshalConfigText(value, d.value); err != nil {
			return r.wrong(offset, fmt.Sprintf("entry %d: %q: %s", number, key, err))
		}
		seen[key] = true
		config.positions[d.name] = fmt.Sprintf("%s: %s: entry %d, %q", r.place, r.at(offset), number, key)
		return nil
	})
	if errors.Is(err, errMemberName) {
		return nil, r.wrong(begin, fmt.Sprintf("entry %d: %s", number, err))
	}
	if subMchID != "" {
		config.SubMchID = []string{subMchID}
	}
	return config, err
}

// unknownKey is of a key that is not shown: where quotes or commas are wrong, a
// secret may have become one.
func unknownKey(key string, keys map[string]directive) string {
	for known := range keys {
		if strings.EqualFold(strings.ReplaceAll(key, "_", ""), known) {
			return fmt.Sprintf("there is no such key, but there is %q", known)
		}
	}
	return "there is no such key (a comment's key begins with _)"
}

// keys are the file's own names of the directives that it has.
func (c *MerchantConfig) keys(subMchID *string) map[string]directive {
	return map[string]directive{
		"name": {"name", &c.Name}, "env": {"env", &c.Env}, "type": {"type", &c.Type},
		"appId": {"app_id", &c.AppID}, "mchId": {"mch_id", &c.MchID},
		"subAppId": {"sub_app_id", &c.SubAppID}, "subMchId": {"sub_mch_id", subMchID},
		"notifyUrl": {"notify_url", &c.NotifyURL}, "cbNotifyUrl": {"cb_notify_url", &c.CbNotifyURL},
		"cbEventUrl": {"cb_event_url", &c.CbEventURL},
		"partnerKey": {"partner_key", &c.PartnerKey}, "pfx": {"pfx", &c.PFX}, "passphrase": {"passphrase", &c.Passphrase},
	}
}

// unmarshalConfigText reads text, or a number that stands without quotes: a
// mchId or a passphrase. Null is as if the key were not there.
func unmarshalConfigText(value jsontext.Value, text *string) error {
	if err := checkMember(value); err != nil {
		return err
	}
	switch value.Kind() {
	case '"':
		plain, err := jsontext.AppendUnquote(nil, value)
		*text = string(plain)
		return err
	case '0':
		*text = string(value)
		return nil
	case 'n':
		return nil
	default:
		return errors.New("must be text")
	}
}

// oddCharacters are what editors and keyboards put in the place of JSON's own, and
// what they are called.
var oddCharacters = []struct{ characters, what string }{
	{"“”„‟＂", `a curly or full-width quotation mark: JSON's is "`},
	{"‘’＇'`", `a single quotation mark: JSON's is "`},
	{"，、", "a full-width comma: JSON's is ,"},
	{"：", "a full-width colon: JSON's is :"},
	{"｛｝［］【】", "a full-width bracket: JSON's are { } [ ]"},
	{"\u00a0\u3000\u200b\ufeff", "a blank that is not JSON's: put a plain one there"},
	{"/#", "a comment, which JSON has none of: put it under a key that begins with _"},
}

// whyNoJSON says what is wrong at a place of a text that is no JSON, and else what
// is most likely wrong on its line.
func whyNoJSON(text []byte, offset int) string {
	rest := text[min(offset, len(text)):]
	next, _ := utf8.DecodeRune(rest)
	for _, odd := range oddCharacters {
		if strings.ContainsRune(odd.characters, next) {
			return "is " + odd.what
		}
	}
	trimmed := bytes.TrimLeft(rest, ", \t\r\n")
	if next == ',' && len(trimmed) > 0 && (trimmed[0] == '}' || trimmed[0] == ']') {
		return "is a comma behind which nothing follows"
	}
	begin := bytes.LastIndexByte(text[:len(text)-len(rest)], '\n') + 1
	line, _, _ := bytes.Cut(text[begin:], []byte("\n"))
	for _, odd := range oddCharacters[:5] {
		if strings.ContainsAny(string(line), odd.characters) {
			return "is no JSON; the line has " + odd.what
		}
	}
	switch {
	case len(bytes.TrimSpace(rest)) == 0:
		return "the file ends before its JSON does: a bracket or a quotation mark is missing"
	case next < ' ':
		return "is within a text: a quotation mark is missing before it"
	default:
		return "is no JSON here: a comma, a colon or a quotation mark is missing or too much"
	}
}

package apiv3

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/windsome/caddy-wepay/wepay"
)

// decodeAny reads JSON by the standard library, with numbers as they are written.
func decodeAny(t *testing.T, text []byte) (value any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&value); err != nil {
		t.Fatalf("%v: %q", err, text)
	}
	return value
}

// A body that is taken is the same body but for the values that are encrypted.
func FuzzPassEncrypt(f *testing.F) {
	for _, body := range []string{
		`{}`, `{"a":{"$encrypt":"张三"}}`, `{"a":[{"$encrypt":"x"}, 1.0 ,{"b":{"\u0024encrypt":"\ud83e\udde6"}}],"n":-0.0e5}`, `{"$encrypt":"a"}`,
		`{"a":{"$encrypt":1}}`, `{"a":{"b":{},"$encrypt":"x"}}`, `{"a":{"$encrypt":"x","b":1}}`, `{"a":"$encrypt","$encrypt ":{}}`, `{"a":{"$encrypt":{"$encrypt":"x"}}}`,
	} {
		f.Add(body)
	}
	c := &Client{wire: wire{merchant: &wepay.Merchant{MchID: "1900000109", Type: wepay.Direct}}}
	f.Fuzz(func(t *testing.T, body string) {
		secrets, err := c.checkMembers([]byte(body))
		if err != nil {
			return
		}
		parts := make([]part, len(secrets))
		for i, s := range secrets {
			quoted, err := jsontext.AppendQuote(nil, s.text)
			if err != nil || s.text == "" {
				t.Fatalf("%q has the secret %q", body, s.text)
			}
			parts[i] = part{s.begin, s.end, quoted}
		}
		out := splice([]byte(body), parts)
		if !jsontext.Value(out).IsValid() {
			t.Fatalf("%q became %q", body, out)
		}
		want, count := opened(decodeAny(t, []byte(body)))
		if got := decodeAny(t, out); !reflect.DeepEqual(got, want) || count != len(secrets) {
			t.Fatalf("%q became %q, with %d secrets and not %d", body, out, len(secrets), count)
		}
	})
}

// opened puts texts in the place of what is to be encrypted.
func opened(value any) (any, int) {
	count := 0
	switch value := value.(type) {
	case map[string]any:
		if text, ok := value[toEncrypt].(string); ok {
			return text, 1
		}
		for name, inner := range value {
			var more int
			value[name], more = opened(inner)
			count += more
		}
	case []any:
		for i, inner := range value {
			var more int
			value[i], more = opened(inner)
			count += more
		}
	}
	return value, count
}

// A reply is the same but for the members at the path, and none is lost.
func FuzzPassDecrypt(f *testing.F) {
	s := newSender(f)
	text, err := encrypt(&s.key.PublicKey, "张\"三")
	if err != nil {
		f.Fatal(err)
	}
	for _, reply := range []string{
		`{"a":{"b":"~"}}`, `{"a":[{"b":"~","c":1.0},{"b":["~",null]}],"b":"~"}`, `{"a":{"b":{"b":"~"}}}`, `{"a":"~"}`, `{"a":1}`, `[]`, ``, `{"a":{"b":"~"}`, `{"a":{"b":"~","b":"\u007e"}}`,
	} {
		f.Add(reply, "a.b")
	}
	c := &Client{wire: wire{merchant: &wepay.Merchant{MchID: "1900000109", PrivateKey: s.key, MchSerial: "1"}}}
	f.Fuzz(func(t *testing.T, reply, path string) {
		in := PassRequest{Method: "GET", Path: "/v3/a", Decrypt: []string{path}}
		wanted, err := membersToDecrypt(in)
		if err != nil {
			return
		}
		body := []byte(strings.ReplaceAll(reply, "~", text))
		out, not := c.decryptMembers(body, wanted, in.Decrypt)
		if !json.Valid(body) || len(not) > 0 && bytes.Equal(out, body) {
			if !bytes.Equal(out, body) {
				t.Fatalf("%q became %q", body, out)
			}
			return
		}
		replace := func(value string) string {
			if plain, err := decrypt(s.key, value); err == nil {
				return plain
			}
			return value
		}
		if want := replacedAt(decodeAny(t, body), strings.Split(path, "."), replace); !reflect.DeepEqual(decodeAny(t, out), want) {
			t.Fatalf("%s of %q became %q", path, body, out)
		}
	})
}

// replacedAt replaces the texts at a path.
func replacedAt(value any, names []string, with func(string) string) any {
	switch value := value.(type) {
	case map[string]any:
		if len(names) > 0 && value[names[0]] != nil {
			value[names[0]] = replacedAt(value[names[0]], names[1:], with)
		}
		return value
	case []any:
		for i := range value {
			value[i] = replacedAt(value[i], names, with)
		}
		return value
	case string:
		if len(names) == 0 {
			return with(value)
		}
	}
	return value
}

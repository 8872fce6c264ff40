package caddymodule

import (
	"errors"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"

	"github.com/windsome/caddy-wepay/wepay"
)

// replace resolves the placeholders of a directive's value. What comes of one,
// which may be a file's text, is without a byte order mark and final line ends.
func replace(repl *caddy.Replacer, directive, value string) (string, error) {
	replaced, err := repl.ReplaceOrErr(value, true, true)
	if err != nil {
		return "", unresolved(directive, err)
	}
	if replaced != value {
		replaced = strings.TrimRight(strings.TrimPrefix(replaced, "\ufeff"), "\r\n")
		if replaced == "" {
			return "", &wepay.FieldError{Field: directive, Reason: "resolving a placeholder: it has nothing but a line end"}
		}
	}
	return replaced, checkReadable(directive, replaced)
}

func replaceAll(repl *caddy.Replacer, directive string, values []string) ([]string, error) {
	var replaced []string
	for _, value := range values {
		value, err := replace(repl, directive, value)
		if err != nil {
			return nil, err
		}
		replaced = append(replaced, value)
	}
	return replaced, nil
}

// namedPlaceholder is in Caddy's error about a placeholder. What else stands in
// braces may be a part of a secret.
var namedPlaceholder = regexp.MustCompile(`\{(env|file|http|system|time|vars)\.[^{}]+\}`)

// likeKey is in what may be a key rather than the name of a variable or a file.
var likeKey = regexp.MustCompile(`[0-9A-Za-z+]{28,}`)

// unresolved says which placeholder has no value.
func unresolved(directive string, err error) error {
	if text := err.Error(); !namedPlaceholder.MatchString(text) || likeKey.MatchString(text) {
		err = errors.New(`there is none of this name: for braces that belong to the value write \{ in place of {`)
	}
	return &wepay.FieldError{Field: directive, Reason: "resolving a placeholder", Err: err}
}

// checkReadable refuses what no reader of UTF-8 has read. Of a Caddyfile and of
// Caddy's JSON there is only U+FFFD left to tell it by.
func checkReadable(directive, value string) error {
	if utf8.ValidString(value) && !strings.ContainsRune(value, utf8.RuneError) {
		return nil
	}
	return &wepay.FieldError{Field: directive, Reason: "is not valid UTF-8: save the file that it stands in as UTF-8"}
}

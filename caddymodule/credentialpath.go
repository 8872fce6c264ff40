package caddymodule

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/windsome/caddy-wepay/wepay"
)

// readFile reads the file of a directive. Errors name the file only where its
// path cannot be a secret that was put in its place.
func readFile(directive, path string) ([]byte, error) {
	if isContents(path) {
		return nil, contentsError(directive)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, unreadableError(directive, path, err)
	}
	return data, nil
}

func contentsError(directive string) error {
	return &wepay.FieldError{Field: directive, Reason: "is what belongs in a file: it must be the path of that file"}
}

func unreadableError(directive, path string, err error) error {
	if isPath(path) {
		return &wepay.FieldError{Field: directive, Reason: path, Err: err}
	}
	var reason *fs.PathError
	if errors.As(err, &reason) {
		err = reason.Err // without the path
	}
	return &wepay.FieldError{Field: directive, Reason: "must be the path of a file (not shown here, as it does not look like one)", Err: err}
}

// isContents says whether a text is a key or a certificate rather than where one
// is: PEM, or the base64 that DER and .p12 files begin with, which says SEQUENCE.
func isContents(text string) bool {
	return strings.Contains(text, "-----") || strings.ContainsAny(text, "\r\n") ||
		len(text) > 255 || len(text) > 64 && strings.HasPrefix(text, "MI")
}

// fileName ends as the names of the files end that belong here.
var fileName = regexp.MustCompile(`(?i)\.(p12|pfx|pem|key|crt|cer|der|json|txt)$`)

// isPath says whether a text looks like a path, and not like a key or a
// passphrase.
func isPath(text string) bool {
	rooted := strings.HasPrefix(text, "./") || strings.HasPrefix(text, "../") || filepath.IsAbs(text)
	return rooted || fileName.MatchString(text)
}

package wepay

import (
	"bytes"
	"errors"
	"unicode/utf8"
)

var (
	errUTF16   = errors.New("is UTF-16, as PowerShell and Notepad write it: save it as UTF-8")
	errNotUTF8 = errors.New("is not UTF-8 text (is it GBK?): save it as UTF-8")
)

// TextFile returns the text of a file, without the byte order mark that some
// editors put before it. What is not UTF-8 is refused.
func TextFile(data []byte) ([]byte, error) {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return nil, errUTF16
	}
	if !utf8.Valid(data) {
		return nil, errNotUTF8
	}
	return bytes.TrimPrefix(data, []byte("\ufeff")), nil
}

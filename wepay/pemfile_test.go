package wepay_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/windsome/caddy-wepay/wepay"
)

// utf16LE writes text as PowerShell's > does.
func utf16LE(text []byte) []byte {
	file := []byte{0xff, 0xfe}
	for _, unit := range utf16.Encode([]rune(string(text))) {
		file = append(file, byte(unit), byte(unit>>8))
	}
	return file
}

// pemFile is what people have in place of a PEM file, made of that and its
// contents, and what is said of it; "": it is read.
type pemFile struct {
	change func(file, der []byte) []byte
	says   string
}

var pemFiles = map[string]pemFile{
	"as it is":          {func(f, _ []byte) []byte { return f }, ""},
	"a byte order mark": {func(f, _ []byte) []byte { return append([]byte("\ufeff"), f...) }, ""},
	"CRLF":              {func(f, _ []byte) []byte { return bytes.ReplaceAll(f, []byte("\n"), []byte("\r\n")) }, ""},
	"a byte order mark and CRLF": {func(f, _ []byte) []byte {
		return append([]byte("\ufeff"), bytes.ReplaceAll(f, []byte("\n"), []byte("\r\n"))...)
	}, ""},
	"indentation, as in YAML": {func(f, _ []byte) []byte {
		return append([]byte("    "), bytes.ReplaceAll(f, []byte("\n"), []byte("\n    "))...)
	}, ""},
	"tabs": {func(f, _ []byte) []byte {
		return append([]byte("\t"), bytes.ReplaceAll(f, []byte("\n"), []byte("\n\t"))...)
	}, ""},
	"blanks where lines end": {func(f, _ []byte) []byte { return bytes.ReplaceAll(f, []byte("\n"), []byte(" \n")) }, ""},
	"no final line end":      {func(f, _ []byte) []byte { return bytes.TrimRight(f, "\n") }, ""},
	"empty lines around it":  {func(f, _ []byte) []byte { return slices.Concat([]byte("\n\n"), f, []byte("\n\n")) }, ""},

	"nothing":      {func(_, _ []byte) []byte { return nil }, "is empty"},
	"white space":  {func(_, _ []byte) []byte { return []byte(" \n\t\n") }, "is empty"},
	"a note":       {func(_, _ []byte) []byte { return []byte("put the key here\n") }, "has no PEM in it"},
	"base64":       {func(_, d []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(d)) }, "is DER in base64, without the lines that PEM begins and ends with"},
	"base64 twice": {func(f, _ []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(f)) }, "is PEM in base64 once more"},
	`literal \n`:   {func(f, _ []byte) []byte { return bytes.ReplaceAll(f, []byte("\n"), []byte(`\n`)) }, `has \n where a line should end`},
	"one line":     {func(f, _ []byte) []byte { return bytes.ReplaceAll(f, []byte("\n"), []byte(" ")) }, "lost its line ends"},
	"cut off":      {func(f, _ []byte) []byte { return f[:len(f)/2] }, "breaks off"},
	"long dashes":  {func(f, _ []byte) []byte { return bytes.ReplaceAll(f, []byte("-----"), []byte("—–")) }, "five hyphens"},
	"UTF-16":       {func(f, _ []byte) []byte { return utf16LE(f) }, "is UTF-16"},
	"GBK":          {func(f, _ []byte) []byte { return append([]byte("\xc3\xdc\xd4\xbf\n"), f...) }, "is not UTF-8 text"},
	"DER":          {func(_, d []byte) []byte { return d }, "is DER: it must be PEM"},
}

func TestPEMFiles(t *testing.T) {
	key, certificate := testdata(t, "key.pem"), testdata(t, "cert.pem")
	public, err := x509.MarshalPKIXPublicKey(&privateKey(t, "key.pem").PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	p12 := testdata(t, "wechat.p12")
	files := maps.Clone(pemFiles)
	for name, p12 := range map[string][]byte{"a .p12 file": p12, "a .p12 file of BER": append([]byte{0x30, 0x80}, p12[4:]...)} {
		files[name] = pemFile{func(_, _ []byte) []byte { return p12 }, "is a .p12 file: it must be PEM"}
	}
	files["a .zip file"] = pemFile{func(_, _ []byte) []byte { return []byte("PK\x03\x04\x14\x00\x08\x00\xff") }, "is a .zip file: it must be PEM"}
	files["a .p12 file in base64"] = pemFile{func(_, _ []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(p12) + "\n") }, "is a .p12 file in base64"}

	for kind, of := range map[string]struct {
		file []byte
		read func([]byte) error
	}{
		"private_key": {key, func(f []byte) error { _, err := wepay.ParsePrivateKey(f); return err }},
		"public_key":  {block("PUBLIC KEY", public), func(f []byte) error { _, err := wepay.ParsePublicKey(f); return err }},
		"cert":        {certificate, func(f []byte) error { _, err := wepay.ParsePEM(f, key); return err }},
		"cert's key":  {key, func(f []byte) error { _, err := wepay.ParsePEM(certificate, f); return err }},
	} {
		der, _ := pem.Decode(of.file)
		for name, file := range files {
			t.Run(kind+" "+name, func(t *testing.T) {
				err := of.read(file.change(of.file, der.Bytes))
				if file.says == "" {
					if err != nil {
						t.Errorf("got %v", err)
					}
					return
				}
				if err == nil || !strings.Contains(err.Error(), file.says) {
					t.Fatalf("got %v, want %s", err, file.says)
				}
				wantNoneOf(t, err, of.file)
				wantNoneOf(t, err, p12)
			})
		}
	}
}

// wantNoneOf finds any six characters of a secret's base64 in an error.
func wantNoneOf(t *testing.T, err error, secret []byte) {
	t.Helper()
	text := base64.StdEncoding.EncodeToString(secret)
	if block, _ := pem.Decode(secret); block != nil {
		text = base64.StdEncoding.EncodeToString(block.Bytes)
	}
	for i := range len(text) - 6 {
		if strings.Contains(err.Error(), text[i:i+6]) {
			t.Fatalf("the error repeats what it is about: %v", err)
		}
	}
}

// What people have in place of a .p12 file is not put down to the passphrase.
func TestPKCS12Files(t *testing.T) {
	p12 := testdata(t, "wechat.p12")
	for name, test := range map[string]struct {
		file []byte
		says string
	}{
		"nothing":      {nil, "is empty"},
		"PEM":          {testdata(t, "cert.pem"), "is PEM: it must be a .p12 file"},
		"a key":        {testdata(t, "key.pem"), "is PEM: it must be a .p12 file"},
		"PEM, by BOM":  {append([]byte("\ufeff"), testdata(t, "key.pem")...), "is PEM: it must be a .p12 file"},
		"base64":       {[]byte(base64.StdEncoding.EncodeToString(p12)), "is a .p12 file in base64"},
		"base64 lines": {pem.EncodeToMemory(&pem.Block{Type: "X", Bytes: p12})[len("-----BEGIN X-----"):], "is a .p12 file in base64"},
		"UTF-16":       {utf16LE(testdata(t, "key.pem")), "is text"},
		"a .zip file":  {[]byte("PK\x03\x04\x14\x00\x08\x00"), "is a .zip file: unpack it, and name the .p12 file that is in it"},
		"half of it":   {p12[:len(p12)/2], "breaks off: copy the whole .p12 file"},
		"a byte less":  {p12[:len(p12)-1], "breaks off: copy the whole .p12 file"},
		"two bytes":    {p12[:2], "is no .p12 file, or is damaged"},
		"damaged":      {append(p12[:8:8], make([]byte, len(p12)-8)...), "is no .p12 file, or is damaged"},
		"a byte more":  {append(p12[:len(p12):len(p12)], 0), "is no .p12 file, or is damaged"},
		"a text":       {[]byte("0aaaaaaaaaaa"), "is no .p12 file, or is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "base64 lines" {
				test.file = bytes.TrimSuffix(test.file, []byte("-----END X-----\n"))
			}
			_, err := wepay.ParsePKCS12(test.file, passphrase)
			if err == nil || errors.Is(err, wepay.ErrPassphrase) || strings.Contains(err.Error(), "asn1") || strings.Contains(err.Error(), "pkcs12:") || !strings.Contains(err.Error(), test.says) {
				t.Fatalf("got %v, want %s", err, test.says)
			}
			wantNoneOf(t, err, testdata(t, "key.pem"))
		})
	}
}

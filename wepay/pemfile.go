package wepay

import (
	"bytes"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// readPEM returns the PEM in a file as encoding/pem reads it: without byte order
// mark and indentation. What else people take for PEM is refused with what it is;
// errors repeat nothing of it.
func readPEM(data []byte) ([]byte, error) {
	if kind := binaryKind(data); kind != "" {
		return nil, fmt.Errorf("is %s: it must be PEM", kind)
	}
	text, err := TextFile(data)
	if err != nil {
		return nil, err
	}
	lines := bytes.Split(text, []byte("\n"))
	for i, line := range lines {
		lines[i] = bytes.TrimSpace(line)
	}
	if text = bytes.Join(lines, []byte("\n")); hasPEM(text) {
		return text, nil
	}
	return nil, whyNoPEM(string(text))
}

// keyBlock returns the first block of the PEM in a private key's file, and all of
// it.
func keyBlock(data []byte) (*pem.Block, []byte, error) {
	text, err := readPEM(data)
	if err != nil {
		return nil, nil, fmt.Errorf("reading a private key: the file %w", err)
	}
	block, _ := pem.Decode(text)
	if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
		return nil, nil, errors.New("reading a private key: the file is encrypted with a passphrase: write it without one (openssl pkey -in … -out …)")
	}
	return block, text, nil
}

func hasPEM(text []byte) bool {
	block, _ := pem.Decode(text)
	return block != nil
}

// whyNoPEM says what a text is in which there is no PEM.
func whyNoPEM(text string) error {
	decoded, _ := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	switch kind := binaryKind(decoded); {
	case strings.TrimSpace(text) == "":
		return errors.New("is empty")
	case strings.Contains(text, "-----BEGIN ") && strings.Contains(text, `\n`):
		return errors.New(`has \n where a line should end, as values of environment variables do: put line ends there`)
	case strings.Contains(text, "-----BEGIN ") && !strings.Contains(text, "-----END "):
		return errors.New("is PEM that breaks off: copy the whole file")
	case strings.Contains(text, "-----BEGIN "):
		return errors.New("is PEM that was changed on its way, or that lost its line ends: copy the file as it is")
	case strings.Contains(text, "BEGIN ") && strings.Contains(text, "END "):
		return errors.New("is PEM whose dashes were changed: there must be five hyphens on each side of BEGIN and of END")
	case len(decoded) > 0 && hasPEM(decoded):
		return errors.New("is PEM in base64 once more, as in a Kubernetes Secret: decode it first")
	case kind != "":
		return fmt.Errorf("is %s in base64, without the lines that PEM begins and ends with, -----BEGIN …----- and -----END …-----", kind)
	default:
		return errors.New("has no PEM in it")
	}
}

// binaryKind says what is in a file that is no text, "" if nothing that is known
// here: a .p12 file, whose first number is its version, or a certificate or key
// without PEM around it.
func binaryKind(data []byte) string {
	const pkcs12Version = 3
	if isZip(data) {
		return "a .zip file"
	}
	if bytes.HasPrefix(data, []byte{0x30, 0x80}) {
		return "a .p12 file" // of no length yet, as BER may be and certificates may not
	}
	var outer, inner asn1.RawValue
	if _, err := asn1.Unmarshal(data, &outer); err != nil || outer.Tag != asn1.TagSequence || !outer.IsCompound {
		return ""
	}
	if _, err := asn1.Unmarshal(outer.Bytes, &inner); err != nil {
		return ""
	}
	if inner.Tag == asn1.TagInteger && bytes.Equal(inner.Bytes, []byte{pkcs12Version}) {
		return "a .p12 file"
	}
	return "DER"
}

// isZip reports whether a file is what the merchant platform's tool offers to
// download.
func isZip(data []byte) bool { return bytes.HasPrefix(data, []byte("PK\x03\x04")) }

// breaksOff reports whether a .p12 file is shorter than its first bytes say: SEQUENCE,
// and its length in two more bytes.
func breaksOff(data []byte) bool {
	return len(data) >= 4 && data[0] == 0x30 && data[1] == 0x82 && len(data)-4 < int(binary.BigEndian.Uint16(data[2:]))
}

// notPKCS12 says what a file is that people take for a .p12 file; nil: it may be
// one.
func notPKCS12(data []byte) error {
	text, err := TextFile(data)
	switch {
	case len(data) == 0:
		return errors.New("is empty")
	case isZip(data):
		return errors.New("is a .zip file: unpack it, and name the .p12 file that is in it")
	case breaksOff(data):
		return errors.New("breaks off: copy the whole .p12 file, or download it again")
	case errors.Is(err, errUTF16):
		return errors.New("is text: it must be a .p12 file")
	case err != nil:
		return nil
	case bytes.Contains(text, []byte("-----BEGIN ")):
		return errors.New("is PEM: it must be a .p12 file, as PEM belongs to cert and private_key")
	}
	decoded, _ := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(text), nil)))
	if binaryKind(decoded) == "a .p12 file" {
		return errors.New("is a .p12 file in base64: decode it first")
	}
	return nil
}

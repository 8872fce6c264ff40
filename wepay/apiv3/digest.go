package apiv3

import (
	"bytes"
	"compress/gzip"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/windsome/caddy-wepay/wepay"
)

// billDigest is the SHA-1 of a bill's uncompressed text.
type billDigest []byte

func newBillDigest(kind, value string) (billDigest, error) {
	sum, err := hex.DecodeString(value)
	if kind != "SHA1" || err != nil || len(sum) != sha1.Size {
		return nil, fmt.Errorf("%w: hash_type and hash_value are no SHA1", wepay.ErrMalformed)
	}
	return sum, nil
}

// digested reads a bill's text, and ends with an error if its digest differs.
type digested struct {
	text io.Reader
	sum  hash.Hash
	want billDigest
}

func (d *digested) Read(p []byte) (int, error) {
	n, err := d.text.Read(p)
	_, _ = d.sum.Write(p[:n]) // a hash takes whatever comes
	if errors.Is(err, io.EOF) && !bytes.Equal(d.sum.Sum(nil), d.want) {
		err = fmt.Errorf("%w: the bill is truncated or altered: its SHA-1 is not the one that WeChat Pay signed", wepay.ErrMalformed)
	}
	return n, err
}

// packed passes on a compressed bill, and decompresses it on the way for its digest,
// a piece at a time.
type packed struct {
	unpacked digested
	came     bytes.Buffer // decompressed, and not passed on yet
	piece    [16 << 10]byte
	err      error // the end of the decompressed text; nil: not reached
}

// unpack starts to read gzip.
func unpack(text io.Reader, want billDigest) (*packed, error) {
	p := new(packed)
	unpacked, err := gzip.NewReader(io.TeeReader(text, &p.came))
	if err != nil {
		return nil, fmt.Errorf("%w: unpacking the bill: %w", wepay.ErrMalformed, err)
	}
	p.unpacked = digested{unpacked, sha1.New(), want}
	return p, nil
}

func (p *packed) Read(to []byte) (int, error) {
	for p.came.Len() == 0 && p.err == nil {
		_, p.err = p.unpacked.Read(p.piece[:])
	}
	if p.came.Len() > 0 {
		return p.came.Read(to)
	}
	return 0, p.err
}

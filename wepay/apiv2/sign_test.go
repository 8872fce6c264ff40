package apiv2_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// parse reads a base string back into fields. Only attach and the like may
// hold an ampersand of their own: a piece whose part before = is not the name
// of a field belongs to the value before it.
func parse(base string) wepay.Fields {
	values := make(map[string]string)
	last := ""
	for piece := range strings.SplitSeq(base, "&") {
		name, value, found := strings.Cut(piece, "=")
		if !found || strings.Contains(name, " ") || name == "b" {
			values[last] += "&" + piece
			continue
		}
		values[name], last = value, name
	}
	return wepay.NewFields(values)
}

func TestSignVectors(t *testing.T) {
	tested := 0
	for id, v := range vectors(t) {
		if v.How != string(wepay.MD5) && v.How != string(wepay.HMACSHA256) {
			continue // SHA-1 and AES belong to other functions
		}
		tested++
		t.Run(id, func(t *testing.T) {
			fields := parse(v.Base)
			if got := apiv2.Sign(fields, wepay.SignType(v.How), v.Key); got != v.Result {
				t.Errorf("%s: got %s, want %s", v.What, got, v.Result)
			}
			fields.Set("sign", v.Result)
			if err := apiv2.Verify(fields, v.Key); err != nil {
				t.Errorf("the right signature is refused: %v", err)
			}
		})
	}
	if tested != 25 {
		t.Errorf("%d vectors were tested, want 25", tested)
	}
}

// Values are not trimmed: what a reader that trims would compute, or one
// that takes 0 for empty, is another signature.
func TestSignVectorsThatMustDiffer(t *testing.T) {
	all := vectors(t)
	for wrong, right := range map[string]string{"V7x": "V7", "V8x": "V8"} {
		fields := parse(all[right].Base)
		if apiv2.Sign(fields, wepay.MD5, all[right].Key) == all[wrong].Result {
			t.Errorf("%s gives the signature of %s", right, wrong)
		}
		fields.Set("sign", all[wrong].Result)
		if err := apiv2.Verify(fields, all[right].Key); !errors.Is(err, wepay.ErrSignature) {
			t.Errorf("%s with the signature of %s: got %v, want ErrSignature", right, wrong, err)
		}
	}
}

func TestSignLeavesOut(t *testing.T) {
	v := vectors(t)["V10"]
	for name, change := range map[string]func(*wepay.Fields){
		"an empty field": func(f *wepay.Fields) { f.Set("device_info", "") },
		"sign":           func(f *wepay.Fields) { f.Set("sign", "6FDDEF4522BEB596558C81AA25D29FF5") },
	} {
		fields := parse(v.Base)
		change(&fields)
		if got := apiv2.Sign(fields, wepay.MD5, v.Key); got != v.Result {
			t.Errorf("with %s: got %s, want %s", name, got, v.Result)
		}
	}
	for name, change := range map[string]func(*wepay.Fields){
		"a blank":        func(f *wepay.Fields) { f.Set("device_info", " ") },
		"sign_type":      func(f *wepay.Fields) { f.Set("sign_type", "MD5") },
		"Sign":           func(f *wepay.Fields) { f.Set("Sign", "x") },
		"an unknown one": func(f *wepay.Fields) { f.Set("zzz", "x") },
	} {
		fields := parse(v.Base)
		change(&fields)
		if got := apiv2.Sign(fields, wepay.MD5, v.Key); got == v.Result {
			t.Errorf("%s does not take part", name)
		}
	}
}

func TestVerifyForms(t *testing.T) {
	v, hmac := vectors(t)["V1"], vectors(t)["V2"]
	tests := []struct {
		name, sign string
		want       error
	}{
		{"MD5", v.Result, nil},
		{"HMAC-SHA256", hmac.Result, nil},
		{"empty", "", wepay.ErrUnsigned},
		{"lower case", strings.ToLower(v.Result), wepay.ErrSignature},
		{"lower case HMAC-SHA256", strings.ToLower(hmac.Result), wepay.ErrSignature},
		{"31 digits", v.Result[:31], wepay.ErrSignature},
		{"33 digits", v.Result + "0", wepay.ErrSignature},
		{"63 digits", hmac.Result[:63], wepay.ErrSignature},
		{"65 digits", hmac.Result + "0", wepay.ErrSignature},
		{"MD5 twice over", v.Result + v.Result, wepay.ErrSignature},
		{"half of HMAC-SHA256", hmac.Result[:32], wepay.ErrSignature},
		{"a blank in front", " " + v.Result, wepay.ErrSignature},
		{"the last digit changed", v.Result[:31] + "0", wepay.ErrSignature},
		{"32 noughts", strings.Repeat("0", 32), wepay.ErrSignature},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			fields := parse(v.Base)
			fields.Set("sign", test.sign)
			if err := apiv2.Verify(fields, v.Key); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
	if err := apiv2.Verify(parse(v.Base), v.Key); !errors.Is(err, wepay.ErrUnsigned) {
		t.Errorf("without sign: got %v, want ErrUnsigned", err)
	}
}

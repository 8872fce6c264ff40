package wepay_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

func TestVerdictAdvice(t *testing.T) {
	seen := make(map[string]wepay.Verdict)
	for _, v := range []wepay.Verdict{wepay.Again, wepay.Query, wepay.Later, wepay.Fix, wepay.Done, wepay.Never} {
		advice := v.Advice()
		if advice == "" || seen[advice] != "" {
			t.Errorf("the advice of %s is %q, as that of %q", v, advice, seen[advice])
		}
		seen[advice] = v
	}
	if advice := wepay.Verdict("").Advice(); advice != "" {
		t.Errorf("no verdict advises %q", advice)
	}
}

func TestErrorText(t *testing.T) {
	tests := []struct {
		name  string
		err   *wepay.Error
		parts []string
	}{
		{"refused", &wepay.Error{Merchant: "shop", Operation: wepay.Refund, Code: "NOTENOUGH", Message: "余额不足", Verdict: wepay.Later}, []string{`"shop"`, "refund", "NOTENOUGH 余额不足", wepay.Later.Advice()}},
		{"no answer", &wepay.Error{Merchant: "shop", Operation: wepay.Refund, Verdict: wepay.Query, Err: wepay.ErrNoAnswer}, []string{wepay.ErrNoAnswer.Error(), wepay.Query.Advice()}},
		{"unsigned", &wepay.Error{Merchant: "shop", Operation: wepay.Refund, Code: "NOAUTH", V3Code: "NO_AUTH", Message: "无权限", Verdict: wepay.Query, Unsigned: true, Err: wepay.ErrNoAnswer}, []string{"refused without a signature: NO_AUTH 无权限", wepay.ErrNoAnswer.Error(), wepay.Query.Advice()}},
		{"no verdict", &wepay.Error{Merchant: "shop", Operation: wepay.Refund, Message: "x"}, []string{"refused: x"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, part := range test.parts {
				if !strings.Contains(test.err.Error(), part) {
					t.Errorf("%q does not say %q", test.err, part)
				}
			}
			if strings.HasSuffix(test.err.Error(), ": ") {
				t.Errorf("%q ends in nothing", test.err)
			}
			if test.err.Err != nil && !errors.Is(test.err, test.err.Err) {
				t.Error("the cause cannot be found")
			}
		})
	}
}

// A bill is neither sent nor paid, and has no number.
func TestBillErrorText(t *testing.T) {
	for verdict, says := range map[wepay.Verdict]string{
		wepay.Again: "download it again after a pause",
		wepay.Later: "from 10:00 Beijing time on the next day",
		wepay.Fix:   "correct the input or the merchant's set-up",
		wepay.Done:  "nothing was traded or moved that day",
		wepay.Never: "downloading it again will give the same",
	} {
		for _, op := range []wepay.Operation{wepay.DownloadBill, wepay.DownloadFundFlow} {
			text := (&wepay.Error{Merchant: "shop", Operation: op, Code: "20002", Verdict: verdict}).Error()
			if !strings.Contains(text, says) || strings.Contains(text, verdict.Advice()) ||
				strings.Contains(text, "number") || strings.Contains(text, "paid") || strings.Contains(text, "order") {
				t.Errorf("%s, %s: %q", op, verdict, text)
			}
		}
	}
}

func TestFieldErrorText(t *testing.T) {
	err := &wepay.FieldError{Field: "pfx", Reason: "reading it", Err: wepay.ErrPassphrase}
	if want := "pfx: reading it: wrong passphrase"; err.Error() != want || !errors.Is(err, wepay.ErrPassphrase) {
		t.Errorf("got %q, want %q that wraps the cause", err, want)
	}
	err.Err = nil
	if want := "pfx: reading it"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

package wepay_test

import (
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

func TestCheckExpiry(t *testing.T) {
	now := time.Date(2026, 1, 1, 4, 0, 0, 5e8, time.UTC) // noon in Beijing, and half a second
	for name, test := range map[string]struct {
		expires string
		says    string // a part of the error, "" for none
	}{
		"none":                      {"", ""},
		"in a second":               {"20260101120001", ""},
		"in a minute":               {"20260101120100", ""},
		"in a century":              {"21260101120000", ""},
		"this second":               {"20260101120000", "is past"},
		"a second ago":              {"20260101115959", "is past"},
		"in half an hour, of UTC":   {"20260101043000", "is past: it must be Beijing time, which by this machine's clock is 20260101120000"},
		"in half an hour, of Tokyo": {"20260101133000", ""}, // which nobody can tell
		"with a zone":               {"2026-01-01T13:00:00+08:00", "yyyyMMddHHmmss, in Beijing time"},
		"in seconds since 1970":     {"1767240000", "yyyyMMddHHmmss"},
		"with milliseconds":         {"20260101130000.000", "yyyyMMddHHmmss"},
		"of no day":                 {"20260230130000", "yyyyMMddHHmmss"},
	} {
		t.Run(name, func(t *testing.T) {
			err := wepay.CheckExpiry(wepay.Fields{{Name: "time_expire", Value: test.expires}}, now)
			if test.says == "" {
				wantField(t, err, "")
				return
			}
			if wantField(t, err, "time_expire"); !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %s", err, test.says)
			}
		})
	}
}

package wepay

import (
	"fmt"
	"time"
)

// timeLayout is how API v2 writes a time, in Beijing time.
const timeLayout = "20060102150405"

// Beijing is the zone of all times of API v2: UTC+8, without daylight saving.
var Beijing = time.FixedZone("", 8*60*60)

// ParseTime reads a time of API v2, such as time_end or time_expire.
func ParseTime(value string) (time.Time, error) {
	return time.ParseInLocation(timeLayout, value, Beijing)
}

// CheckExpiry refuses an order that could not be paid any more: its time_expire,
// where it has one, is past, as UTC in the place of Beijing time is. It says nothing
// of an order of this number that was placed before. What is later
// but too soon, or too late, WeChat judges, which it does differently in its two
// APIs.
func CheckExpiry(in Fields, now time.Time) error {
	given := in.Get("time_expire")
	if given == "" {
		return nil
	}
	if err := Time(given); err != nil {
		return &FieldError{Field: "time_expire", Reason: err.Error()}
	}
	expires, err := ParseTime(given)
	if err != nil {
		return fmt.Errorf("reading time_expire: %w", err)
	}
	if !expires.After(now) {
		return &FieldError{Field: "time_expire", Reason: fmt.Sprintf(
			"is past: it must be Beijing time, which by this machine's clock is %s (an order that was placed before is to be queried)", now.In(Beijing).Format(timeLayout))}
	}
	return nil
}

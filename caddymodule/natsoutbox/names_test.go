package natsoutbox

import (
	"regexp"
	"strings"
	"testing"
)

// streamOf returns a stream's name of a test's own.
func streamOf(t testing.TB) string {
	name := regexp.MustCompile(`[^A-Za-z0-9_-]+`).ReplaceAllString(strings.TrimPrefix(t.Name(), "Test"), "-")
	return name[max(0, len(name)-60):]
}

package recovery

import (
	"testing"
	"time"
)

// LookEvery has the store looked into less often, for tests in which days pass.
func LookEvery(t *testing.T, every time.Duration) {
	before := lookEvery
	lookEvery = every
	t.Cleanup(func() { lookEvery = before })
}

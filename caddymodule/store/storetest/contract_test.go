package storetest

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// faulty, in the environment, names the fault of the store that the tests'
// binary checks.
const faulty = "WEPAY_TEST_FAULTY_STORE"

// The contract holds for a store without faults, and each fault is found by
// the part of the contract that is about it. A check that fails fails its test,
// and one that is blocked never ends, so that each runs in a process of its
// own.
func TestContract(t *testing.T) {
	fault := os.Getenv(faulty)
	check := func() {
		Run(t, func(testing.TB) func() store.Store { return memoryPlace(fault) })
	}
	if fault != "" {
		check()
		return
	}
	var processes sync.WaitGroup
	for _, f := range slices.Concat(faults, orderFaults) {
		processes.Go(func() {
			check := strings.ReplaceAll(f.check, " ", "_")
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestContract$/^"+check+"$", "-test.timeout", "10s")
			cmd.Env = append(os.Environ(), faulty+"="+f.name)
			text, err := cmd.CombinedOutput()
			failed := strings.Contains(string(text), "--- FAIL: TestContract/"+check)
			blocked := strings.Contains(string(text), "panic: test timed out") && strings.Contains(string(text), "TestContract/"+check)
			if err == nil || !failed && !blocked {
				t.Errorf("a store that %q passes the check %q: %v\n%s", f.name, f.check, err, text)
			}
		})
	}
	check()
	processes.Wait()
}

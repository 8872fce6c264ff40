package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// fullDisk, in the environment, makes of the test's binary a process whose disk
// gets full.
const fullDisk = "WEPAY_TEST_FULL_DISK"

// While the disk is full WeChat hears FAIL, and SUCCESS when it sends again and
// there is room; what it was told SUCCESS for before arrives as well.
func TestStoreDiskFull(t *testing.T) {
	if os.Getenv(fullDisk) != "" {
		serveFullDisk(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestStoreDiskFull$", "-test.v")
	cmd.Env = append(os.Environ(), fullDisk+"=1")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
}

func serveFullDisk(t *testing.T) {
	env, shop := newStored(t)
	env.orders.answers(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusBadGateway) })
	limit := func(size uint64) {
		t.Helper()
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: ^uint64(0)}); err != nil {
			t.Fatal(err)
		}
	}
	limit(512 << 10)
	defer limit(^uint64(0))
	expected := make(map[string]bool)
	id := ""
	for n := 0; ; n++ {
		id = fmt.Sprintf("order-%d", n)
		a := env.post("pay_notify", shop.notification(t, id))
		expected[shop.eventID(id)] = true
		if a.body == refused("not_stored") {
			break
		}
		if a.body != taken || n > 5000 {
			t.Fatalf("after %d notifications WeChat hears %s", n, a.body)
		}
	}
	limit(^uint64(0))
	delivered := env.orders.listen()
	if a := env.post("pay_notify", shop.notification(t, id)); a.body != taken {
		t.Fatalf("with room again WeChat hears %s", a.body)
	}
	for len(expected) > 0 {
		delete(expected, await(t, delivered))
	}
}

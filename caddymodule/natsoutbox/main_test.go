package natsoutbox

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"go.uber.org/goleak"
)

// asProcess, set in the environment, makes of the tests' binary a Caddy with the
// module, or a NATS server, which a test may kill.
const asProcess = "WEPAY_TEST_AS"

func TestMain(m *testing.M) {
	switch os.Getenv(asProcess) {
	case "caddy":
		caddycmd.Main()
	case "nats":
		if err := runServer(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		goleak.VerifyTestMain(
			m,
			// Caddy cleans its storage under a lock when it starts. What keeps the
			// lock's file fresh looks every 5 s whether that is gone.
			goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"),
		)
	}
}

// runServer runs a NATS server by the arguments that its own command has.
func runServer() error {
	options, err := natsserver.ConfigureOptions(flag.NewFlagSet("nats-server", flag.ContinueOnError), os.Args[1:], func() {}, func() {}, func() {})
	if err != nil {
		return err
	}
	s, err := natsserver.NewServer(options)
	if err != nil {
		return err
	}
	s.Start()
	s.WaitForShutdown()
	return nil
}

// startProcess starts a process, which ends with the test if not before.
func startProcess(t testing.TB, kind, log string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProcess+"="+kind)
	output, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill9(cmd) })
	return cmd
}

// kill9 ends a process at once, if it has not ended yet.
func kill9(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // it was killed
}

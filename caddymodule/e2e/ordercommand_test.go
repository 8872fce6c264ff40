package e2e_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

// checkSays demands that a command says all that is wanted, one after the other.
func checkSays(t *testing.T, text string, err error, wanted ...string) {
	t.Helper()
	rest := text
	for _, want := range wanted {
		_, after, found := strings.Cut(rest, want)
		if !found || err != nil {
			t.Errorf("no %q, or not in its place, in\n%s (%v)", want, text, err)
			return
		}
		rest = after
	}
}

// `caddy wepay order` tells the story of an order whose notification was lost, with a
// server that runs and, of its file, without one; over both of WeChat's APIs.
func TestOrderCommand(t *testing.T) {
	for _, api := range []string{"v2", "v3"} {
		t.Run(api, func(t *testing.T) { testOrderCommand(t, api) })
	}
}

func testOrderCommand(t *testing.T, api string) {
	env, shop := newEnvironment(t), moving("shop", 1, api)
	env.register(shop)
	env.wechat.LoseNotifications(1, 0)
	delivered := env.orders.listen()
	admin := freeAddress(t)
	text := env.caddyfile(layout{merchants: []*merchant{shop}, options: env.store() + "\nrecover {\n\tschedule 1s\n}"})
	config := filepath.Join(env.dir, "Caddyfile")
	env.write("Caddyfile", []byte(strings.Replace(text, "admin off", "admin "+admin, 1)))
	server := env.runCaddy(config)
	env.get("get_pay_request_params", shop.order("order-1"))
	paid, err := env.wechat.Pay(shop.mchID, "order-1")
	if err != nil {
		t.Fatal(err)
	}
	if attempts := paid.Attempts(); len(attempts) != 1 || !errors.Is(attempts[0].Err, wepaytest.ErrLost) {
		t.Fatalf("the notification is not lost: %+v", attempts)
	}
	event := await(t, delivered)
	env.awaitAdmin(admin, "/wepay/orders?number=order-1", `"state":"delivered"`)
	env.get("refund", shop.refund("order-1", "refund-1", 200))

	story := []string{
		"order order-1: refunding, 1200 fen\n", "refund refund-1: refunding, 200 fen\n", "BEIJING TIME",
		" placed ", "1200 fen by get_pay_request_params over API " + api + "; merchant shop, mch_id " + shop.mchID,
		" asked ", " found ", "by asking WeChat Pay (source query), event " + event, " delivered ", "taken by the order service, tried once\n",
		" placed ", "200 fen by refund over API " + api, " next ", "WeChat Pay is to be asked",
	}
	said, err := env.caddy("wepay", "order", "order-1", "--address", admin)
	checkSays(t, said, err, story...)
	said, err = env.caddy("wepay", "order", "refund-1", "--config", config, "--adapter", "caddyfile")
	checkSays(t, said, err, story...)
	if strings.Contains(said, openID) {
		t.Errorf("it tells who paid:\n%s", said)
	}
	said, err = env.caddy("wepay", "order", "order-1", "--json", "--address", admin)
	var got struct {
		Stories []struct {
			Order struct {
				TransactionID string `json:"transaction_id"`
			}
			Refunds []json.RawMessage
		}
	}
	if jsonErr := json.Unmarshal([]byte(said), &got); err != nil || jsonErr != nil || len(got.Stories) != 1 || len(got.Stories[0].Refunds) != 1 {
		t.Fatalf("it says %s (%v, %v)", said, err, jsonErr)
	}
	said, err = env.caddy("wepay", "order", got.Stories[0].Order.TransactionID, "--address", admin)
	checkSays(t, said, err, story...)
	said, err = env.caddy("wepay", "order", "--state", "refunding", "--address", admin)
	checkSays(t, said, err, "refund-1", "order-1")
	said, err = env.caddy("wepay", "order", "--address", admin)
	checkSays(t, said, err, "shop", "refunding")
	env.checkUnknown("--address", admin)

	file := filepath.Join(env.dir, "events.db")
	if said, err := env.caddy("wepay", "order", "order-1", "--path", file); err == nil || !strings.Contains(said, "leave --path out") {
		t.Errorf("beside a server that has the file it says %s (%v)", said, err)
	}
	if err := server.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = server.Wait() // it was killed
	said, err = env.caddy("wepay", "order", "order-1", "--path", file)
	checkSays(t, said, err, story...)
	env.checkUnknown("--path", file)
}

// checkUnknown demands that a number of which there is nothing exits with 1.
func (env *environment) checkUnknown(where ...string) {
	env.t.Helper()
	said, err := env.caddy(append([]string{"wepay", "order", "order-2"}, where...)...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(said, "order_query") {
		env.t.Errorf("of an unknown number it says %s (%v)", said, err)
	}
}

// The demo names the command that tells the story of its first order, and the command
// tells it, whether WeChat's notifications arrive or not.
func TestDemoNamesCommand(t *testing.T) {
	for _, test := range []struct {
		flags []string
		found string
	}{
		{nil, "by WeChat Pay (source notify)"},
		{[]string{"--lose-notifications"}, "by asking WeChat Pay (source query)"},
		{[]string{"--lose-notifications", "--api", "v3"}, "by asking WeChat Pay (source query)"},
	} {
		t.Run(strings.Join(test.flags, " "), func(t *testing.T) {
			env := &environment{t: t}
			cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{"wepay", "demo"}, test.flags...)...)
			cmd.Env = append(os.Environ(), asCaddy+"=1")
			cmd.WaitDelay = soon
			cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			late := time.AfterFunc(soon, func() { _ = cmd.Process.Kill() }) // it ends what is read below
			defer late.Stop()
			var command []string
			var log strings.Builder
			for lines := bufio.NewScanner(out); command == nil && lines.Scan(); {
				log.WriteString(lines.Text() + "\n")
				if _, args, found := strings.Cut(lines.Text(), os.Args[0]+" wepay order demo-1001 "); found {
					command = append([]string{"wepay", "order", "demo-1001"}, strings.Fields(args)...)
				}
			}
			if command == nil {
				_ = cmd.Wait()
				t.Fatalf("it names no command:\n%s", log.String())
			}
			said, err := env.caddy(command...)
			checkSays(t, said, err, "order demo-1001: ", "refund demo-refund-1: ", " placed ", test.found, "taken by the order service")
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("it ends with %v", err)
			}
		})
	}
}

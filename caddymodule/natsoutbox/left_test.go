package natsoutbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// A reload without the outbox says what is left in the stream.
func TestReloadLeaves(t *testing.T) {
	server := startServer(t, nil)
	s := newSite(t)
	log := filepath.Join(s.dir, "caddy.log")
	load := func(outbox string) {
		t.Helper()
		config, _, err := adapt(fmt.Sprintf(`{
	admin off
	persist_config off
	storage file_system %s
	log {
		output file %s {
			roll_disabled
		}
	}
	wepay {
		%s
	}
}
`, s.dir, log, outbox))
		if err != nil {
			t.Fatalf("adapting: %v", err)
		}
		if err := caddy.Load(config, true); err != nil {
			t.Fatalf("loading: %v", err)
		}
	}
	load("outbox nats {\n\t\t\turl " + server.ClientURL() + "\n\t\t\treplicas 1\n\t\t}")
	another := openOutbox(t, &NATS{URLs: []string{server.ClientURL(), server.ClientURL()}, Replicas: 1})
	put(t, another, "evt_1")
	if err := another.Close(); err != nil {
		t.Fatal(err)
	}
	load("")
	if text, err := os.ReadFile(log); err != nil || strings.Count(string(text), `"stream":"WEPAY","servers":"`+server.Addr().String()+`","waiting":1,"dead":0`) != 1 {
		t.Errorf("the log has (%v)\n%s", err, text)
	}
}

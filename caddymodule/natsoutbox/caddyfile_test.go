package natsoutbox

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

func adapt(caddyfile string) ([]byte, []caddyconfig.Warning, error) {
	return caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
}

// Each file of testdata/adapt is a Caddyfile, a line of ten dashes, and the
// JSON that comes of it.
func TestAdapt(t *testing.T) {
	files, err := filepath.Glob("testdata/adapt/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddyfiletest"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			caddyfile, want, found := strings.Cut(strings.ReplaceAll(string(data), "\r\n", "\n"), "----------\n")
			if !found {
				t.Fatal("the file has no line of dashes")
			}
			config, warnings, err := adapt(caddyfile)
			if err != nil || len(warnings) > 0 {
				t.Fatalf("adapting: %v, warnings %v", err, warnings)
			}
			var got bytes.Buffer
			if err := json.Indent(&got, config, "", "\t"); err != nil {
				t.Fatal(err)
			}
			if want = strings.TrimSpace(want); got.String() != want {
				t.Errorf("got:\n%s\nwant:\n%s", got.String(), want)
			}
			checkReadBack(t, config)
		})
	}
}

// checkReadBack demands that the store knows all that the parser writes for it.
func checkReadBack(t *testing.T, config []byte) {
	t.Helper()
	var parsed struct {
		Apps struct {
			Wepay struct {
				Outbox map[string]json.RawMessage `json:"outbox"`
			} `json:"wepay"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(config, &parsed); err != nil {
		t.Fatal(err)
	}
	delete(parsed.Apps.Wepay.Outbox, "store")
	written, err := json.Marshal(parsed.Apps.Wepay.Outbox)
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.StrictUnmarshalJSON(written, new(NATS)); err != nil {
		t.Error(err)
	}
}

// The lines stand in the block of the store, the first of them is line 4.
func TestWrongLines(t *testing.T) {
	tests := []struct{ lines, want string }{
		{"url", "wrong argument count or unexpected line ending after 'url', at Caddyfile:4"},
		{"stream", "wrong argument count or unexpected line ending after 'stream', at Caddyfile:4"},
		{"stream A B", "wrong argument count or unexpected line ending after 'A', at Caddyfile:4"},
		{"stream A\nstream B", "stream already specified, at Caddyfile:5"},
		{"replicas", "wrong argument count or unexpected line ending after 'replicas', at Caddyfile:4"},
		{"replicas three", `replicas: "three" is not a number, at Caddyfile:4`},
		{"credentials", "wrong argument count or unexpected line ending after 'credentials', at Caddyfile:4"},
		{"tls on", "wrong argument count or unexpected line ending after 'on', at Caddyfile:4"},
		{"tls {\nca a.pem\nca b.pem\n}", "ca already specified, at Caddyfile:6"},
		{"tls {\ncert a.pem\n}", "cert: needs the certificate's file and the key's, at Caddyfile:5"},
		{"tls {\ninsecure\n}", `unrecognized tls option "insecure", at Caddyfile:5`},
		{"path /tmp/x", `unrecognized outbox option "path", at Caddyfile:4`},
		{"workers many", `workers: "many" is not a number above 0, at Caddyfile:4`},
		{"keep 1x", `keep: "1x" is not a time above 0, at Caddyfile:4`},
	}
	for _, test := range tests {
		t.Run(test.lines, func(t *testing.T) {
			_, _, err := adapt("{\n\twepay {\n\t\toutbox nats {\n" + test.lines + "\n\t\t}\n\t}\n}\n")
			if err == nil {
				t.Fatal("it was accepted")
			}
			if got := strings.TrimPrefix(err.Error(), "parsing caddyfile tokens for 'wepay': "); !strings.HasPrefix(got, test.want) {
				t.Errorf("got:  %s\nwant: %s", got, test.want)
			}
		})
	}
}

// What is wrong with the options is told when they are provisioned, which
// connects to nothing.
func TestProvision(t *testing.T) {
	noKey := filepath.Join(t.TempDir(), "none.pem")
	text := write(t, "text", []byte("text"))
	ca := newAuthority(t)
	cert, key := ca.pair()
	_, otherKey := ca.pair()
	away := []string{"nats://127.0.0.1:1"}
	tests := []struct {
		name string
		n    *NATS
		want string // "": nothing
	}{
		{"least", &NATS{URLs: away}, ""},
		{"most", &NATS{URLs: []string{"127.0.0.1:1", "tls://x:y@127.0.0.1:1", "wss://127.0.0.1:1"}, Stream: "A-b_9", Replicas: 5, TLS: &TLS{CA: ca.file, Cert: cert, Key: key}}, ""},
		{"no url", &NATS{}, "url: needs the address of a NATS server"},
		{"no host", &NATS{URLs: []string{"nats://"}}, "url: must look like"},
		{"another scheme", &NATS{URLs: []string{"http://a-password@127.0.0.1"}}, "url: must look like"},
		{"placeholder", &NATS{URLs: []string{"{env.NO_SUCH_NATS}"}}, "url: resolving a placeholder"},
		{"stream", &NATS{URLs: away, Stream: "WE.PAY"}, `stream: "WE.PAY" is not 1 to 64 letters`},
		{"stream's placeholder", &NATS{URLs: away, Stream: "{env.NO_SUCH_NATS}"}, "stream: resolving a placeholder"},
		{"replicas", &NATS{URLs: away, Replicas: 2}, "replicas: must be 1, 3 or 5, not 2"},
		{"no credentials", &NATS{URLs: away, Credentials: noKey}, "credentials: reading the file"},
		{"other credentials", &NATS{URLs: away, Credentials: text}, "is no file of NATS credentials"},
		{"no ca", &NATS{URLs: away, TLS: &TLS{CA: noKey}}, "tls ca: reading the file"},
		{"other ca", &NATS{URLs: away, TLS: &TLS{CA: text}}, "has no certificate"},
		{"no key", &NATS{URLs: away, TLS: &TLS{Cert: cert}}, "tls: cert and key are needed together"},
		{"other key", &NATS{URLs: away, TLS: &TLS{Cert: cert, Key: otherKey}}, "tls cert: reading"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
			defer cancel()
			err := test.n.Provision(ctx)
			switch {
			case test.want == "" && err != nil:
				t.Errorf("Provision: %v", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("Provision: %v, want %q", err, test.want)
			case err != nil && strings.Contains(err.Error(), "a-password"):
				t.Errorf("the error tells the password: %v", err)
			}
			if err := test.n.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

// All that a connection depends on makes it another, the files' contents too.
func TestKey(t *testing.T) {
	file := write(t, "ca.pem", mustRead(t, newAuthority(t).file))
	config := func() *NATS {
		return &NATS{URLs: []string{"nats://127.0.0.1:1"}, TLS: &TLS{CA: file}}
	}
	first := newOutbox(t, config()).key()
	if again := newOutbox(t, config()).key(); again != first {
		t.Error("the same config has another key")
	}
	other := config()
	other.Workers = 3
	if newOutbox(t, other).key() != first {
		t.Error("what the connection does not depend on makes another key")
	}
	for name, change := range map[string]func(*NATS){
		"url":      func(n *NATS) { n.URLs = []string{"nats://127.0.0.1:2"} },
		"password": func(n *NATS) { n.URLs = []string{"nats://a:b@127.0.0.1:1"} },
		"stream":   func(n *NATS) { n.Stream = "OTHER" },
		"no tls":   func(n *NATS) { n.TLS = nil },
		"content": func(*NATS) {
			if err := os.WriteFile(file, mustRead(t, newAuthority(t).file), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		n := config()
		change(n)
		if newOutbox(t, n).key() == first {
			t.Errorf("another %s has the same key", name)
		}
	}
}

func mustRead(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

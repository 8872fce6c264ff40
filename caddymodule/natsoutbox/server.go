package natsoutbox

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

// TLS is what a connection to NATS trusts and shows.
type TLS struct {
	// A PEM file of the authorities that sign the servers' certificates.
	// Default: those that the system trusts.
	CA string `json:"ca,omitempty"`

	// PEM files of a certificate and its key, where the servers ask for one.
	Cert string `json:"cert,omitempty"`
	Key  string `json:"key,omitempty"`
}

// server is whom to connect to, and how.
type server struct {
	urls    []string
	hosts   string // the same without users and tokens, to be shown
	hash    string // of all that the connection depends on
	options []nats.Option
}

// provisionServer resolves what the connection needs. What a file holds counts,
// not only its name: a reload after it was replaced connects anew.
func (n *NATS) provisionServer(repl *caddy.Replacer) (server, error) {
	var s server
	hash := sha256.New()
	note := func(part []byte) { fmt.Fprintf(hash, "%d:%s", len(part), part) }
	var hosts []string
	for _, text := range n.URLs {
		text, err := replace(repl, "url", text)
		if err != nil {
			return s, err
		}
		u, err := parseURL(text)
		if err != nil {
			return s, err
		}
		s.urls, hosts = append(s.urls, u.String()), append(hosts, u.Host)
		note([]byte(u.String()))
	}
	if len(s.urls) == 0 {
		return s, errors.New("url: needs the address of a NATS server, such as nats://127.0.0.1:4222")
	}
	s.hosts = strings.Join(hosts, ", ")
	files, err := n.readFiles(repl)
	if err != nil {
		return s, err
	}
	for _, file := range files {
		note([]byte(file.option + file.path))
		note(file.content)
	}
	s.hash = hex.EncodeToString(hash.Sum(nil))
	s.options, err = fileOptions(files, n.TLS != nil)
	return s, err
}

// parseURL reads a server's address. What is wrong with it is told without it:
// there may be a password inside.
func parseURL(text string) (*url.URL, error) {
	if !strings.Contains(text, "://") {
		text = "nats://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
		return nil, errors.New("url: must look like nats://127.0.0.1:4222, or begin with tls://, ws:// or wss://")
	}
	return u, nil
}

// file is a file that an option names.
type file struct {
	option, path string
	content      []byte
}

// readFiles reads the files that are given, in the order of their options here.
func (n *NATS) readFiles(repl *caddy.Replacer) (files []file, err error) {
	trust := new(TLS)
	if n.TLS != nil {
		trust = n.TLS
	}
	if (trust.Cert == "") != (trust.Key == "") {
		return nil, errors.New("tls: cert and key are needed together")
	}
	for _, f := range []file{
		{option: "credentials", path: n.Credentials},
		{option: "tls ca", path: trust.CA},
		{option: "tls cert", path: trust.Cert},
		{option: "tls key", path: trust.Key},
	} {
		if f.path, err = replace(repl, f.option, f.path); err != nil {
			return nil, err
		}
		if f.path == "" {
			continue
		}
		if f.content, err = os.ReadFile(f.path); err != nil {
			return nil, fmt.Errorf("%s: reading the file: %w", f.option, err)
		}
		files = append(files, f)
	}
	return files, nil
}

// fileOptions returns what is made of the files.
func fileOptions(files []file, secure bool) ([]nats.Option, error) {
	given := make(map[string]file)
	for _, f := range files {
		given[f.option] = f
	}
	var options []nats.Option
	if f, ok := given["credentials"]; ok {
		if !strings.Contains(string(f.content), "BEGIN NATS USER JWT") {
			return nil, fmt.Errorf("credentials: %s is no file of NATS credentials", f.path)
		}
		options = append(options, nats.UserCredentials(f.path))
	}
	if !secure {
		return options, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f, ok := given["tls ca"]; ok {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(f.content) {
			return nil, fmt.Errorf("tls ca: %s has no certificate", f.path)
		}
	}
	if f, ok := given["tls cert"]; ok {
		pair, err := tls.X509KeyPair(f.content, given["tls key"].content)
		if err != nil {
			return nil, fmt.Errorf("tls cert: reading %s: %w", f.path, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return append(options, nats.Secure(config)), nil
}

// How long a server may take to answer, and to be found dead.
const (
	connectTimeout = 3 * time.Second
	pingInterval   = 5 * time.Second
)

// connect connects to one of the servers, and for good: it goes on connecting
// when that one is lost, whatever the servers say. Where nobody answers it tries
// until the context ends: NATS may be starting, as after the start of a machine
// that has both.
func (s server) connect(ctx context.Context, logger *zap.Logger) (*nats.Conn, error) {
	options := s.connectOptions(logger)
	for {
		nc, err := nats.Connect(strings.Join(s.urls, ","), options...)
		if err == nil {
			return nc, nil
		}
		err = fmt.Errorf("connecting to NATS at %s: %w", s.hosts, err)
		if !isAway(err) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(longestPause):
		}
	}
}

// isAway reports whether nobody answers at all.
func isAway(err error) bool {
	var failed *net.OpError
	return errors.Is(err, nats.ErrNoServers) || errors.As(err, &failed) && failed.Op == "dial"
}

func (s server) connectOptions(logger *zap.Logger) []nats.Option {
	logger = logger.With(zap.String("servers", s.hosts))
	return append([]nats.Option{
		nats.Name("caddy-wepay"),
		nats.Timeout(connectTimeout),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(2),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, time.Second),
		// What is sent while there is no connection fails at once: kept for later
		// it would be no answer to WeChat, which waits for one.
		nats.ReconnectBufSize(-1),
		// Credentials may be back in order by the next time.
		nats.IgnoreAuthErrorAbort(),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				logger.Warn("connection to NATS lost", zap.Error(err))
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			logger.Info("connected to NATS again", zap.String("server", nc.ConnectedServerName()))
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			logger.Error("NATS reports an error", zap.Error(err))
		}),
	}, s.options...)
}

package natsoutbox

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/windsome/caddy-wepay/caddymodule"
)

// refused checks that an outbox does not open, and says why without a secret.
func refused(t *testing.T, n *NATS, want string, secrets ...string) {
	t.Helper()
	began := time.Now()
	n = newOutbox(t, n)
	err := n.Open(within(t, lots))
	if err == nil {
		n.Close()
		t.Errorf("it opens, want %q", want)
		return
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("Open: %v, want %q", err, want)
	}
	for _, secret := range secrets {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error tells a secret: %v", err)
		}
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it takes %s", took)
	}
}

func TestPassword(t *testing.T) {
	s := startServer(t, func(o *serverOptions) { o.Username, o.Password = "shop", "right-one" })
	address := s.Addr().String()
	refused(t, &NATS{URLs: []string{"nats://shop:wrong-one@" + address}, Replicas: 1}, "Authorization Violation", "wrong-one")
	refused(t, &NATS{URLs: []string{"nats://" + address}, Replicas: 1}, "Authorization Violation")
	put(t, openOutbox(t, &NATS{URLs: []string{"nats://shop:right-one@" + address}, Replicas: 1}), "evt_1")
	t.Setenv("NATS_PASSWORD", "right-one")
	put(t, openOutbox(t, &NATS{URLs: []string{"nats://shop:{env.NATS_PASSWORD}@" + address}, Replicas: 1}), "evt_2")
}

// key makes a key, and what it gives of it.
func key(t testing.TB, make func() (nkeys.KeyPair, error)) (pair nkeys.KeyPair, public string) {
	t.Helper()
	pair, err := make()
	if err == nil {
		public, err = pair.PublicKey()
	}
	if err != nil {
		t.Fatalf("making a key: %v", err)
	}
	return pair, public
}

// credentials writes a file of credentials for a new user of an account.
func credentials(t testing.TB, account nkeys.KeyPair, expires time.Time) string {
	t.Helper()
	user, name := key(t, nkeys.CreateUser)
	claims := jwt.NewUserClaims(name)
	claims.Expires = expires.Unix()
	text, err := claims.Encode(account)
	if err != nil {
		t.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	content, err := jwt.FormatUserConfig(text, seed)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "user.creds", content)
}

func write(t testing.TB, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCredentials(t *testing.T) {
	operator, operatorName := key(t, nkeys.CreateOperator)
	account, accountName := key(t, nkeys.CreateAccount)
	stranger, _ := key(t, nkeys.CreateAccount)
	claims := jwt.NewAccountClaims(accountName)
	claims.Limits.JetStreamLimits = jwt.JetStreamLimits{DiskStorage: -1, MemoryStorage: -1, Streams: -1, Consumer: -1}
	text, err := claims.Encode(operator)
	if err != nil {
		t.Fatal(err)
	}
	_, systemName := key(t, nkeys.CreateAccount)
	system, err := jwt.NewAccountClaims(systemName).Encode(operator)
	if err != nil {
		t.Fatal(err)
	}
	s := startServer(t, func(o *serverOptions) {
		resolver := new(natsserver.MemAccResolver)
		for name, text := range map[string]string{accountName: text, systemName: system} {
			if err := resolver.Store(name, text); err != nil {
				t.Fatal(err)
			}
		}
		o.TrustedKeys, o.AccountResolver, o.SystemAccount = []string{operatorName}, resolver, systemName
	})
	url := []string{s.ClientURL()}
	tomorrow := time.Now().Add(24 * time.Hour)
	refused(t, &NATS{URLs: url, Replicas: 1}, "Authorization Violation")
	refused(t, &NATS{URLs: url, Replicas: 1, Credentials: credentials(t, stranger, tomorrow)}, "Authorization Violation")
	refused(t, &NATS{URLs: url, Replicas: 1, Credentials: credentials(t, account, time.Now().Add(-time.Hour))}, "Authorization Violation")
	put(t, openOutbox(t, &NATS{URLs: url, Replicas: 1, Credentials: credentials(t, account, tomorrow)}), "evt_1")
}

// authority signs certificates for the loopback address.
type authority struct {
	testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t testing.TB) *authority {
	a := &authority{TB: t}
	der, key := a.sign(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.key, a.file = key, write(t, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

func (a *authority) sign(template *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	a.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.Fatal(err)
	}
	template.SerialNumber, template.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: "test"}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.Fatal(err)
	}
	return der, key
}

// pair returns the files of a certificate and its key.
func (a *authority) pair() (certFile, keyFile string) {
	a.Helper()
	der, key := a.sign(&x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	text, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.Fatal(err)
	}
	return write(a, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		write(a, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: text}))
}

func TestTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	cert, key := ours.pair()
	s := startServer(t, func(o *serverOptions) {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AddCert(ours.cert)
		o.TLS, o.TLSTimeout = true, 5
		o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MinVersion: tls.VersionTLS12}
	})
	url := []string{"tls://" + s.Addr().String()}
	cert, key = ours.pair()
	foreignCert, foreignKey := theirs.pair()
	refused(t, &NATS{URLs: url, Replicas: 1}, "unknown authority")
	refused(t, &NATS{URLs: url, Replicas: 1, TLS: &TLS{CA: theirs.file, Cert: cert, Key: key}}, "unknown authority")
	refused(t, &NATS{URLs: url, Replicas: 1, TLS: &TLS{CA: ours.file}}, "connecting to NATS at")
	refused(t, &NATS{URLs: url, Replicas: 1, TLS: &TLS{CA: ours.file, Cert: foreignCert, Key: foreignKey}}, "connecting to NATS at")
	trust := &TLS{CA: ours.file, Cert: cert, Key: key}
	byName := fmt.Sprintf("tls://localhost:%d", s.Addr().(*net.TCPAddr).Port)
	refused(t, &NATS{URLs: []string{byName}, Replicas: 1, TLS: trust}, "not valid for any names")
	put(t, openOutbox(t, &NATS{URLs: url, Replicas: 1, TLS: trust}), "evt_1")

	plain := startServer(t, nil)
	refused(t, &NATS{URLs: []string{"tls://" + plain.Addr().String()}, Replicas: 1}, "secure connection not available")
	refused(t, &NATS{URLs: []string{plain.ClientURL()}, Replicas: 1, TLS: trust}, "secure connection not available")
}

// A NATS that is too old is refused before anything is asked of it.
func TestOldServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	defer serving.Wait()
	defer l.Close()
	serving.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, `INFO {"server_id":"old","version":"2.10.29","headers":true,"max_payload":1048576}`+"\r\n")
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			if lines.Text() == "PING" {
				fmt.Fprint(conn, "PONG\r\n")
			}
		}
	})
	refused(t, &NATS{URLs: []string{l.Addr().String()}, Replicas: 1}, "it is version 2.10.29: needs 2.11 or later")
}

func TestNoJetStream(t *testing.T) {
	s := startServer(t, func(o *serverOptions) { o.JetStream = false })
	refused(t, &NATS{URLs: []string{s.ClientURL()}, Replicas: 1}, "enable JetStream")
}

// A server that is away is waited for by Open as long as its context lasts, and
// later by each call; when it is back everything works by itself.
func TestServerAway(t *testing.T) {
	port := freePorts(t, 1)[0]
	store := t.TempDir()
	start := func() *natsserver.Server {
		return startServer(t, func(o *serverOptions) { o.Port, o.StoreDir = port, store })
	}
	n := &NATS{URLs: []string{"nats://user:a-password@" + (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}).String()}, Replicas: 1}
	away := newOutbox(t, &NATS{URLs: n.URLs, Replicas: 1})
	if err := away.Open(within(t, short)); err == nil || !strings.Contains(err.Error(), "connecting to NATS at 127.0.0.1:") || strings.Contains(err.Error(), "a-password") {
		t.Errorf("Open: %v", err)
	}
	o := newOutbox(t, n)
	opened := make(chan error)
	go func() { opened <- o.Open(within(t, lots)) }()
	s := start()
	if err := <-opened; err != nil {
		t.Fatalf("Open: %v", err)
	}
	defer o.Close()
	put(t, o, "evt_1")
	leased := make(chan []*caddymodule.Lease, 2)
	lease := func() {
		leases, err := o.Lease(within(t, lots), payments, 1, long)
		if err != nil {
			t.Errorf("Lease: %v", err)
		}
		leased <- leases
	}
	lease()
	go lease() // waits through it all
	s.Shutdown()
	s.WaitForShutdown()
	began := time.Now()
	if err := o.Put(within(t, short), payment("evt_2")); err == nil || time.Since(began) > short+time.Second {
		t.Errorf("Put: %v after %s", err, time.Since(began))
	}
	start()
	put(t, o, "evt_2")
	first := <-leased
	second := <-leased
	if first[0].Event.ID != "evt_1" || second[0].Event.ID != "evt_2" {
		t.Errorf("leased: %s and %s", first[0].Event.ID, second[0].Event.ID)
	}
	settle(t, o, first[0], caddymodule.Delivered)
	settle(t, o, second[0], caddymodule.Delivered)
}

// At a reload two configs have one connection, which is there as long as one of
// them has it open. What it depends on makes it another.
func TestReload(t *testing.T) {
	s := startServer(t, nil)
	config := func() *NATS { return &NATS{URLs: []string{s.ClientURL()}, Replicas: 1} }
	before := newOutbox(t, config())
	if err := before.Open(within(t, lots)); err != nil {
		t.Fatalf("Open: %v", err)
	}
	put(t, before, "evt_1", "evt_2")
	leaseOne(t, before, long)
	changed := config()
	changed.Workers = 3
	after := openOutbox(t, changed)
	if n := s.NumClients(); n != 1 {
		t.Errorf("%d connections", n)
	}
	for range 2 {
		if err := before.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	put(t, before, "evt_3") // of a request that came before
	deliver(t, after, 3)

	refusedConfig := config()
	refusedConfig.Replicas = 3
	refused(t, refusedConfig, "num_replicas")
	put(t, after, "evt_4")
	deliver(t, after, 1)

	other := config()
	other.Stream = "OTHER"
	openOutbox(t, other)
	if n := s.NumClients(); n != 2 {
		t.Errorf("%d connections with another stream", n)
	}
}

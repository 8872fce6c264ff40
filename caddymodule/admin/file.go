package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/caddymodule/store/sqlstore"
)

// fileOpenTime is how long a file may take to open: it may have to be checked.
const fileOpenTime = 10 * time.Minute

// serveFile serves what is in an SQLite file, which no server has open, at an
// address of this process's own, and returns what ends that.
func serveFile(path string) (address string, stop func() error, err error) {
	events, cancel, err := openFile(path)
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "wepay-events-") // for this user alone
	if err != nil {
		return "", nil, errors.Join(err, events.Close())
	}
	socket := filepath.Join(dir, "socket")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return "", nil, errors.Join(err, events.Close(), os.RemoveAll(dir))
	}
	mux := routes(func() (store.Store, error) { return events, nil })
	routeReconciler(mux, func() (reconciler, error) { return fileReconciler{events}, nil })
	server := &http.Server{Handler: mux}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	return "unix/" + socket, func() error {
		err := server.Close()
		if serveErr := <-done; !errors.Is(serveErr, http.ErrServerClosed) {
			err = errors.Join(err, serveErr)
		}
		defer cancel()
		return errors.Join(err, events.Close(), os.RemoveAll(dir))
	}, nil
}

// openFile opens a file that is there.
func openFile(path string) (events store.Store, cancel context.CancelFunc, err error) {
	if _, err := os.Stat(path); err != nil {
		return nil, nil, err
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	file := &sqlstore.SQLite{Path: path}
	opening, opened := context.WithTimeout(ctx, fileOpenTime)
	defer opened()
	if err = file.Provision(ctx); err == nil {
		err = file.Open(opening, store.Options{})
	}
	if err != nil {
		cancel()
		return nil, nil, fmt.Errorf("opening %s: %w (leave --path out to ask the server that has it open)", path, err)
	}
	return file, cancel, nil
}

// Package admin is the operators' view of the module: routes of Caddy's admin
// endpoint, and the commands `caddy wepay` that ask them.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"time"

	"github.com/caddyserver/caddy/v2"
	strictjson "github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/windsome/caddy-wepay/caddymodule/recovery/reconcile"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

func init() {
	caddy.RegisterModule(&adminAPI{})
}

// adminAPI has the routes under /wepay of Caddy's admin endpoint.
type adminAPI struct {
	mux *http.ServeMux
}

// CaddyModule returns the Caddy module information.
func (*adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.wepay",
		New: func() caddy.Module { return new(adminAPI) },
	}
}

// collectors are the metrics of other packages.
var collectors []prometheus.Collector

// AddCollector has metrics of another package registered with every config's
// registry, also where the admin endpoint has a config that was refused. It is for
// that package's init.
func AddCollector(collector prometheus.Collector) { collectors = append(collectors, collector) }

// RegisterMetrics registers the metrics that were added with a config's registry,
// once.
func RegisterMetrics(ctx caddy.Context) error {
	for _, collector := range collectors {
		err := ctx.GetMetricsRegistry().Register(collector)
		var registered prometheus.AlreadyRegisteredError
		if err != nil && !errors.As(err, &registered) {
			return fmt.Errorf("registering metrics: %w", err)
		}
	}
	return nil
}

// Provision sets up the routes, and the metrics at the admin endpoint. The app
// is looked for when it is asked for: the admin endpoint is set up before the
// apps, and stays when they are refused.
func (a *adminAPI) Provision(ctx caddy.Context) error {
	a.mux = routes(liveStore)
	routeReconciler(a.mux, liveReconciler)
	return RegisterMetrics(ctx)
}

// Routes returns the one route that leads to all of them.
func (a *adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "/wepay/events", Handler: caddy.AdminHandlerFunc(a.serve)},
		{Pattern: "/wepay/events/", Handler: caddy.AdminHandlerFunc(a.serve)},
		{Pattern: "/wepay/reconcile", Handler: caddy.AdminHandlerFunc(a.serve)},
		{Pattern: "/wepay/reconcile/", Handler: caddy.AdminHandlerFunc(a.serve)},
		{Pattern: "/wepay/orders", Handler: caddy.AdminHandlerFunc(a.serve)},
		{Pattern: "/wepay/orders/", Handler: caddy.AdminHandlerFunc(a.serve)},
	}
}

func (a *adminAPI) serve(w http.ResponseWriter, r *http.Request) error {
	a.mux.ServeHTTP(w, r)
	return nil
}

// App is what operators see of the app "wepay".
type App interface {
	// Store returns the store of its events and orders; nil: it has none.
	Store() store.Store

	// Reconciler returns what reconciles bills; nil: no merchant is reconciled.
	Reconciler() *reconcile.Reconciler
}

// Live returns the app of the config that is live. A reload that is refused
// leaves Caddy's admin endpoint with the refused config, of which nothing runs.
// Without an app it returns caddy.ErrNotConfigured.
func Live() (App, error) {
	live := caddy.ActiveContext()
	if live.Context == nil {
		return nil, fmt.Errorf("no config is running: %w", store.ErrClosed)
	}
	app, err := live.AppIfConfigured("wepay")
	if err != nil {
		return nil, err
	}
	return app.(App), nil
}

// Errors of the operators' view.
var (
	// errNoStore says that there is nothing to look into.
	errNoStore = errors.New("the config has no store: see the option store of the global option wepay")

	// errNoMerchant says that there is nothing of a merchant.
	errNoMerchant = errors.New("the store has no events of it")

	// errNoNumber says that there is nothing of a number.
	errNoNumber = errors.New("the store has no order, refund or event of this number: if it was placed elsewhere, or longer ago than keep_rows, " +
		"ask WeChat Pay by the route order_query, or refund_query for a refund; `caddy wepay events list` has what came in")
)

// liveStore returns the store of the config that is live.
func liveStore() (store.Store, error) {
	app, err := Live()
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, errNoStore
	}
	if err != nil {
		return nil, err
	}
	if s := app.Store(); s != nil {
		return s, nil
	}
	return nil, errNoStore
}

// routes serves a store, wherever it is found.
func routes(find func() (store.Store, error)) *http.ServeMux {
	mux := http.NewServeMux()
	for pattern, serve := range map[string]func(s store.Store, w http.ResponseWriter, r *http.Request) error{
		"GET /wepay/events":              serveEvents,
		"GET /wepay/events/counts":       serveCounts,
		"GET /wepay/events/{id}":         serveEvent,
		"POST /wepay/events/{id}/replay": serveReplay,
		"POST /wepay/events/{id}/drop":   serveDrop,
		"POST /wepay/events/replay":      serveReplayAll,
		"GET /wepay/events/export":       serveExport,
		"POST /wepay/events/import":      serveImport,
		"GET /wepay/orders":              serveOrders,
		"GET /wepay/orders/counts":       serveOrderCounts,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			s, err := find()
			if err == nil && r.PathValue("id") != "" && !eventID.MatchString(r.PathValue("id")) {
				err = badRequest("this is no event's id")
			}
			if err == nil {
				err = serve(s, w, r)
			}
			if err != nil {
				writeError(w, err)
			}
		})
	}
	return mux
}

// eventID is the form of an event's ID.
var eventID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// badRequest says what is wrong with a request.
type badRequest string

func (e badRequest) Error() string { return string(e) }

// writeError answers as Caddy's own admin API does.
func writeError(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	var bad badRequest
	switch {
	case errors.As(err, &bad), errors.Is(err, store.ErrNoPage), errors.Is(err, reconcile.ErrDay), errors.Is(err, wepay.ErrMalformed):
		status = http.StatusBadRequest
	case errors.Is(err, store.ErrNoEvent), errors.Is(err, errNoStore), errors.Is(err, errNoMerchant), errors.Is(err, errNoNumber),
		errors.Is(err, reconcile.ErrNotReconciled), errors.Is(err, reconcile.ErrNoReport):
		status = http.StatusNotFound
	case errors.Is(err, store.ErrWrongState), errors.Is(err, store.ErrNoPayload), errors.Is(err, reconcile.ErrBusy):
		status = http.StatusConflict
	case errors.Is(err, store.ErrClosed), errors.Is(err, store.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	writeLine(w, map[string]string{"error": err.Error()})
}

// writeLine writes a line of JSON. Whoever does not wait for it has hung up.
func writeLine(w io.Writer, v any) {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(v)
}

func answer(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	writeLine(w, v)
	return nil
}

func readRequest(w http.ResponseWriter, r *http.Request, request any) error {
	body := http.MaxBytesReader(w, r.Body, maxBody)
	if err := strictjson.UnmarshalRead(body, request, strictjson.RejectUnknownMembers(true)); err != nil {
		return badRequest("reading the request: " + err.Error())
	}
	return nil
}

// maxBody bounds a request that is no import, in bytes.
const maxBody = 64 << 10

// lookTime is how long a store may take over what is only looked at.
const lookTime = 3 * time.Second

// look asks a store for something, and does not wait for one that hangs.
func look(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	if err := ask(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%w: it did not answer within %s", store.ErrUnavailable, lookTime)
}

// Interface guards
var (
	_ caddy.AdminRouter = (*adminAPI)(nil)
	_ caddy.Provisioner = (*adminAPI)(nil)
)

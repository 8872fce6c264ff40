package admin

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/windsome/caddy-wepay/caddymodule/recovery/reconcile"
	"github.com/windsome/caddy-wepay/caddymodule/store"
)

// reconciler is what reconciles bills.
type reconciler interface {
	ByHand(ctx context.Context, name, date string) (*reconcile.Report, error)
	Compare(ctx context.Context, name, date string, bill io.Reader) (*reconcile.Report, error)
	Stored(ctx context.Context, name, date string) (*reconcile.Report, error)
}

// liveReconciler returns what reconciles in the config that is live.
func liveReconciler() (reconciler, error) {
	app, err := Live()
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, reconcile.ErrNotReconciled
	}
	if err != nil {
		return nil, err
	}
	if r := app.Reconciler(); r != nil {
		return r, nil
	}
	return nil, reconcile.ErrNotReconciled
}

// errFile says that a file can be compared with only.
var errFile = errors.New("with --path a bill is compared with a file only: --bill says which bill")

// fileReconciler compares bills with a store that no server has open.
type fileReconciler struct{ store.Store }

func (fileReconciler) ByHand(context.Context, string, string) (*reconcile.Report, error) {
	return nil, errFile
}

func (fileReconciler) Stored(context.Context, string, string) (*reconcile.Report, error) {
	return nil, errFile
}

// Compare takes the names of all merchants that share the bill's account, with commas
// between them: the file does not say who does.
func (f fileReconciler) Compare(ctx context.Context, names, date string, bill io.Reader) (*reconcile.Report, error) {
	merchants := strings.Split(names, ",")
	for _, name := range merchants {
		orders, _, err := f.ListOrders(ctx, store.OrderFilter{Merchant: name}, "", 1)
		if err != nil {
			return nil, err
		}
		counts, err := f.Count(ctx)
		if err != nil {
			return nil, err
		}
		if len(orders) == 0 && !slices.ContainsFunc(counts, func(c store.Count) bool { return c.Merchant == name }) {
			return nil, badRequest("merchant " + plain(name) + ": the file has nothing of it")
		}
	}
	return reconcile.Offline(ctx, f.Store, merchants, date, bill)
}

// routeReconciler adds the routes of a reconciler, wherever it is found.
func routeReconciler(mux *http.ServeMux, find func() (reconciler, error)) {
	for pattern, serve := range map[string]func(reconciler, http.ResponseWriter, *http.Request) (*reconcile.Report, error){
		"POST /wepay/reconcile":                 serveReconcile,
		"POST /wepay/reconcile/compare":         serveCompare,
		"GET /wepay/reconcile/{account}/{date}": serveReport,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			reconciler, err := find()
			var report *reconcile.Report
			if err == nil {
				report, err = serve(reconciler, w, r)
			}
			if err == nil {
				err = answer(w, report)
			}
			if err != nil {
				writeError(w, err)
			}
		})
	}
}

// serveReconcile reconciles a bill now, which may take minutes.
func serveReconcile(r reconciler, w http.ResponseWriter, req *http.Request) (*reconcile.Report, error) {
	var request struct {
		Merchant string `json:"merchant"`
		Date     string `json:"date"`
	}
	if err := readRequest(w, req, &request); err != nil {
		return nil, err
	}
	return r.ByHand(req.Context(), request.Merchant, request.Date)
}

// serveCompare compares a bill that the request brings.
func serveCompare(r reconciler, w http.ResponseWriter, req *http.Request) (*reconcile.Report, error) {
	query := req.URL.Query()
	return r.Compare(req.Context(), query.Get("merchant"), query.Get("date"), patient(w, req.Body))
}

func serveReport(r reconciler, _ http.ResponseWriter, req *http.Request) (report *reconcile.Report, err error) {
	err = look(req.Context(), func(ctx context.Context) error {
		report, err = r.Stored(ctx, req.PathValue("account"), req.PathValue("date"))
		return err
	})
	return report, err
}

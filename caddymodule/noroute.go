package caddymodule

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"

	"github.com/windsome/caddy-wepay/caddymodule/internal/sampler"
	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
)

// The routes that WeChat's notifications come to; either takes all of them.
const (
	payNotify    = "pay_notify"
	refundNotify = "refund_notify"
)

// Reasons why no route is for a request; see noRoute.
var (
	errNoRoute = errors.New("there is no such route here")

	// errMisdirected says that a notification came to the route of an operation.
	errMisdirected = errors.New("it is a notification of WeChat Pay's, and the route takes none: notify_url must end with /" + payNotify)
)

// mostStrays is how many paths that are no route are logged in a minute. Anybody may
// ask for some.
const mostStrays = 20

// strays are the paths of this minute, apart where they look like notifications', so
// that scanners of other paths keep none of those out.
type strays struct {
	notifications, others sampler.Distinct
}

// isNew reports whether a path is to be logged.
func (s *strays) isNew(path, nearest string) bool {
	if nearest == payNotify || nearest == refundNotify {
		return s.notifications.New(path, mostStrays)
	}
	return s.others.New(path, mostStrays)
}

// noRoute returns the 404 of a request that no route is for, warns of that and counts
// it. WeChat may be who asks, and over API v3 any 2xx means to it that the
// notification was taken.
func (h *Handler) noRoute(r *http.Request, reason error) error {
	nearest := payNotify
	if errors.Is(reason, errNoRoute) {
		nearest = nearestRoute(strings.Trim(strings.TrimPrefix(r.URL.Path, h.prefix), "/"))
	}
	if nearest != "" {
		reason = fmt.Errorf("%w; the nearest is %s/%s", reason, h.prefix, nearest)
	}
	h.app.metrics.noRoutes.WithLabelValues(nearest).Inc()
	if path := printable(r.URL.Path); h.app.strays.isNew(path, nearest) {
		h.logger.Warn("no route", zap.String("path", path), zap.Error(reason))
	} else {
		h.app.refused.Count(strings.TrimSuffix("no route, near "+nearest, ", near "))
	}
	return statusError{http.StatusNotFound, codeNoSuchAPI, reason}
}

// printable bounds what may be long.
func printable(text string) string {
	const most = 128 // bytes
	if len(text) > most {
		return text[:most] + "…"
	}
	return text
}

// looksLikeNotification reports whether a body is one of API v2, or the envelope of
// one of API v3, which may have lost its signature on the way.
func looksLikeNotification(body []byte) bool {
	body = bytes.TrimLeft(body, " \t\r\n")
	if !bytes.HasPrefix(body, []byte("{")) {
		return bytes.HasPrefix(body, []byte("<"))
	}
	var envelope struct {
		EventType jsontext.Value `json:"event_type"`
		Resource  jsontext.Value `json:"resource"`
	}
	err := json.Unmarshal(body, &envelope)
	return err == nil && envelope.EventType != nil && envelope.Resource.Kind() == '{'
}

// nearestRoute returns the route that a path was probably meant to be; "": it
// resembles none.
func nearestRoute(path string) string {
	path = letters(path[:min(len(path), 64)])
	if strings.Contains(path, "notif") || strings.Contains(path, "callback") {
		if strings.Contains(path, "refund") {
			return refundNotify
		}
		return payNotify
	}
	nearest, least := "", len(path)/2+1
	for _, name := range routeNames {
		if d := distance(path, letters(name)); d < least {
			nearest, least = name, d
		}
	}
	return nearest
}

// routeNames are those of all routes.
var routeNames = func() []string {
	names := []string{payNotify, refundNotify}
	for _, op := range slices.Concat(apiv2.Operations(), apiv3.Operations(), []wepay.Operation{wepay.OpenID}) {
		names = append(names, string(op))
	}
	slices.Sort(names)
	return slices.Compact(names)
}()

// letters leaves out case and punctuation, which is what people get wrong.
func letters(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, text)
}

// distance is how many bytes have to be put in, taken out or replaced to make
// one text of the other.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}

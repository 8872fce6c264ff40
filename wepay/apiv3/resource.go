package apiv3

import (
	"fmt"

	"github.com/windsome/caddy-wepay/wepay"
)

// readResource finds out what a notification's content is about, by what it has
// and not by its event_type alone: WeChat is known to send what is of profit
// sharing as TRANSACTION.SUCCESS.
func readResource(eventType string, content object) (wepay.Kind, wepay.Fields, error) {
	return "", nil, fmt.Errorf("%w: event_type %q", wepay.ErrUnknownKind, eventType)
}

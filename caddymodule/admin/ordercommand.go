package admin

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/windsome/caddy-wepay/caddymodule/recovery"
	"github.com/windsome/caddy-wepay/caddymodule/store"
	"github.com/windsome/caddy-wepay/wepay"
)

func orderCommand() *cobra.Command {
	return (&client{name: "order", routes: "/wepay/orders", out: os.Stdout, in: os.Stdin}).order()
}

// order is the command `order`.
func (c *client) order() *cobra.Command {
	var filter store.OrderFilter
	var asJSON bool
	cmd := c.command("order [<out_trade_no>|<transaction_id>|<out_refund_no>] [--merchant <name>] [--kind <kind>] [--state <state>] [--json]",
		"Tells all that is known of an order", `
Tells all that the store of the running server knows of an order: when it was
placed, when WeChat was asked about it, when it was paid, when the order service
was told or why not, and its refunds. A transfer or red packet is found by its
number as well. Without a number it lists orders, or, without any flag, shows how
many there are. It asks the server's admin endpoint.`,
		cobra.MaximumNArgs(1), func(args []string) error {
			switch {
			case len(args) == 0 && filter == (store.OrderFilter{}) && !asJSON:
				return c.orderCounts()
			case len(args) == 0:
				return c.listOrders(filter, asJSON)
			case filter != (store.OrderFilter{}):
				return errors.New("a number is looked up among all merchants: leave out --merchant, --kind and --state")
			}
			uri := "?" + url.Values{"number": args}.Encode()
			if asJSON {
				return c.print(http.MethodGet, uri, nil)
			}
			return c.tell(args[0], uri)
		})
	c.serverFlags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&filter.Merchant, "merchant", "", "List the orders of this merchant alone")
	flags.StringVar((*string)(&filter.Kind), "kind", "", "List orders of this kind alone: "+oneOf(store.OrderKinds()))
	flags.StringVar((*string)(&filter.State), "state", "", "List orders in this state alone: "+oneOf(store.OrderStates()))
	flags.BoolVar(&asJSON, "json", false, "JSON instead of text: what the admin API answers, of a list a line for each order")
	return cmd
}

func (c *client) orderCounts() error {
	var reply orderCounts
	if err := c.get("/counts", &reply); err != nil {
		return err
	}
	return c.table("MERCHANT\tKIND\tSTATE\tORDERS", func(line func(cells ...any)) error {
		for _, count := range reply.Counts {
			line(plain(count.Merchant), plain(count.Kind), plain(count.State), count.Orders)
		}
		return nil
	})
}

func (c *client) listOrders(filter store.OrderFilter, asJSON bool) error {
	pages := func(do func(*store.Order)) error {
		query := url.Values{"merchant": {filter.Merchant}, "kind": {string(filter.Kind)}, "state": {string(filter.State)}}
		return follow("orders", query, func(uri string) ([]*store.Order, string, error) {
			var page orderPage
			err := c.get(uri, &page)
			return page.Orders, page.Next, err
		}, do)
	}
	if asJSON {
		return pages(func(o *store.Order) {
			var text bytes.Buffer
			writeLine(&text, o)
			fmt.Fprint(c.out, plainJSON(text.Bytes()))
		})
	}
	return c.table("NUMBER\tMERCHANT\tKIND\tSTATE\tAMOUNT\tPLACED (BEIJING)\tENDED\tASKED\tASKED NEXT\tREASON", func(line func(cells ...any)) error {
		return pages(func(o *store.Order) {
			line(plain(o.Number), plain(o.Merchant), plain(o.Kind), plain(o.State), amountOf(o.Amount, o.Currency), clockOf(o.Placed), clockOf(o.Ended),
				o.Asked, clockOf(o.Due), plain(o.Reason))
		})
	})
}

// tell prints the stories of a number.
func (c *client) tell(number, uri string) error {
	var reply told
	if err := c.get(uri, &reply); err != nil {
		return err
	}
	for i, story := range reply.Stories {
		if story == nil || story.Order == nil && len(story.Events) == 0 {
			return errNoStory
		}
		if i > 0 {
			fmt.Fprintln(c.out)
		}
		if err := c.tellStory(number, story); err != nil {
			return err
		}
	}
	if len(reply.Stories) == 0 {
		return errNoStory
	}
	return nil
}

var errNoStory = errors.New("the answer tells of no order (is it a Caddy with this module?)")

// tellStory prints a story: how it stands, and what happened.
func (c *client) tellStory(number string, story *recovery.Story) error {
	for _, o := range append([]*store.Order{story.Order}, story.Refunds...) {
		if o == nil {
			fmt.Fprintf(c.out, "%s: no order of it was placed here, or not with this account; what WeChat Pay told:\n", plain(number))
			continue
		}
		fmt.Fprintln(c.out, standing(o))
	}
	return c.table("BEIJING TIME\tOF\tWHAT\tDETAILS", func(line func(cells ...any)) error {
		for _, m := range momentsOf(story) {
			line(clockOf(m.at), plain(m.of), plain(m.what), m.details)
		}
		return nil
	})
}

// clockOf is a time in Beijing, which WeChat's own are in; "-": there is none.
func clockOf(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return at.In(wepay.Beijing).Format(time.DateTime)
}

// amountOf is an amount in the smallest unit of its currency.
func amountOf(amount int64, currency string) string {
	if cmp.Or(currency, "CNY") == "CNY" {
		return fmt.Sprintf("%d fen", amount)
	}
	return fmt.Sprintf("%d %s (in its smallest unit)", amount, plain(currency))
}

package admin

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/windsome/caddy-wepay/caddymodule/store"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "wepay",
		Usage: "<command>",
		Short: "Commands of the WeChat Pay module",
		CobraFunc: func(cmd *cobra.Command) {
			// Cobra shows its help for a command that it does not know, as if all were well.
			cmd.Args = cobra.NoArgs
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			cmd.AddCommand(eventsCommand(), orderCommand(), reconcileCommand())
			for _, command := range commands {
				cmd.AddCommand(command())
			}
		},
	})
}

// commands are those of other packages.
var commands []func() *cobra.Command

// AddCommand puts a command of another package under `caddy wepay`. It is for
// that package's init.
func AddCommand(command func() *cobra.Command) { commands = append(commands, command) }

func eventsCommand() *cobra.Command {
	return (&client{out: os.Stdout, in: os.Stdin}).root()
}

// root is the command `events` with those below it.
func (c *client) root() *cobra.Command {
	cmd := c.command("events", "Shows how many events the store has", `
Shows how many events the store of the running server has, by merchant and
state. The commands below look into it, and hand over again or drop events. They
ask the server's admin endpoint.`, cobra.NoArgs, func([]string) error { return c.counts() })
	c.serverFlags(cmd)
	cmd.AddCommand(c.listCommand(), c.showCommand(), c.replayCommand(), c.dropCommand(), c.exportCommand(), c.importCommand())
	return cmd
}

// serverFlags adds the flags that say what is asked, to a command and those below it.
func (c *client) serverFlags(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.StringVar(&c.address, "address", "", "Address of the server's admin endpoint (default: that of the config, else localhost:2019)")
	flags.StringVarP(&c.config, "config", "c", "", "Config file of the server, to find its admin endpoint")
	flags.StringVarP(&c.adapter, "adapter", "a", "", "Adapter of the config file")
	flags.StringVar(&c.path, "path", "", "Look into this SQLite file, which no server has open, instead of asking one")
	for _, other := range []string{"address", "config", "adapter"} {
		cmd.MarkFlagsMutuallyExclusive("path", other)
	}
}

// command is a command that has its own flags still to get.
func (c *client) command(use, short, long string, args cobra.PositionalArgs, run func(args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) {
				if err := c.within(func() error { return run(args) }); err != nil {
					return caddy.ExitCodeFailedStartup, fmt.Errorf("%s: %w", cmp.Or(c.name, "events"), err)
				}
				return caddy.ExitCodeSuccess, nil
			})(cmd, args)
		},
	}
}

func (c *client) listCommand() *cobra.Command {
	var filter store.Filter
	var asJSON bool
	cmd := c.command("list [--merchant <name>] [--state <state>] [--event <event_type>] [--number <number>] [--json]", "Lists events", "", cobra.NoArgs, func([]string) error {
		return c.list(filter, asJSON)
	})
	filterFlags(cmd, &filter)
	cmd.Flags().BoolVar(&asJSON, "json", false, "Lines of JSON instead of a table")
	return cmd
}

func filterFlags(cmd *cobra.Command, filter *store.Filter) {
	cmd.Flags().StringVar(&filter.Merchant, "merchant", "", "Events of this merchant alone")
	cmd.Flags().StringVar((*string)(&filter.State), "state", "", "Events in this state alone: waiting, delivered, dead, dropped or quarantined")
	cmd.Flags().StringVar(&filter.EventType, "event", "", "Events of this event_type alone, such as COMPLAINT.CREATE")
	cmd.Flags().StringVar(&filter.Number, "number", "", "Events of this out_trade_no, transaction_id or out_refund_no alone")
}

// query is a filter as the admin API takes it.
func query(filter store.Filter) url.Values {
	return url.Values{"merchant": {filter.Merchant}, "state": {string(filter.State)}, "event": {filter.EventType}, "number": {filter.Number}}
}

func (c *client) showCommand() *cobra.Command {
	var personal bool
	cmd := c.command("show <id> [--personal]", "Shows an event, with what the order service gets", "", cobra.ExactArgs(1), func(args []string) error {
		return c.printOf(args[0], http.MethodGet, "?personal="+fmt.Sprint(personal), nil)
	})
	cmd.Flags().BoolVar(&personal, "personal", false, "Show openids and accounts as well")
	return cmd
}

func (c *client) replayCommand() *cobra.Command {
	var merchant string
	var all bool
	cmd := c.command("replay <id> | --merchant <name> | --all", "Hands over again an event, or all that were given up", "", cobra.MaximumNArgs(1), func(args []string) error {
		given := len(args)
		for _, is := range []bool{merchant != "", all} {
			if is {
				given++
			}
		}
		if given != 1 {
			return errors.New("replay needs an id, --merchant or --all: one of them")
		}
		if len(args) == 1 {
			return c.printOf(args[0], http.MethodPost, "/replay", nil)
		}
		return c.print(http.MethodPost, "/replay", map[string]any{"merchant": merchant, "all": all})
	})
	cmd.Flags().StringVar(&merchant, "merchant", "", "All that were given up of this merchant")
	cmd.Flags().BoolVar(&all, "all", false, "All that were given up")
	return cmd
}

func (c *client) dropCommand() *cobra.Command {
	var reason string
	cmd := c.command("drop <id> --reason <text>", "Takes an event out of the way: it is not handed over unless it is replayed", "", cobra.ExactArgs(1), func(args []string) error {
		return c.printOf(args[0], http.MethodPost, "/drop", map[string]any{"reason": reason})
	})
	cmd.Flags().StringVar(&reason, "reason", "", "Why; stored with the event")
	return cmd
}

func (c *client) exportCommand() *cobra.Command {
	var filter store.Filter
	cmd := c.command("export [<file>] [--merchant <name>] [--state <state>] [--event <event_type>] [--number <number>]", "Writes whole events as lines of JSON", `
Writes whole events, with the customers' data that is in them, to a file or to
the standard output.`, cobra.MaximumNArgs(1), func(args []string) error { return c.export(filter, args) })
	filterFlags(cmd, &filter)
	return cmd
}

func (c *client) importCommand() *cobra.Command {
	return c.command("import [<file>]", "Stores the events of an export", `
Stores what an export wrote, from a file or from the standard input, and says how
many events were imported and how many were known. Events that the store has are
left as they are.`, cobra.MaximumNArgs(1), func(args []string) error {
		in := c.in
		if len(args) == 1 {
			file, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer file.Close()
			in = file
		}
		return c.copy(http.MethodPost, "/import", in, c.out)
	})
}

func (c *client) export(filter store.Filter, args []string) error {
	uri := "/export?" + query(filter).Encode()
	if len(args) == 0 {
		return c.copy(http.MethodGet, uri, nil, c.out)
	}
	file, err := os.OpenFile(args[0], os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(c.copy(http.MethodGet, uri, nil, file), file.Sync(), file.Close())
	if err != nil { // what is cut off is of no use
		return errors.Join(err, os.Remove(args[0]))
	}
	return nil
}

func (c *client) counts() error {
	var reply struct {
		Counts []store.Count `json:"counts"`
	}
	if err := c.get("/counts", &reply); err != nil {
		return err
	}
	return c.table("MERCHANT\tSTATE\tEVENTS", func(line func(cells ...any)) error {
		for _, count := range reply.Counts {
			line(plain(count.Merchant), plain(count.State), count.Events)
		}
		return nil
	})
}

// table prints lines of cells below a heading, and nothing where there is an
// error instead of them.
func (c *client) table(heading string, fill func(line func(cells ...any)) error) error {
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, heading)
	lines := 0
	var flushed error
	err := fill(func(cells ...any) {
		fmt.Fprintf(w, strings.Repeat("%v\t", len(cells)-1)+"%v\n", cells...)
		if lines++; lines%longestPage == 0 {
			flushed = errors.Join(flushed, w.Flush())
		}
	})
	if err != nil && lines == 0 {
		return err
	}
	return errors.Join(err, flushed, w.Flush())
}

// plain is a text as it can be shown: quoted where it has anything that would
// change lines, or how the terminal shows what comes after it.
func plain[T ~string](text T) string {
	if strings.ContainsFunc(string(text), isControl) {
		return strconv.QuoteToGraphic(string(text))
	}
	return string(text)
}

func isControl(r rune) bool { return !unicode.IsGraphic(r) }

// plainJSON is JSON that says the same, without anything of that kind but the
// ends of its lines.
func plainJSON(text []byte) string {
	var b strings.Builder
	for _, r := range string(text) {
		switch {
		case r == '\n' || !isControl(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func (c *client) list(filter store.Filter, asJSON bool) error {
	if asJSON {
		return c.pages(filter, func(e *store.Event) {
			var text bytes.Buffer
			writeLine(&text, e)
			fmt.Fprint(c.out, plainJSON(text.Bytes()))
		})
	}
	return c.table("ID\tMERCHANT\tKIND\tEVENT\tNUMBER\tSTATE\tATTEMPTS\tRECEIVED\tDUE OR ENDED\tREASON", func(line func(cells ...any)) error {
		return c.pages(filter, func(e *store.Event) {
			at := e.Due
			if e.State != store.Waiting {
				at = e.Ended
			}
			line(plain(e.ID), plain(e.Merchant), plain(e.Kind), plain(e.EventType), plain(cmp.Or(e.OutRefundNo, e.OutTradeNo)), plain(e.State), e.Attempts,
				e.Received.Format(time.RFC3339), at.Format(time.RFC3339), plain(e.Reason))
		})
	})
}

// pages goes through all pages of events.
func (c *client) pages(filter store.Filter, do func(*store.Event)) error {
	return follow("events", query(filter), func(uri string) ([]*store.Event, string, error) {
		var page eventPage
		err := c.get(uri, &page)
		return page.Events, page.Next, err
	}, do)
}

// follow goes through all pages that a query asks for.
func follow[T any](of string, query url.Values, read func(uri string) (page []T, next string, err error), do func(T)) error {
	query.Set("limit", strconv.Itoa(longestPage))
	for {
		page, next, err := read("?" + query.Encode())
		if err != nil {
			return err
		}
		if page == nil || next == query.Get("after") && next != "" {
			return fmt.Errorf("the answer is no page of %s (is it a Caddy with this module?)", of)
		}
		for _, one := range page {
			do(one)
		}
		if next == "" || len(page) == 0 {
			return nil
		}
		query.Set("after", next)
	}
}

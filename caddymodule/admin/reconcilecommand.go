package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/windsome/caddy-wepay/caddymodule/recovery/reconcile"
)

// reconciling is what the command `reconcile` is asked for.
type reconciling struct {
	*client
	merchant, date, bill string
	stored               bool
	format, language     string
	output               string
}

func reconcileCommand() *cobra.Command {
	return (&client{name: "reconcile", out: os.Stdout, in: os.Stdin}).reconcileCommand()
}

func (c *client) reconcileCommand() *cobra.Command {
	r := &reconciling{client: c}
	cmd := c.command("reconcile --date <day> --merchant <name> [--stored | --bill <file>] [--format text|json|csv|html] [--lang zh|en] [--output <file>]",
		"Reconciles WeChat's bill of a day with what was placed and handed over", `
Reconciles the bill of a merchant's account and a day now, hands over what was paid
and never told, and shows the report. With --stored it shows the report that was
made before, with --bill it compares a bill from a file, text or gzip, and hands
nothing over. It asks the server's admin endpoint; with --bill and --path it reads
the SQLite file of a server that is stopped.`, cobra.NoArgs, func([]string) error { return r.run() })
	c.serverFlags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&r.date, "date", "", "The day of the bill in Beijing, such as 2026-11-29")
	flags.StringVar(&r.merchant, "merchant", "", "The merchant's name in the config, or its mch_id; with --path all names that share the account, with commas between them")
	flags.BoolVar(&r.stored, "stored", false, "Show the report that was stored, and do nothing")
	flags.StringVar(&r.bill, "bill", "", "Compare this bill (bill_type ALL), and hand nothing over")
	flags.StringVar(&r.format, "format", "text", "One of "+strings.Join(reconcile.Formats(), ", "))
	flags.StringVar(&r.language, "lang", string(reconcile.English), "The language of text, csv and html: zh or en")
	flags.StringVar(&r.output, "output", "", "Write to this file, which must not be there yet")
	cmd.MarkFlagsMutuallyExclusive("stored", "bill")
	for _, name := range []string{"date", "merchant"} {
		_ = cmd.MarkFlagRequired(name) // they are flags
	}
	return cmd
}

func (r *reconciling) run() error {
	if !slices.Contains(reconcile.Formats(), r.format) {
		return fmt.Errorf("--format must be one of %s", strings.Join(reconcile.Formats(), ", "))
	}
	report, err := r.report()
	if err != nil {
		return err
	}
	if r.output == "" {
		return report.Write(r.out, r.format, reconcile.Language(r.language))
	}
	file, err := os.OpenFile(r.output, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(report.Write(file, r.format, reconcile.Language(r.language)), file.Close())
	if err != nil { // what is cut off is of no use
		return errors.Join(err, os.Remove(r.output))
	}
	return nil
}

// report has the report made, or looked for. That may take minutes, and ends when the
// command is interrupted.
func (r *reconciling) report() (*reconcile.Report, error) {
	method, uri, body := http.MethodPost, "/wepay/reconcile", io.Reader(nil)
	switch {
	case r.bill != "":
		file, err := os.Open(r.bill)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		uri += "/compare?" + url.Values{"merchant": {r.merchant}, "date": {r.date}}.Encode()
		body = file
	case r.path != "":
		return nil, errFile
	case r.stored:
		method, uri = http.MethodGet, uri+"/"+url.PathEscape(r.merchant)+"/"+url.PathEscape(r.date)
	default:
		text, err := json.Marshal(map[string]string{"merchant": r.merchant, "date": r.date})
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	resp, err := r.send(method, uri, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	report := new(reconcile.Report)
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(report); err != nil || report.Date == "" {
		return nil, errors.Join(errors.New("the answer is no report (is it a Caddy with this module?)"), err)
	}
	return report, nil
}

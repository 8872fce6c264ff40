// Package demo is the command `caddy wepay demo`: WeChat Pay, Caddy with the
// wepay module, and a site's order service in one process, and a walk through
// what they do together. It is for looking at; a server for real money does
// not need it.
package demo

import (
	"context"
	"fmt"
	"os/signal"
	"syscall"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/windsome/caddy-wepay/caddymodule/admin"
	"github.com/windsome/caddy-wepay/wepay"
)

func init() {
	admin.AddCommand(demoCommand)
}

func demoCommand() *cobra.Command {
	var options options
	var api string
	cmd := &cobra.Command{
		Use:   "demo [--once] [--api v2|v3] [--lose-notifications] [--port <port>] [--orders-port <port>] [--wechat-port <port>]",
		Short: "Walks through order, payment, notification and refund on this machine",
		Long: `
Starts a WeChat Pay that runs on this machine, a Caddy server with the wepay
module, and a small order service, all on 127.0.0.1. Walks through an order, its
payment, the notification, a refund and a forged notification, and shows what
goes over the wire. Then it keeps serving, with the lines to try it yourself. With
--lose-notifications WeChat tells of nothing, and Caddy finds out by asking.

No real money, no account and no network are needed. Nothing is written but to
a temporary directory, which is removed at the end.`,
		Args: cobra.NoArgs,
		RunE: caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) {
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			if options.api = wepay.API(api); options.api != wepay.V2 && options.api != wepay.V3 {
				return caddy.ExitCodeFailedStartup, fmt.Errorf("demo: --api must be v2 or v3, not %q", api)
			}
			if err := run(ctx, options); err != nil {
				return caddy.ExitCodeFailedStartup, fmt.Errorf("demo: %w", err)
			}
			return caddy.ExitCodeSuccess, nil
		}),
	}
	cmd.Flags().BoolVar(&options.once, "once", false, "Stop after the walk: exit 0 when every step did what it should, else 1")
	cmd.Flags().StringVar(&api, "api", string(wepay.V2), "The API that the first merchant's orders go through: v2 or v3")
	cmd.Flags().BoolVar(&options.lose, "lose-notifications", false, "Lose all of WeChat's notifications on their way")
	cmd.Flags().IntVar(&options.port, "port", 0, "Port of the Caddy server (default: a free one)")
	cmd.Flags().IntVar(&options.ordersPort, "orders-port", 0, "Port of the order service (default: a free one)")
	cmd.Flags().IntVar(&options.wechatPort, "wechat-port", 0, "Port of the WeChat Pay (default: a free one)")
	return cmd
}

// Command caddy is a Caddy web server with the wepay module and its demo in it.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/windsome/caddy-wepay/caddymodule"
	_ "github.com/windsome/caddy-wepay/caddymodule/demo"
)

func main() { caddycmd.Main() }

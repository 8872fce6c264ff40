package wepay

import (
	"fmt"
	"runtime"
)

// Version is this software's, as WeChat's operators see it in the User-Agent.
const Version = "0.1.0"

// UserAgent is how calls of a merchant name themselves: WeChat's operators find
// a client by it.
func UserAgent(merchant *Merchant) string {
	return fmt.Sprintf("caddy-wepay/%s (%s) %s %s", Version, runtime.GOOS, runtime.Version(), merchant.MchID)
}

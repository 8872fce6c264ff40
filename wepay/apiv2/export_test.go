package apiv2

import "github.com/windsome/caddy-wepay/wepay"

// RulesOf are the fields that an operation's row takes.
func RulesOf(op wepay.Operation) wepay.Rules { return calls[op].Rules }

// NewUnverified is a notification that was read.
func NewUnverified(fields wepay.Fields) *Unverified { return &Unverified{fields} }

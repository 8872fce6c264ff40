package apiv2

import "github.com/windsome/caddy-wepay/wepay"

// RulesOf are the fields that an operation's row takes.
func RulesOf(op wepay.Operation) wepay.Rules { return calls[op].Rules }

// Operations are those of all rows.
func Operations() []wepay.Operation {
	var all []wepay.Operation
	for op := range calls {
		all = append(all, op)
	}
	return all
}

// NewUnverified is a notification that was read.
func NewUnverified(fields wepay.Fields) *Unverified { return &Unverified{fields} }

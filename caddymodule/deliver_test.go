package caddymodule

import (
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/windsome/caddy-wepay/caddymodule/delivery"
)

func TestDeliverPolicy(t *testing.T) {
	durations := func(all ...time.Duration) (retry []caddy.Duration) {
		for _, d := range all {
			retry = append(retry, caddy.Duration(d))
		}
		return retry
	}
	standard := delivery.Policy{FirstWait: time.Second, LongestWait: 10 * time.Minute, GiveUp: 72 * time.Hour, Workers: 16}
	for name, test := range map[string]struct {
		options *Deliver
		want    delivery.Policy
		err     string
	}{
		"none":      {nil, standard, ""},
		"empty":     {new(Deliver), standard, ""},
		"all":       {&Deliver{Retry: durations(1, 2), GiveUp: 3, Workers: 4}, delivery.Policy{FirstWait: 1, LongestWait: 2, GiveUp: 3, Workers: 4}, ""},
		"one wait":  {&Deliver{Retry: durations(1)}, standard, "retry: needs the first wait and the longest, which is not shorter"},
		"no wait":   {&Deliver{Retry: durations(0, 1)}, standard, "retry: needs the first wait and the longest, which is not shorter"},
		"longer":    {&Deliver{Retry: durations(2, 1)}, standard, "retry: needs the first wait and the longest, which is not shorter"},
		"given up":  {&Deliver{GiveUp: -1}, standard, "give_up: must be above 0"},
		"too many":  {&Deliver{Workers: 1025}, standard, "workers: must be 1 to 1024"},
		"less than": {&Deliver{Workers: -1}, standard, "workers: must be 1 to 1024"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := test.options.policy()
			if test.err == "" && (err != nil || got != test.want) || test.err != "" && (err == nil || err.Error() != test.err) {
				t.Errorf("got %+v (%v), want %+v (%s)", got, err, test.want, test.err)
			}
		})
	}
}

// The options of the hand-over go with a store alone, and an error names their
// line.
func TestValidateStoreOptions(t *testing.T) {
	for _, row := range []struct{ name, lines, want string }{
		{"a store", "store sqlite validated.db", ""},
		{"a store with all options", "store sqlite validated.db\ndeliver {\nretry 1s 1s\ngive_up 1s\nworkers 1\n}\nkeep 25h\nkeep_rows 25h", ""},
		{"deliver without a store", "deliver {\nworkers 3\n}", "Caddyfile:3: deliver: needs a store"},
		{"keep without a store", "keep 7d", "Caddyfile:3: keep: needs a store"},
		{"keep_rows without a store", "keep_rows 7d", "Caddyfile:3: keep_rows: needs a store"},
		{"retry that shrinks", "store sqlite validated.db\ndeliver {\nretry 10m 1s\n}", "Caddyfile:4: deliver: retry: needs the first wait and the longest, which is not shorter"},
		{"keep too short", "store sqlite validated.db\nkeep 24h", "Caddyfile:4: keep: must be at least 25h: WeChat repeats a notification for 24 hours"},
		{"keep_rows shorter than keep", "store sqlite validated.db\nkeep 30d\nkeep_rows 29d", "Caddyfile:5: keep_rows: must not be less than keep"},
		{"keep longer than rows are by default", "store sqlite validated.db\nkeep 500d", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			wantError(t, options(row.lines+"\n"+merchantBlock("shop", ""))+aSite, row.want)
		})
	}
}

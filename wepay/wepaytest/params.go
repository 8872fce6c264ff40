package wepaytest

import (
	"encoding/json"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
)

// param says what a parameter of a call may hold. The limits are from WeChat's
// documents and not from the client, whose mistakes a server has to find.
type param struct {
	name     string
	required bool
	max      int // bytes of UTF-8; 0: no limit of its own
	is       func(string) bool
}

type params []param

// signed are the parameters that nearly every request has.
var signed = []string{"nonce_str", "sign"}

// know refuses unknown parameters.
func (ps params) know(in wepay.Fields, also ...[]string) *refusal {
	for _, field := range in {
		if slices.ContainsFunc(ps, func(p param) bool { return p.name == field.Name }) ||
			slices.ContainsFunc(also, func(names []string) bool { return slices.Contains(names, field.Name) }) {
			continue
		}
		return fail("不识别的参数" + field.Name)
	}
	return nil
}

// check refuses values that are missing, too long or malformed.
func (ps params) check(in wepay.Fields) *refusal {
	for _, p := range ps {
		value := in.Get(p.name)
		switch {
		case value == "" && p.required:
			return lacks(p.name)
		case value == "":
		case p.max > 0 && len(value) > p.max:
			return fail(p.name + "参数长度有误")
		case p.is != nil && !p.is(value):
			return refuse("PARAM_ERROR", "参数错误:"+p.name+"参数格式错误")
		}
	}
	return nil
}

// fen is an amount in fen: a whole number above 0, which WeChat's documents call
// an Int.
func fen(value string) bool {
	n, err := strconv.ParseInt(value, 10, 32)
	return err == nil && n > 0 && value[0] != '+' && value[0] != '0'
}

// amount reads an amount that fen has checked.
func amount(value string) int64 {
	n, _ := strconv.ParseInt(value, 10, 64) // fen has checked it
	return n
}

func digits(value string) bool { return made(value, "") }

// tradeNumber is an out_trade_no by WeChat's newest text: 6 to 32 characters,
// and no @ as older pages had it.
func tradeNumber(value string) bool { return len(value) >= 6 && number(value) }

func number(value string) bool { return alphanumeric(value, "_-|*") }

func refundNumber(value string) bool { return alphanumeric(value, "_-|*@") }

func nonce(value string) bool { return alphanumeric(value, "") }

func alphanumeric(value, also string) bool {
	return made(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"+also)
}

// made says whether a value consists of digits and the letters given.
func made(value, letters string) bool {
	return strings.IndexFunc(value, func(r rune) bool { return !strings.ContainsRune("0123456789"+letters, r) }) < 0
}

func ipAddress(value string) bool {
	ip, err := netip.ParseAddr(value)
	return err == nil && ip.Zone() == "" && !ip.Is4In6()
}

func jsonText(value string) bool { return json.Valid([]byte(value)) }

func word(words ...string) func(string) bool {
	return func(value string) bool { return slices.Contains(words, value) }
}

// notifyURL is absolute, ASCII and without a query.
func notifyURL(value string) bool {
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return false
	}
	ascii := !strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' })
	return ascii && !strings.ContainsAny(value, "?#")
}

// beijing is the zone of every time in API v2; it has had no daylight saving
// since 1991.
var beijing = time.FixedZone("Asia/Shanghai", 8*60*60)

const (
	timeFormat     = "20060102150405"
	dateTimeFormat = "2006-01-02 15:04:05"
	dayFormat      = "20060102"
)

func timeText(value string) bool {
	_, err := parseTime(value)
	return err == nil
}

func parseTime(value string) (time.Time, error) {
	return time.ParseInLocation(timeFormat, value, beijing)
}

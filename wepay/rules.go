package wepay

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Rule says what one field of a request may hold. An empty field counts as
// not given, as it does in WeChat's signatures.
type Rule struct {
	Name     string             // WeChat's name
	Required bool               // must be given …
	Unless   []string           // … unless one of these is
	Min, Max int                // bytes of UTF-8; 0: no limit of its own
	Is       func(string) error // the form of the value, nil for any text
}

// Rules are all fields that an operation takes.
type Rules []Rule

// Check returns what is wrong with the fields of a request, as a *FieldError: a
// field that is unknown, missing, too long or malformed.
func (rules Rules) Check(in Fields) error {
	for _, field := range in {
		if err := rules.CheckValue(field.Name, field.Value); err != nil {
			return err
		}
	}
	for _, rule := range rules {
		if rule.Required && !given(in, rule.Name) && !slices.ContainsFunc(rule.Unless, func(name string) bool { return given(in, name) }) {
			reason := "is required"
			if len(rule.Unless) > 0 {
				reason += " unless " + strings.Join(rule.Unless, " or ") + " is given"
			}
			return &FieldError{Field: rule.Name, Reason: reason, Missing: true}
		}
	}
	return nil
}

// CheckValue returns what is wrong with the value of a field, as a *FieldError.
func (rules Rules) CheckValue(name, value string) error {
	i := slices.IndexFunc(rules, func(r Rule) bool { return r.Name == name })
	if i < 0 {
		return &FieldError{Field: name, Reason: "there is no such field here"}
	}
	return rules[i].check(value)
}

func (r Rule) check(value string) error {
	if value == "" {
		return nil
	}
	if err := checkText(value); err != nil {
		return &FieldError{Field: r.Name, Reason: err.Error()}
	}
	if r.Max > 0 && len(value) > r.Max {
		return &FieldError{Field: r.Name, Reason: fmt.Sprintf("is %d bytes of UTF-8, the limit is %d", len(value), r.Max)}
	}
	if len(value) < r.Min {
		return &FieldError{Field: r.Name, Reason: fmt.Sprintf("is %d bytes of UTF-8, the least is %d", len(value), r.Min)}
	}
	if r.Is != nil {
		if err := r.Is(value); err != nil {
			return &FieldError{Field: r.Name, Reason: err.Error()}
		}
	}
	return nil
}

// checkText refuses what XML cannot carry unchanged, so that what is signed is
// what WeChat reads. A carriage return is such a character: XML turns it into
// a line feed.
func checkText(value string) error {
	if !utf8.ValidString(value) {
		return errors.New("is not valid UTF-8")
	}
	for _, r := range value {
		if r < ' ' && r != '\t' && r != '\n' || r == 0xFFFE || r == 0xFFFF {
			return fmt.Errorf("holds the character U+%04X, which XML cannot carry", r)
		}
	}
	return nil
}

func given(in Fields, name string) bool { return in.Get(name) != "" }

// Fen is the form of an amount: whole fen, above 0.
func Fen(value string) error {
	if _, err := ParseFen(value); err != nil {
		return err
	}
	return nil
}

// ParseFen reads an amount of whole fen above 0: digits only, no sign, no decimal
// point, no leading zero.
func ParseFen(value string) (int64, error) {
	fen, err := strconv.ParseInt(value, 10, 64)
	if err != nil || fen <= 0 || strconv.FormatInt(fen, 10) != value {
		return 0, errors.New("must be a whole number of fen above 0")
	}
	return fen, nil
}

// WholeFen reads an amount of whole fen that WeChat says, which may be 0; ok: it is
// one.
func WholeFen(value string) (fen int64, ok bool) {
	fen, err := strconv.ParseInt(value, 10, 64)
	if err != nil || fen < 0 {
		return 0, false
	}
	return fen, true
}

// Number is the form of the numbers that merchants give to orders and refunds.
// Some of WeChat's pages allow @ in both.
func Number(value string) error {
	for _, c := range []byte(value) {
		if !isAlphanumeric(c) && !strings.ContainsRune("_-*|@", rune(c)) {
			return errors.New("may hold digits, letters and _ - * | @ only")
		}
	}
	return nil
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// AppID is the form of the id of an official account, a mini program or an app, wx
// and 16 letters and digits. That of a company in WeCom, which WeChat takes as
// well, begins with ww.
// Source: WeChat Pay, 统一下单, appid (企业号corpid即为此appid); 企业微信, corpid.
func AppID(value string) error {
	if len(value) != 18 || value[:2] != "wx" && value[:2] != "ww" || Alphanumeric(value) != nil {
		return errors.New("must be wx (a company's of WeCom: ww) and 16 letters and digits")
	}
	return nil
}

// Alphanumeric is the form of numbers that may hold letters and digits only.
func Alphanumeric(value string) error {
	for _, c := range []byte(value) {
		if !isAlphanumeric(c) {
			return errors.New("may hold digits and letters only")
		}
	}
	return nil
}

// Digits is the form of numbers such as that of a bank card.
func Digits(value string) error {
	for _, c := range []byte(value) {
		if c < '0' || c > '9' {
			return errors.New("may hold digits only")
		}
	}
	return nil
}

// Between is the form of a whole number from least to most.
func Between(least, most int) func(string) error {
	return func(value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < least || n > most || strconv.Itoa(n) != value {
			return fmt.Errorf("must be a whole number from %d to %d", least, most)
		}
		return nil
	}
}

// Characters is the form of a text of at most so many characters.
func Characters(most int) func(string) error {
	return func(value string) error {
		if n := utf8.RuneCountInString(value); n > most {
			return fmt.Errorf("is of %d characters, the limit is %d", n, most)
		}
		return nil
	}
}

// Date is the form yyyyMMdd.
func Date(value string) error {
	if _, err := time.Parse("20060102", value); err != nil {
		return errors.New("must be a date as yyyyMMdd")
	}
	return nil
}

// Time is the form yyyyMMddHHmmss, Beijing time.
func Time(value string) error {
	// Package time takes fractions of seconds that its layout does not have.
	if _, err := time.Parse(timeLayout, value); err != nil || len(value) != len(timeLayout) {
		return errors.New("must be a time as yyyyMMddHHmmss, in Beijing time")
	}
	return nil
}

// Address is the form of one IPv4 or IPv6 address.
func Address(value string) error {
	if _, err := netip.ParseAddr(value); err != nil {
		return errors.New("must be one IPv4 or IPv6 address")
	}
	return nil
}

// JSON is the form of a field that carries a JSON text, which no two readers take
// for two things.
func JSON(value string) error {
	if !jsontext.Value(value).IsValid() {
		return errors.New("must be a JSON text that names nothing twice and holds no half characters")
	}
	return nil
}

// OneOf is the form of a field that takes one of a few words.
func OneOf(words ...string) func(string) error {
	return func(value string) error {
		if !slices.Contains(words, value) {
			return fmt.Errorf("must be %s", strings.Join(words, " or "))
		}
		return nil
	}
}

// NotifyURL is the form of a URL that WeChat sends notifications to: absolute,
// plain ASCII, without query and fragment.
func NotifyURL(value string) error {
	u, err := AbsoluteURL(value)
	if err != nil {
		return err
	}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return errors.New("must not have a query or a fragment, WeChat Pay refuses them")
	}
	for _, c := range []byte(value) {
		if c <= ' ' || c > '~' {
			return errors.New("must be plain ASCII")
		}
	}
	return nil
}

// AbsoluteURL parses an http or https URL with a host. Its errors do not repeat
// the URL, which may carry a password.
func AbsoluteURL(value string) (*url.URL, error) {
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("must be an absolute http:// or https:// URL")
	}
	return u, nil
}

package apiv3

import (
	"cmp"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// refusal is why WeChat did not do what was asked.
type refusal struct {
	code, message string
	detail        string // which field it is about, and what is wrong with it
}

// refusal reads the reply as one that tells why not. WeChat's code and words count
// whatever shape the rest has: detail comes as a text as well, and its field as an
// array, a member of it may be there twice, the code may be null, and words may be cut
// within a character. What has no member code is not WeChat's, unless it is signed.
func (r *reply) refusal() (refusal, bool) {
	if r.succeeded() {
		return refusal{}, false
	}
	whole, err := parse(r.body, jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
	if err != nil {
		return refusal{}, false
	}
	body := whole.index()
	if !body.has("code") && !IsSigned(r.header) || body.repeats() {
		return refusal{}, false
	}
	told := refusal{code: body.text("code"), message: body.text("message"), detail: body.text("detail")}
	if told.detail == "" {
		told.detail = strings.TrimSpace(body.texts("detail.field") + " " + body.text("detail.issue"))
	}
	return told, told.code != "" || told.message != ""
}

// has reports whether the object has a member, be it null.
func (x index) has(name string) bool {
	return slices.ContainsFunc(x, func(e entry) bool { return e.name == name })
}

// repeats reports whether a member is there twice.
func (x index) repeats() bool {
	seen := make(map[string]bool, len(x))
	for _, e := range x {
		if seen[e.name] {
			return true
		}
		seen[e.name] = true
	}
	return false
}

// texts returns a member that is a text, or the texts of one that is an array.
func (x index) texts(path string) string {
	var all []string
	for _, one := range x.objects(path) {
		if text := textOf(string(one)); text != "" {
			all = append(all, text)
		}
	}
	return cmp.Or(x.text(path), strings.Join(all, ", "))
}

// text is WeChat's message, with what it is about.
func (r refusal) text() string {
	text := r.message
	if r.detail != "" {
		text = strings.TrimSpace(text + " (" + r.detail + ")")
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

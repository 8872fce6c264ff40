package apiv2_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv2"
)

// No context ends the reading of what has come, so that no form of it may cost much
// more than another of the same length.
func TestDecodeCosts(t *testing.T) {
	const elements = 50_000
	var rising, falling, cut strings.Builder
	for i := range elements {
		fmt.Fprintf(&rising, "<a%06d/>", i)
		fmt.Fprintf(&falling, "<a%06d/>", elements-i)
		cut.WriteString("x<![CDATA[]]>")
	}
	plain := "<xml>" + rising.String() + "</xml>"
	for name, text := range map[string]string{
		"falling names":  "<xml>" + falling.String() + "</xml>",
		"cut into parts": "<xml><a>" + cut.String() + "</a></xml>",
		"items":          "<xml><hblist><hbinfo>" + falling.String() + "</hbinfo></hblist></xml>",
	} {
		for reader, read := range map[string]func(text string){
			"flat":   func(text string) { _, _ = apiv2.Decode("xml", []byte(text)) },
			"nested": func(text string) { readNested(t, text) },
		} {
			began := time.Now()
			read(plain)
			usual := time.Since(began) + 10*time.Millisecond
			began = time.Now()
			read(text)
			if took := time.Since(began); took > 20*usual {
				t.Errorf("%s, %s: it took %v, and others %v", name, reader, took, usual)
			}
		}
	}
}

// readNested has a text read as the reply to a call whose replies are.
func readNested(t *testing.T, text string) {
	t.Helper()
	server := serve(t, func(w http.ResponseWriter, _ asked) { _, _ = w.Write([]byte(text)) })
	_, err := client(t, able(t, server.URL)).Do(t.Context(), wepay.QueryRedPacket, wepay.NewFields(rows[wepay.QueryRedPacket].in))
	if err == nil {
		t.Error("it is a reply")
	}
}

package apiv3_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
)

// What is wrong with a body is told with the member that it is in, and which of
// two sub-merchants a query means is not guessed.
func TestPassSaysWhere(t *testing.T) {
	w := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return answer{body: "{}"} })
	m := w.merchant(t)
	m.Passthrough, m.Type, m.SubMchIDs = true, wepay.Partner, []string{"1900000209", "1900000210"}
	c := w.client(t, m)
	for body, member := range map[string]string{
		"{\"payer\":{\"name\":\"\xd5\xc5\"}}": "/payer/name", `{"a":[1,"\ud800"]}`: "/a/1", `{"b":1,"\u0062":2}`: "/b",
	} {
		_, err := c.Pass(t.Context(), post("/v3/a", body))
		t.Run(body, func(t *testing.T) {
			if wantField(t, err, "request"); !strings.HasSuffix(err.Error(), "look at "+member) {
				t.Errorf("got %v, want %s to be named", err, member)
			}
		})
	}
	_, err := c.Pass(t.Context(), get("/v3/a?sub_mchid=1900000209&sub_mchid=1900000210"))
	if wantField(t, err, "sub_mchid"); w.asked() > 0 {
		t.Error("something was sent")
	}
}

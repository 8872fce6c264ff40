package apiv3_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
)

// sealedFor is text as WeChat writes it for the merchant of wechat.merchant.
func sealedFor(t testing.TB, plain string) string { return `"` + sealFor(t, plain) + `"` }

// Of a reply the members that the caller names come back as text, and all else as
// WeChat wrote it; what does not decrypt is named, and stays.
func TestPassDecrypts(t *testing.T) {
	phone, name := sealedFor(t, "13800138000"), sealedFor(t, "张\"三\n")
	others := `"` + vectors(t)["O1"].Ciphertext + `"` // encrypted for WeChat
	binary, slashed := sealedFor(t, "\xd5\xc5"), strings.ReplaceAll(phone, "/", `\/`)
	for _, test := range []struct {
		decrypt    string
		says, want string // of a reply
		not        string
	}{
		{"payer.name", `{"payer":{"name":` + name + `,"id":1.0}}`, `{"payer":{"name":"张\"三\n","id":1.0}}`, ""},
		{
			"data.payer_phone", `{ "data":[{"payer_phone":` + phone + `},{"payer_phone":` + slashed + `,"n":12345678901234567890}, {}],"total_count":2 }`,
			`{ "data":[{"payer_phone":"13800138000"},{"payer_phone":"13800138000","n":12345678901234567890}, {}],"total_count":2 }`, "",
		},
		{"a", `{"a":[` + phone + `,[` + name + `]]}`, `{"a":["13800138000",["张\"三\n"]]}`, ""},
		{"a,a.b", `{"a":` + phone + `}`, `{"a":"13800138000"}`, ""},
		{"a,a.b", `{"a":{"b":` + phone + `}}`, `{"a":{"b":"13800138000"}}`, "a"},
		{"\x61.b", `{"\u0061":{"b":` + phone + `}}`, `{"\u0061":{"b":"13800138000"}}`, ""},
		{"a", `{"b":` + phone + `,"c":{"a":` + phone + `}}`, `{"b":` + phone + `,"c":{"a":` + phone + `}}`, ""},
		{"a,b,c", `{"a":"","b":null,"c":[]}`, `{"a":"","b":null,"c":[]}`, ""},
		{"a,b,c,d,e", `{"a":1,"b":true,"c":{},"d":"plain","e":` + others + `}`, `{"a":1,"b":true,"c":{},"d":"plain","e":` + others + `}`, "a,b,c,d,e"},
		{"data.a", `{"data":[{"a":` + phone + `},{"a":` + others + `}]}`, `{"data":[{"a":"13800138000"},{"a":` + others + `}]}`, "data.a"},
		{"a,b", `{"a":` + binary + `,"b":` + phone + `}`, `{"a":` + binary + `,"b":"13800138000"}`, "a"},
		{"a", `{"x":"` + "\xe5\xbc" + `","x":1,"a":` + phone + `}`, `{"x":"` + "\xe5\xbc" + `","x":1,"a":"13800138000"}`, ""},
		{"a,b", "no JSON", "no JSON", "a,b"},
		{"a", `{"a":` + phone + `} {}`, `{"a":` + phone + `} {}`, "a"},
		{"a,b", `{"a":` + phone + `,`, `{"a":` + phone + `,`, "a,b"},
		{"a", `[{"a":` + phone + `}]`, `[{"a":"13800138000"}]`, ""},
		{"a", "", "", ""},
		{"", `{"a":` + phone + `}`, `{"a":` + phone + `}`, ""},
		{"a.b", strings.Repeat(`{"a":`, 9000) + "1" + strings.Repeat("}", 9000), strings.Repeat(`{"a":`, 9000) + "1" + strings.Repeat("}", 9000), ""},
	} {
		for _, status := range []int{200, 400} {
			w := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return answer{status: status, body: test.says} })
			var decrypt, not []string
			if test.decrypt != "" {
				decrypt = strings.Split(test.decrypt, ",")
			}
			if test.not != "" {
				not = strings.Split(test.not, ",")
			}
			for _, in := range []apiv3.PassRequest{get("/v3/a"), post("/v3/a", "{}")} {
				in.Decrypt = decrypt
				p, err := w.client(t, w.passing(t)).Pass(t.Context(), in)
				if err != nil {
					t.Fatalf("%s of %.80s: %v", test.decrypt, test.says, err)
				}
				if text := readAll(t, p.Body); text != test.want || p.Status != status || !slices.Equal(p.NotDecrypted, not) {
					t.Errorf("%s of %.80s: got %d %.200s, not %v", test.decrypt, test.says, p.Status, text, p.NotDecrypted)
				}
			}
		}
	}
}

// A reply of more values than any page of WeChat's does not take the core for long.
func TestPassDecryptsSoMany(t *testing.T) {
	phone := sealedFor(t, "13800138000")
	for n, want := range map[int]int{500: 500, 501: 500} {
		w := newWechat(t, func(http.ResponseWriter, *http.Request) answer {
			return answer{body: `{"a":[` + strings.Repeat(phone+",", n-1) + phone + `]}`}
		})
		in := get("/v3/a")
		in.Decrypt = []string{"a"}
		p, err := w.client(t, w.passing(t)).Pass(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		if open := strings.Count(readAll(t, p.Body), "13800138000"); open != want || (len(p.NotDecrypted) > 0) != (n > want) {
			t.Errorf("of %d %d are open, %v not", n, open, p.NotDecrypted)
		}
	}
}

// Nothing is decrypted that WeChat did not sign.
func TestPassDecryptsVerifiedReplies(t *testing.T) {
	body := `{"a":` + sealedFor(t, "13800138000") + `}`
	for name, says := range map[string]answer{
		"unsigned":            {body: body, bare: true},
		"another's":           {body: body, header: map[string][]string{"Wechatpay-Nonce": {"x"}}},
		"a refusal, unsigned": {status: 403, body: `{"code":"NO_AUTH","message":"x","a":` + sealedFor(t, "13800138000") + `}`, bare: true},
	} {
		w := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return says })
		in := post("/v3/a", "{}")
		in.Decrypt = []string{"a"}
		p, err := w.client(t, w.passing(t)).Pass(t.Context(), in)
		if p != nil || err == nil || !errors.Is(err, wepay.ErrNoAnswer) || strings.Contains(err.Error(), "13800138000") {
			t.Errorf("%s: got %v, %v", name, p, err)
		}
	}
}

// Paths that cannot be meant are refused before anything is sent.
func TestPassDecryptPaths(t *testing.T) {
	w := newWechat(t, func(http.ResponseWriter, *http.Request) answer { return answer{body: "{}"} })
	c := w.client(t, w.passing(t))
	many := make([]string, 65)
	for i := range many {
		many[i] = strings.Repeat("a", i+1)
	}
	deep := strings.Repeat("a.", 15) + "a"
	for _, paths := range [][]string{
		{""}, {"a", ""}, {"a."}, {".a"}, {"a..b"}, {"a[].b"}, {"a[0]"}, {"/a"}, {"a b"}, {" a"}, {"张"}, {"a\n"}, {"a", "a"}, {"a*"}, {deep + ".a"}, many,
	} {
		in := get("/v3/a")
		in.Decrypt = paths
		_, err := c.Pass(t.Context(), in)
		wantField(t, err, "decrypt")
	}
	file := get("/v3/billdownload/file?token=1")
	file.Decrypt = []string{"a"}
	_, err := c.Pass(t.Context(), file)
	if wantField(t, err, "decrypt"); w.asked() > 0 {
		t.Errorf("%d requests were sent", w.asked())
	}
	for _, paths := range [][]string{{"a"}, {"a_b.c1", "A"}, {"0"}, {"_"}, {"a", "a.b"}, {deep}, many[:64]} {
		in := get("/v3/a")
		in.Decrypt = paths
		passed(t, c, in)
	}
}

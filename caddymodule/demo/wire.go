package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"

	"github.com/windsome/caddy-wepay/wepay"
)

// paths are what the two APIs do not have alike in what the demo shows.
type paths struct {
	order, refund string // where WeChat is asked

	// forge changes one thing in a notification.
	forge func(notification []byte) []byte
}

func (d *demo) paths() paths {
	if d.api == wepay.V3 {
		return paths{"/v3/pay/transactions/jsapi", "/v3/refund/domestic/refunds", func(notification []byte) []byte {
			return bytes.Replace(notification, []byte("TRANSACTION.SUCCESS"), []byte("TRANSACTION.REFUNDS"), 1)
		}}
	}
	return paths{"/pay/unifiedorder", "/secapi/pay/refund", func(notification []byte) []byte {
		return bytes.Replace(notification, []byte("demo-1001"), []byte("demo-9999"), 1)
	}}
}

// answer is what Caddy answered.
type answer struct {
	status int
	body   []byte
}

// String is the answer as people read it.
func (a *answer) String() string {
	return fmt.Sprintf("HTTP %d\n%s", a.status, a.body)
}

// ask asks for an operation as the site's services do, shows both ways, and
// returns the result.
func (d *demo) ask(ctx context.Context, operation string, request map[string]any) (map[string]string, error) {
	body, err := marshal(request)
	if err != nil {
		return nil, err
	}
	show("POST /apis/v1/wepay/" + operation + "\n" + string(body))
	answer, err := d.post(ctx, operation, http.Header{
		"Content-Type": {"application/json"}, "Authorization": {"Bearer " + d.token},
	}, body)
	if err != nil {
		return nil, err
	}
	show(string(answer.body))
	var reply struct {
		Errcode int               `json:"errcode"`
		Result  map[string]string `json:"result"`
	}
	if err := json.Unmarshal(answer.body, &reply); err != nil {
		return nil, err
	}
	if reply.Errcode != 0 {
		return nil, fmt.Errorf("%s: errcode %d", operation, reply.Errcode)
	}
	return reply.Result, nil
}

func (d *demo) post(ctx context.Context, route string, header http.Header, body []byte) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.site+"/apis/v1/wepay/"+route, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return &answer{resp.StatusCode, text}, err
}

// elementEnd is where a line of XML ends when people read it.
var elementEnd = regexp.MustCompile("</[a-z_]+>")

func (d *demo) showLastRequest(path string) error {
	requests := d.wechat.Requests(path)
	if len(requests) == 0 {
		return fmt.Errorf("WeChat got nothing at %s", path)
	}
	last := requests[len(requests)-1]
	text := elementEnd.ReplaceAllString(string(last.Body), "$0\n")
	if authorization := last.Header.Get("Authorization"); authorization != "" {
		text = last.Method + " " + last.Path + "\nAuthorization: " + authorization + "\n\n" + text
	}
	show(text)
	return nil
}

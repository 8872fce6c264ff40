package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	bolterrors "go.etcd.io/bbolt/errors"
)

// outboxClient asks for what the admin API has of the outbox: a running server,
// or a file that no server has open.
type outboxClient struct {
	address, config, adapter, path string

	out, errOut io.Writer
	in          io.Reader
}

// ask asks the server, or the file.
func (c *outboxClient) ask(method, uri string, body io.Reader) (*http.Response, error) {
	uri = "/wepay/outbox" + uri
	if c.path != "" {
		if method != http.MethodGet {
			return nil, errors.New("--path is for looking only: start the server to change something")
		}
		return askFile(c.path, uri)
	}
	address, err := caddycmd.DetermineAdminAPIAddress(c.address, nil, c.config, c.adapter)
	if err != nil {
		return nil, fmt.Errorf("finding the admin endpoint: %w", err)
	}
	resp, err := caddycmd.AdminAPIRequest(address, method, uri, make(http.Header), body)
	if err != nil {
		return nil, fmt.Errorf("asking the server at %s: %w", address, refusal(err))
	}
	return resp, nil
}

// refusal is what the admin API says where it refuses, without what Caddy's
// client puts around it. For any other error it says what may help.
func refusal(err error) error {
	_, answer, refused := strings.Cut(err.Error(), "caddy responded with error: HTTP ")
	if !refused {
		return fmt.Errorf("%w (is it running? --address or --config say where its admin endpoint is, --path reads the file of one that is stopped)", err)
	}
	if _, text, _ := strings.Cut(answer, ": "); said(text) != nil {
		return said(text)
	}
	return fmt.Errorf("%s (is it a Caddy with this module?)", strings.TrimSpace(err.Error()))
}

// said reads an error as writeAdminError writes it; nil: it is none.
func said(text string) error {
	var answer struct {
		Error string `json:"error"`
	}
	if json.Unmarshal([]byte(text), &answer) != nil || answer.Error == "" {
		return nil
	}
	return errors.New(answer.Error)
}

// copy asks, and writes the answer as it comes.
func (c *outboxClient) copy(method, uri string, body io.Reader, to io.Writer) error {
	resp, err := c.ask(method, uri, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(to, resp.Body)
	return err
}

// printOf asks something of an event, and prints the answer for people.
func (c *outboxClient) printOf(id, method, what string, request any) error {
	if !eventID.MatchString(id) {
		return fmt.Errorf("%q is no event's id: `caddy wepay outbox list` has them", id)
	}
	return c.print(method, "/events/"+id+what, request)
}

// print asks with a JSON object, and prints the answer for people.
func (c *outboxClient) print(method, uri string, request any) error {
	var body io.Reader
	if request != nil {
		text, err := json.Marshal(request)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	var reply, text bytes.Buffer
	if err := c.copy(method, uri, body, &reply); err != nil {
		return err
	}
	if err := json.Indent(&text, reply.Bytes(), "", "  "); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	_, err := io.WriteString(c.out, plainJSON(text.Bytes()))
	return err
}

func (c *outboxClient) get(uri string, reply any) error {
	var text bytes.Buffer
	if err := c.copy(http.MethodGet, uri, nil, &text); err != nil {
		return err
	}
	return json.Unmarshal(text.Bytes(), reply)
}

// askFile asks an outbox in a file as a server would be asked.
func askFile(path, uri string) (*http.Response, error) {
	outbox, err := openBoltReadOnly(path)
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%w (leave --path out to ask the server that has it)", err)
	}
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(http.MethodGet, uri, nil)
	if err != nil {
		return nil, errors.Join(err, outbox.Close())
	}
	return answerOf(outbox, outboxRoutes(func() (Outbox, error) { return outbox, nil }), req)
}

// answerOf is what a handler answers of an outbox, which is closed then.
func answerOf(outbox Outbox, handler http.Handler, req *http.Request) (*http.Response, error) {
	out, in := io.Pipe()
	w := &fileAnswer{header: make(http.Header), status: make(chan int, 1), PipeWriter: in}
	go func() {
		err := serveToEnd(handler, w, req)
		w.WriteHeader(http.StatusOK) // whoever waits for it goes on, whatever came
		w.CloseWithError(errors.Join(err, outbox.Close()))
	}()
	if status := <-w.status; status >= http.StatusBadRequest {
		text, err := io.ReadAll(out)
		return nil, errors.Join(said(string(text)), err)
	}
	return &http.Response{StatusCode: http.StatusOK, Header: w.header, Body: out}, nil
}

// serveToEnd answers, and makes an error of a panic, as net/http does.
func serveToEnd(handler http.Handler, w http.ResponseWriter, req *http.Request) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("the answer is cut off: %v", cause)
		}
	}()
	handler.ServeHTTP(w, req)
	return nil
}

// fileAnswer is an answer that is read while it is written.
type fileAnswer struct {
	header http.Header
	status chan int
	told   bool
	*io.PipeWriter
}

func (a *fileAnswer) Header() http.Header { return a.header }

func (a *fileAnswer) WriteHeader(status int) {
	if !a.told {
		a.told = true
		a.status <- status
	}
}

func (a *fileAnswer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.PipeWriter.Write(p)
}

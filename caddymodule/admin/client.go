package admin

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

// client asks for what the admin API has: a running server, or this process, of a
// file that no server has open.
type client struct {
	name   string // of the command; "": events
	routes string // what it asks; "": /wepay/events

	address, config, adapter, path string

	out io.Writer
	in  io.Reader
}

// within runs a command, with the file that it is about open.
func (c *client) within(run func() error) (err error) {
	if c.path == "" {
		return run()
	}
	address, stop, err := serveFile(c.path)
	if err != nil {
		return err
	}
	c.address = address
	return errors.Join(run(), stop())
}

// ask asks the server about events.
func (c *client) ask(method, uri string, body io.Reader) (*http.Response, error) {
	if c.path != "" && method != http.MethodGet {
		return nil, errors.New("--path is for looking only: start the server to change something")
	}
	return c.send(method, cmp.Or(c.routes, "/wepay/events")+uri, body)
}

// send sends the server a request.
func (c *client) send(method, uri string, body io.Reader) (*http.Response, error) {
	address, err := caddycmd.DetermineAdminAPIAddress(c.address, nil, c.config, c.adapter)
	if err != nil {
		return nil, fmt.Errorf("finding the admin endpoint: %w", err)
	}
	resp, err := caddycmd.AdminAPIRequest(address, method, uri, make(http.Header), body)
	if err != nil {
		if c.path != "" {
			return nil, refusal(err)
		}
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
	return fmt.Errorf("%s (is it a Caddy with this module?)", plain(strings.TrimSpace(err.Error())))
}

// said reads an error as writeError writes it; nil: it is none.
func said(text string) error {
	var answer struct {
		Error string `json:"error"`
	}
	if json.Unmarshal([]byte(text), &answer) != nil || answer.Error == "" {
		return nil
	}
	return errors.New(plain(answer.Error))
}

// copy asks, and writes the answer as it comes.
func (c *client) copy(method, uri string, body io.Reader, to io.Writer) error {
	resp, err := c.ask(method, uri, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(to, resp.Body)
	return err
}

// maxAnswer bounds an answer that is read as a whole, in bytes, which are far
// fewer.
const maxAnswer = 64 << 20

// answerTime bounds how long an answer that is read as a whole may take. A server
// that is asked for events answers within 3 s, and replays take a while.
const answerTime = time.Minute

// read asks, and returns the answer as a whole.
func (c *client) read(method, uri string, body io.Reader) ([]byte, error) {
	type answer struct {
		text []byte
		err  error
	}
	answered := make(chan answer, 1)
	go func() { // which ends with the process, if not before
		text, err := c.readWhole(method, uri, body)
		answered <- answer{text, err}
	}()
	select {
	case a := <-answered:
		return a.text, a.err
	case <-time.After(answerTime):
		return nil, fmt.Errorf("the admin endpoint has not answered within %s", answerTime)
	}
}

func (c *client) readWhole(method, uri string, body io.Reader) ([]byte, error) {
	resp, err := c.ask(method, uri, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(text) > maxAnswer {
		err = fmt.Errorf("the answer has more than %d bytes (is it a Caddy with this module?)", maxAnswer)
	}
	return text, err
}

// printOf asks something of an event, and prints the answer for people.
func (c *client) printOf(id, method, what string, request any) error {
	if !eventID.MatchString(id) {
		return fmt.Errorf("%q is no event's id: `caddy wepay events list` has them", id)
	}
	return c.print(method, "/"+id+what, request)
}

// print asks with a JSON object, and prints the answer for people.
func (c *client) print(method, uri string, request any) error {
	var body io.Reader
	if request != nil {
		text, err := json.Marshal(request)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	reply, err := c.read(method, uri, body)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := json.Indent(&text, reply, "", "  "); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	_, err = io.WriteString(c.out, plainJSON(text.Bytes()))
	return err
}

func (c *client) get(uri string, reply any) error {
	text, err := c.read(http.MethodGet, uri, nil)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, reply)
}

package caddymodule

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// What a client writes into the headers of proxies makes it nobody else.
func TestAccessThroughProxies(t *testing.T) {
	const (
		in       = http.StatusOK
		proxy    = "10.9.0.1:4711"
		xff      = "X-Forwarded-For: "
		real     = "X-Real-IP: "
		stranger = "203.0.113.9"
		inside   = "10.0.0.7"

		several = "turn on trusted_proxies_strict"
		relayed = "not among trusted_proxies"
		address = "not among those of allow"

		loose       = ""
		strict      = "trusted_proxies_strict"
		two         = "client_ip_headers X-Real-IP X-Forwarded-For"
		strictTwo   = strict + "\n" + two
		own         = "client_ip_headers X-Seen-From"
		unix        = "trusted_proxies_unix"
		strictUnix  = unix + "\n" + strict
		allow       = "allow 10.0.0.0/24 127.0.0.1"
		allowProxy  = "allow 10.9.0.0/16"
		allowMapped = "allow ::ffff:10.0.0.0/120"
	)
	rows := []struct {
		options string
		accessRow
	}{
		{loose, accessRow{"one address", allow, proxy, []string{xff + inside}, in, ""}},
		{loose, accessRow{"one address, with a port", allow, proxy, []string{xff + inside + ":4711"}, in, ""}},
		{loose, accessRow{"one address, with space", allow, proxy, []string{xff + "  " + inside + " "}, in, ""}},
		{loose, accessRow{"a stranger's", allow, proxy, []string{xff + stranger}, 403, address}},
		{loose, accessRow{"an invented one before it", allow, proxy, []string{xff + inside + ", " + stranger}, 403, several}},
		{loose, accessRow{"an invented one in a line of its own", allow, proxy, []string{xff + inside, xff + stranger}, 403, several}},
		{loose, accessRow{"an invented one behind it", allow, proxy, []string{xff + stranger + "," + inside}, 403, several}},
		{loose, accessRow{"the same twice", allow, proxy, []string{xff + inside + "," + inside}, 403, several}},
		{loose, accessRow{"nothing before it", allow, proxy, []string{xff + ", " + inside}, 403, several}},
		{loose, accessRow{"no address: the proxy's own counts", allowProxy, proxy, []string{xff + "unknown"}, 403, relayed}},
		{loose, accessRow{"nothing: the proxy's own counts", allowProxy, proxy, []string{xff}, 403, relayed}},
		{loose, accessRow{"a socket: the proxy's own counts", allowProxy, proxy, []string{xff + "unix:"}, 403, relayed}},
		{loose, accessRow{"an address of another form", allowProxy, proxy, []string{xff + "0x0a.0.0.7"}, 403, relayed}},
		{loose, accessRow{"of IPv6 for IPv4", allowMapped, proxy, []string{xff + "::ffff:" + inside}, in, ""}},
		{loose, accessRow{"an invented header beside it", allow, proxy, []string{xff + stranger, real + inside}, 403, relayed}},
		{loose, accessRow{"an invented one that the proxy passes on", allow, proxy, []string{xff + inside, real + stranger}, 403, relayed}},
		{loose, accessRow{"the same in two headers", allow, proxy, []string{xff + inside, real + inside}, in, ""}},
		{loose, accessRow{"no address in the other", allow, proxy, []string{xff + inside, real + "unknown"}, 403, relayed}},
		{strict, accessRow{"the other names the last proxy", allow, proxy, []string{xff + inside + ", 10.9.0.2", real + "10.9.0.2"}, in, ""}},
		{strict, accessRow{"the other names nobody's", allow, proxy, []string{xff + inside + ", 10.9.0.2", real + stranger}, 403, relayed}},
		{loose, accessRow{"another header alone", allow, proxy, []string{real + inside}, 403, relayed}},
		{loose, accessRow{"the proxy's own request", allowProxy, proxy, nil, in, ""}},

		{strict, accessRow{"one address", allow, proxy, []string{xff + inside}, in, ""}},
		{strict, accessRow{"through two proxies", allow, proxy, []string{xff + inside + ", 10.9.0.2"}, in, ""}},
		{strict, accessRow{"through two proxies, in two lines", allow, proxy, []string{xff + inside, xff + "10.9.0.2"}, in, ""}},
		{strict, accessRow{"an invented one before it", allow, proxy, []string{xff + inside + ", " + stranger}, 403, relayed}},
		{strict, accessRow{"an invented one in a line of its own", allow, proxy, []string{xff + inside, xff + stranger}, 403, relayed}},
		{strict, accessRow{"by a relay within", allow, proxy, []string{xff + stranger + ", " + inside}, 403, relayed}},
		{strict, accessRow{"by a relay within that does not say for whom", allow, proxy, []string{xff + "unknown, " + inside}, 403, relayed}},
		{strict, accessRow{"an invented one before no address", allow, proxy, []string{xff + inside + ", unknown"}, 403, relayed}},
		{strict, accessRow{"an invented one before a socket", allow, proxy, []string{xff + inside + ", unix:"}, 403, relayed}},
		{strict, accessRow{"an invented one before nothing", allow, proxy, []string{xff + inside + ","}, 403, relayed}},
		{strict, accessRow{"nothing: the proxy's own counts", allowProxy, proxy, []string{xff}, 403, relayed}},
		{strict, accessRow{"no address: the proxy's own counts", allowProxy, proxy, []string{xff + "unknown"}, 403, relayed}},
		{strict, accessRow{"from one proxy through another", allowProxy, proxy, []string{xff + "10.9.0.3, 10.9.0.2"}, in, ""}},
		{strict, accessRow{"from one proxy, and no address", allowProxy, proxy, []string{xff + "unknown, 10.9.0.2"}, 403, relayed}},

		{two, accessRow{"both headers agree", allow, proxy, []string{xff + inside, real + inside}, in, ""}},
		{two, accessRow{"an invented header before it", allow, proxy, []string{xff + stranger, real + inside}, 403, relayed}},
		{two, accessRow{"an invented header before several", allow, proxy, []string{xff + inside + ", " + stranger, real + inside}, 403, several}},
		{two, accessRow{"an invented header of the proxy's address", allowProxy, proxy, []string{xff + stranger, real + "10.9.0.1"}, 403, relayed}},
		{two, accessRow{"an invented header of nothing", allow, proxy, []string{xff + inside, real}, 403, relayed}},
		{strictTwo, accessRow{"both headers agree", allow, proxy, []string{xff + inside + ", 10.9.0.2", real + inside}, in, ""}},
		{strictTwo, accessRow{"an invented header before it", allow, proxy, []string{xff + stranger, real + inside}, 403, relayed}},
		{strictTwo, accessRow{"a proxy's address in one", allow, proxy, []string{xff + inside, real + "10.9.0.2"}, 403, relayed}},

		{own, accessRow{"a header of its own", allow, proxy, []string{"X-Seen-From: " + inside}, in, ""}},
		{own, accessRow{"a header of its own by no proxy", allow, "127.0.0.1:4711", []string{"X-Seen-From: " + stranger}, 403, relayed}},
		{own, accessRow{"the usual header", allow, proxy, []string{xff + inside}, 403, relayed}},

		{unix, accessRow{"a socket", allow, "@", []string{xff + inside}, in, ""}},
		{unix, accessRow{"a socket, and an invented one", allow, "@", []string{xff + inside + ", " + stranger}, 403, several}},
		{unix, accessRow{"a socket that says nothing", allow, "@", nil, 403, address}},
		{strictUnix, accessRow{"a socket, and an invented one", allow, "@", []string{xff + inside + ", " + stranger}, 403, relayed}},
		{strictUnix, accessRow{"a socket, through a proxy", allow, "@", []string{xff + inside + ", 10.9.0.2"}, in, ""}},
	}
	for _, row := range rows {
		t.Run(strings.ReplaceAll(row.options, "\n", " ")+"/"+row.name, func(t *testing.T) {
			withServer(t, accessFileOf(row.options, ":8080", row.lines), func(server http.Handler) { row.check(t, server) })
		})
	}
}

// An address that Caddy took from a header counts only where the header can be
// looked at.
func TestAccessWithoutTheHeader(t *testing.T) {
	file := strings.Replace(accessFile("allow 10.0.0.0/16"), ":8080 {\n", ":8080 {\nrequest_header -X-Forwarded-For\n", 1)
	withServer(t, file, func(server http.Handler) {
		for _, row := range []accessRow{
			{"removed", "", "10.9.0.1:4711", []string{"X-Forwarded-For: 10.0.0.7, 203.0.113.9"}, 403, "not among trusted_proxies"},
			{"not there", "", "10.0.0.7:4711", nil, http.StatusOK, ""},
		} {
			t.Run(row.name, func(t *testing.T) { row.check(t, server) })
		}
	})
}

// A relay gives itself away by more than one header.
func TestRelayHeaders(t *testing.T) {
	withServer(t, accessFile("allow 127.0.0.1"), func(server http.Handler) {
		for _, name := range []string{
			"Via", "Forwarded", "CDN-Loop", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-By", "X-Forwarded-Server",
			"X-Forwarded", "X-Forward-For", "Forwarded-For", "X-Original-Forwarded-For", "X-Original-Host", "X-Original-URL", "X-Vercel-Forwarded-For",
			"X-Real-IP", "X-Client-IP", "Client-IP", "True-Client-IP", "X-Cluster-Client-IP", "Fastly-Client-IP", "Fly-Client-IP", "CF-Connecting-IP",
			"CF-Connecting-IPv6", "CF-Ray", "DO-Connecting-IP", "EO-Connecting-IP", "Ali-CDN-Real-IP", "Cdn-Src-Ip", "SLB-IP", "RemoteIp", "X-RealIP", "X-Azure-ClientIP", "X-Azure-SocketIP",
			"X-Originating-IP", "X-Remote-IP", "X-Remote-Addr", "X-ProxyUser-Ip", "X-Appengine-User-Ip", "WL-Proxy-Client-IP", "Proxy-Client-IP", "Proxy-Connection",
			"X-Envoy-External-Address", "CloudFront-Viewer-Address", "X-Amz-Cf-Id", "X-Nginx-Proxy", "X-Varnish", "X-ARR-ClientCert",
		} {
			for _, header := range []string{name + ": 203.0.113.9", strings.ToUpper(name) + ": ", strings.ToLower(name) + ": 127.0.0.1"} {
				row := accessRow{lines: "allow", peer: "127.0.0.1:4711", headers: []string{header}, status: 403, reason: "it has the header " + http.CanonicalHeaderKey(name)}
				t.Run(header, func(t *testing.T) { row.check(t, server) })
			}
		}
		long := accessRow{peer: "127.0.0.1:4711", headers: []string{"X-" + strings.Repeat("Y", 1<<10) + "-Ip: 1"}, status: 403, reason: "it has the header X-Y"}
		long.check(t, server)
		if got := asking(server, "refund", long.peer, long.headers...).Body.Len(); got > 1<<10 {
			t.Errorf("the answer repeats a header's name of any length: %d bytes", got)
		}
		for _, header := range []string{
			"Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "X-Request-Id: 1", "X-B3-Traceid: 1", "X-Amzn-Trace-Id: Root=1", "Accept-Encoding: gzip",
			"Cookie: a=b", "Referer: http://orders/", "X-Shop: clip", "Idempotency-Key: 1", "X-Zip: 1", "X-Equip: 1",
		} {
			row := accessRow{peer: "127.0.0.1:4711", headers: []string{header}, status: http.StatusOK}
			t.Run(header, func(t *testing.T) { row.check(t, server) })
		}
	})
}

// What Caddy takes for an address is one here, and nothing else is.
func TestForwardedAddress(t *testing.T) {
	for entry, want := range map[string]string{
		"10.0.0.7": "10.0.0.7", " 10.0.0.7:80 ": "10.0.0.7", "2001:db8::7": "2001:db8::7", "[2001:db8::7]:80": "2001:db8::7", "fe80::7%eth0": "fe80::7",
		"": "", "unknown": "", "10.0.0.7.example": "", "010.0.0.7": "", "10.7": "", "_hidden": "", `"10.0.0.7"`: "",
	} {
		address, err := forwardedAddress(entry)
		if want == "" && err == nil || want != "" && (err != nil || address.String() != want) {
			t.Errorf("%q: got %v, %v, want %q", entry, address, err, want)
		}
	}
	if got := fmt.Sprint(saysRelayed("x-FORWARDED-for"), saysRelayed("X-Ship")); got != "true false" {
		t.Error(got)
	}
}

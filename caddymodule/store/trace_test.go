package store

import (
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// Of the headers of a trace, which nobody signs, only what has the form of one is
// passed on.
func TestTraceOf(t *testing.T) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	traced := func(state ...string) http.Header {
		trace := http.Header{"Traceparent": {parent}}
		if len(state) > 0 {
			trace["Tracestate"] = state
		}
		return trace
	}
	long := "a=" + strings.Repeat("x", 250) + ",b=" + strings.Repeat("x", 250)
	for name, test := range map[string]struct{ parents, states []string }{
		"none":                       {nil, nil},
		"a state alone":              {nil, []string{"a=1"}},
		"twice":                      {[]string{parent, parent}, nil},
		"empty":                      {[]string{""}, nil},
		"not of that form":           {[]string{"00-1-2-01"}, nil},
		"of another length":          {[]string{parent + "0"}, nil},
		"with more behind":           {[]string{parent + "-00"}, nil},
		"in capitals":                {[]string{strings.ToUpper(parent)}, nil},
		"of no trace":                {[]string{"00-00000000000000000000000000000000-b7ad6b7169203331-01"}, nil},
		"of no parent":               {[]string{"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"}, nil},
		"of no version":              {[]string{"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, nil},
		"a script":                   {[]string{"<script>alert(1)</script>"}, nil},
		"64 KiB":                     {[]string{strings.Repeat("0", 64<<10)}, nil},
		"a line feed, as HTTP/2 may": {[]string{parent + "\r\nX-A: b"}, nil},
	} {
		header := http.Header{}
		for name, values := range map[string][]string{"Traceparent": test.parents, "Tracestate": test.states} {
			if values != nil {
				header[name] = values
			}
		}
		if got := TraceOf(header); got != nil {
			t.Errorf("%s: got %v", name, got)
		}
	}
	for name, test := range map[string]struct{ states, want []string }{
		"no state":                      {nil, nil},
		"a state":                       {[]string{"congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"}, []string{"congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"}},
		"twice":                         {[]string{"a=1", "b=2"}, nil},
		"not of that form":              {[]string{"a"}, nil},
		"of 512 bytes":                  {[]string{long + "," + "c=" + strings.Repeat("x", 512-len(long)-3)}, []string{long + "," + "c=" + strings.Repeat("x", 512-len(long)-3)}},
		"of 513 bytes":                  {[]string{long + "," + "c=" + strings.Repeat("x", 513-len(long)-3)}, nil},
		"of 33 members":                 {[]string{strings.Join(members(33), ",")}, nil},
		"a member twice":                {[]string{"a=1,a=2"}, nil},
		"a value that is not printable": {[]string{"a=\x01"}, nil},
	} {
		header := traced(test.states...)
		if got := TraceOf(header); !reflect.DeepEqual(got, traced(test.want...)) {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func members(n int) (all []string) {
	for i := range n {
		all = append(all, string(rune('a'+i%26))+strings.Repeat("b", i/26)+"=1")
	}
	return slices.Clip(all)
}

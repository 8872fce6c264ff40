package store

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/propagation"
)

// maxTraceState bounds a tracestate that is passed on, in bytes: what the
// specification has every vendor take.
const maxTraceState = 512

// TraceOf returns the trace that a request came with, in its headers. WeChat
// signs none of them, so that only what has the form of one is passed on.
// Source: W3C, Trace Context.
func TraceOf(header http.Header) http.Header {
	const parent, state = "Traceparent", "Tracestate"
	if len(header[parent]) != 1 {
		return nil
	}
	came := http.Header{parent: header[parent]}
	if len(header[state]) == 1 && len(header[state][0]) <= maxTraceState {
		came[state] = header[state]
	}
	trace := make(http.Header)
	var form propagation.TraceContext
	form.Inject(form.Extract(context.Background(), propagation.HeaderCarrier(came)), propagation.HeaderCarrier(trace))
	if len(trace) == 0 {
		return nil
	}
	return trace
}

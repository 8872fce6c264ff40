// Package official has WeChat's own Go SDK talk to wepaytest, in tests alone: as
// the client of every call that it has, and as the reader of notifications. It
// is a module of its own, so that nobody who uses caddy-wepay needs the SDK.
package official

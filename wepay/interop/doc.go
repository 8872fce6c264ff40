// Package interop has other people's SDKs talk to this module, in tests alone:
// WeChat's own for Go as the client of wepaytest and as the reader of its
// notifications, and wechatpay-axios-plugin for Node.js as the WeChat Pay that
// apiv3 asks, and as a merchant. It is a module of its own, so that no one who
// uses caddy-wepay needs them. In axios, run
//
//	npm ci --omit=peer --legacy-peer-deps
//
// before the tests.
package interop

// Package wepay is what a merchant of WeChat Pay (微信支付) is and does, whatever
// the version of the API that carries it: merchants and their credentials, the
// operations they can ask of WeChat, the notifications they get, and the errors
// that tell whether a call may be sent again.
//
// Package apiv2 speaks the XML protocol; package wepaytest is a WeChat Pay that
// runs in process, for tests. Nothing here knows of Caddy.
//
// Amounts are whole fen (分, 1/100 CNY) in decimal text or int64. Limits of
// lengths are in bytes of UTF-8, the strict reading of WeChat's documents.
package wepay

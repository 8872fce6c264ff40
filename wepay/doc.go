// Package wepay models merchants of WeChat Pay (微信支付) independently of the API
// version: their credentials, the operations they can request, the notifications
// they receive, and errors that say whether a call may be sent again.
//
// Package apiv2 speaks the XML protocol, apiv3 the JSON one; package wepaytest is a
// WeChat Pay that runs in process, for tests. None of them depends on Caddy.
//
// Amounts are whole fen (分, 1/100 CNY) in decimal text or int64. Limits of
// lengths are in bytes of UTF-8, the strict reading of WeChat's documents.
package wepay

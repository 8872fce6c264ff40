// Package apiv3 speaks WeChat Pay's API v3: JSON, requests signed with the
// merchant's RSA key, replies and notifications with WeChat's, and contents
// encrypted under the merchant's APIv3 key. It takes and gives the fields of
// API v2, so that whoever uses a [wepay.Gateway] need not know which of the two
// carries a call.
//
// A [KeyRing] knows WeChat for one merchant account: by WeChat Pay's public
// key, by platform certificates that it fetches and keeps, or by both while the
// account moves from one to the other. A [Client] asks WeChat for a merchant's
// operations; [ReadNotification] begins to read what WeChat tells.
//
// Source: WeChat Pay, APIv3 开发指引.
package apiv3

// Package apiv3 speaks WeChat Pay's API v3: JSON, requests signed with the
// merchant's RSA key, replies and notifications signed with WeChat's, and contents
// encrypted with the merchant's APIv3 key. Its requests and results have API v2's
// fields, so that users of a [wepay.Gateway] need not know which API carries a
// call.
//
// A [KeyRing] holds the keys of WeChat's that an account verifies with: the public
// key, platform certificates, which it fetches and caches, or both while the account
// moves from one to the other. A [Client] makes a merchant's calls;
// [ReadNotification] starts to read a notification.
//
// Source: WeChat Pay, APIv3 开发指引.
package apiv3

// Package apiv2 speaks WeChat Pay's API v2: flat XML, signed with a key that
// the merchant and WeChat share, over TLS with the merchant's certificate.
package apiv2

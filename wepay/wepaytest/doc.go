// Package wepaytest is a WeChat Pay (微信支付, APIs v2 and v3) that runs in process,
// as net/http/httptest does for HTTP. It is for tests and demonstrations of clients
// of WeChat Pay, and moves no money.
//
// A [Server] is as strict as WeChat: it refuses what WeChat refuses, with WeChat's
// messages, requires the merchant's own certificate where WeChat does, and accounts
// for orders, refunds, payouts, shares and balances as WeChat does. Tests pay its
// orders with [Server.Pay], which notifies the merchant as WeChat does, end refunds
// with [Server.FinishRefund], show payers' codes with [Server.ShowCode], and inject
// faults with [Server.Misbehave], such as [Outage] and [RateLimit]. Notifications are
// lost by [Server.LoseNotifications], late by [Delayed] and tell another amount by
// [WithField] and [WithMember]; bills differ by [Server.ChangeBill]. Whatever else WeChat notifies of, tests send with
// [Server.Notify] over API v3, and of contracts with [Server.NotifyContract] over
// API v2. Tests control its time: see [FakeClock]. The host
// where payers log in has the same address.
//
// Both APIs share orders, refunds and balances. Notifications of an order use the
// API that placed it, those of a refund the API that requested it. In API v3 WeChat
// has certificates or a public key for each merchant, which tests rotate with
// [Server.RotateCertificate] and exchange with [Server.Migrate].
//
// It does not simulate settlement, risk control and banks, and limits no rate by itself.
package wepaytest

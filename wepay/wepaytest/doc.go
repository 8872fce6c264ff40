// Package wepaytest is a WeChat Pay (微信支付, APIs v2 and v3) that runs in process,
// as net/http/httptest is for HTTP. It is for tests and demonstrations of what
// talks to WeChat Pay, and moves no money.
//
// A [Server] is as strict as WeChat: it refuses what WeChat refuses, in WeChat's
// words, wants the merchant's own certificate where WeChat does, and keeps
// orders, refunds, payouts, shares and the money of its accounts the way WeChat
// keeps them. Tests pay its orders with [Server.Pay], which notifies the
// merchant as WeChat does, end refunds with [Server.FinishRefund], show payers'
// codes with [Server.ShowCode], and have it misbehave with [Server.Misbehave].
// Its time can be turned: see [FakeClock]. The host where payers log in is on
// the same address.
//
// Both APIs work on the same orders, refunds and money. An order is notified by
// the API that it was placed by, a refund by the API that asked for it. In API
// v3 WeChat has certificates or a public key for each merchant, which tests
// rotate with [Server.RotateCertificate] and exchange with [Server.Migrate].
//
// Not imitated are limits of rates, which [Refused] can stand for, and whatever
// only real money makes: settlement, risks, banks.
package wepaytest

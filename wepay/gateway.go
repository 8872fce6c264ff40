package wepay

import "context"

// Operation names a call that a merchant can make to WeChat Pay, and the route
// that offers it.
type Operation string

// The operations.
const (
	PlaceOrder  Operation = "get_pay_request_params"
	QueryOrder  Operation = "order_query"
	CloseOrder  Operation = "close_order"
	Refund      Operation = "refund"
	QueryRefund Operation = "refund_query"

	Micropay         Operation = "micropay"
	Reverse          Operation = "reverse"
	AuthCodeToOpenID Operation = "authcode_to_openid"

	DownloadBill     Operation = "download_bill"
	DownloadFundFlow Operation = "download_fund_flow"

	SandboxKey  Operation = "get_sign_key"
	ShortURL    Operation = "short_url"
	BizPayURL   Operation = "biz_pay_url"
	EditAddress Operation = "edit_address"

	SendRedPacket      Operation = "send_red_packet"
	SendGroupRedPacket Operation = "send_group_red_packet"
	QueryRedPacket     Operation = "red_packet_query"
	Transfer           Operation = "transfer"
	QueryTransfer      Operation = "transfer_query"
	PayBank            Operation = "pay_bank"
	QueryBank          Operation = "pay_bank_query"

	ProfitShare               Operation = "profit_share"
	ProfitShareMulti          Operation = "profit_share_multi"
	ProfitShareFinish         Operation = "profit_share_finish"
	ProfitShareQuery          Operation = "profit_share_query"
	ProfitShareReturn         Operation = "profit_share_return"
	ProfitShareReturnQuery    Operation = "profit_share_return_query"
	ProfitShareAddReceiver    Operation = "profit_share_add_receiver"
	ProfitShareRemoveReceiver Operation = "profit_share_remove_receiver"

	// Of API v3 alone.
	CombineOrder       Operation = "combine_order"
	QueryCombined      Operation = "combine_order_query"
	CloseCombined      Operation = "combine_close"
	CancelTransfer     Operation = "transfer_cancel"
	TransferBatch      Operation = "transfer_batch"
	QueryTransferBatch Operation = "transfer_batch_query"
	QueryUnsplit       Operation = "profit_share_unsplit"
	SecurityEcho       Operation = "security_echo"

	OpenID Operation = "openid" // goes to the login host, not to WeChat Pay
)

// Gateway carries one merchant's operations to WeChat Pay.
type Gateway interface {
	// Do makes one call. Requests and results have API v2's field names, whichever
	// API carries them; the merchant's ids, nonce and signature are added here.
	// PlaceOrder returns the parameters of the client's SDK, the others WeChat's
	// reply without its signature.
	//
	// Do accepts only replies signed by WeChat, except where WeChat never signs.
	// The error is a *FieldError for wrong input (nothing was sent), wraps
	// ErrNotAble when the merchant's configuration lacks something, and is an
	// *Error once WeChat was called.
	Do(ctx context.Context, op Operation, in Fields) (Fields, error)

	// Download requests a bill, by DownloadBill or DownloadFundFlow. It streams the
	// bill, which the caller closes.
	Download(ctx context.Context, op Operation, in Fields) (*Bill, error)
}

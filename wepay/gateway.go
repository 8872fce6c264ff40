package wepay

import "context"

// Operation names one thing that a merchant can ask of WeChat Pay. It is also
// the name of the route that offers it.
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

	OpenID Operation = "openid" // asked of the login host, not of WeChat Pay
)

// Gateway carries one merchant's operations to WeChat Pay.
type Gateway interface {
	// Do asks WeChat Pay for one operation. Fields are named as in API v2,
	// both ways, whatever the version that carries them; who the merchant is,
	// nonce and signature are added here. PlaceOrder returns what the client's
	// SDK takes, the others WeChat's reply, without what it was signed with.
	//
	// A result is believed only when WeChat signed it with the merchant's key,
	// or where WeChat never signs. The error is a *FieldError when the input is
	// wrong (then nothing was sent), wraps ErrNotAble when the merchant lacks
	// something, and is an *Error once WeChat was called.
	Do(ctx context.Context, op Operation, in Fields) (Fields, error)

	// Download asks for a bill: one of DownloadBill and DownloadFundFlow. What
	// it returns is read as it comes and has to be closed.
	Download(ctx context.Context, op Operation, in Fields) (*Bill, error)
}

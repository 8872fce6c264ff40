package wepay

// TransferRules are the fields that a transfer to a payer's wallet has in both
// versions of the API, less desc, whose length differs.
// Source: WeChat Pay, 企业付款到零钱.
var TransferRules = Rules{
	{Name: "partner_trade_no", Required: true, Max: 32, Is: Alphanumeric},
	{Name: "openid", Required: true, Max: 64},
	{Name: "re_user_name", Max: 64},
	{Name: "amount", Required: true, Is: Fen},
	{Name: "spbill_create_ip", Max: 32, Is: Address},
	{Name: "device_info", Max: 32},
}

// CheckName is the form of check_name: whether WeChat checks the payee's name.
var CheckName = OneOf("NO_CHECK", "FORCE_CHECK")

// QueryTransferRules are the fields of QueryTransfer.
// Source: WeChat Pay, 查询企业付款.
var QueryTransferRules = Rules{{Name: "partner_trade_no", Required: true, Max: 32, Is: Alphanumeric}}

// CheckRedPacketScene requires scene_id for a red packet below 1 or above 200
// yuan.
// Source: WeChat Pay, 发放普通红包, scene_id.
func CheckRedPacketScene(in Fields) error {
	amount, err := ParseFen(in.Get("total_amount"))
	if err != nil {
		return &FieldError{Field: "total_amount", Reason: err.Error()}
	}
	if (amount < 100 || amount > 20000) && !given(in, "scene_id") {
		return &FieldError{Field: "scene_id", Reason: "is required below 100 and above 20000 fen", Missing: true}
	}
	return nil
}

// CheckTransferName requires the payee's name if WeChat is to check it.
// Source: WeChat Pay, 企业付款到零钱, check_name.
func CheckTransferName(in Fields) error {
	if in.Get("check_name") == "FORCE_CHECK" && !given(in, "re_user_name") {
		return &FieldError{Field: "re_user_name", Reason: "is required for check_name FORCE_CHECK", Missing: true}
	}
	return nil
}

package wepay

// CheckRedPacketScene wants to know what a red packet below 1 or above 200 yuan
// is for.
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

// CheckTransferName wants the payee's name where WeChat is to check it.
// Source: WeChat Pay, 企业付款到零钱, check_name.
func CheckTransferName(in Fields) error {
	if in.Get("check_name") == "FORCE_CHECK" && !given(in, "re_user_name") {
		return &FieldError{Field: "re_user_name", Reason: "is required for check_name FORCE_CHECK", Missing: true}
	}
	return nil
}

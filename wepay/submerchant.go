package wepay

import "slices"

// AnySubMerchant among a partner's SubMchIDs allows every sub-merchant.
const AnySubMerchant = "*"

// actsFor reports whether a merchant acts for a sub-merchant; "" is none.
func (m *Merchant) actsFor(subMchID string) bool {
	if subMchID == m.SubMchID && (subMchID != "" || m.Type != Partner) {
		return true
	}
	return subMchID != "" && (slices.Contains(m.SubMchIDs, subMchID) || slices.Contains(m.SubMchIDs, AnySubMerchant))
}

// ActFor returns a merchant as it acts for the sub-merchant that a request names by
// sub_mch_id and sub_appid, and the request without the two. The configured
// sub_appid belongs to the configured sub-merchant only. Needed: the call has to
// have a sub-merchant. The error is a *FieldError if the merchant may not act for
// it.
func (m *Merchant) ActFor(in Fields, needed bool) (*Merchant, Fields, error) {
	request := in.Clone()
	subMchID, subAppID := request.Get("sub_mch_id"), request.Get("sub_appid")
	request.Delete("sub_mch_id")
	request.Delete("sub_appid")
	acting := *m
	if subMchID != "" && subMchID != m.SubMchID {
		acting.SubMchID, acting.SubAppID = subMchID, ""
	}
	if subAppID != "" {
		acting.SubAppID = subAppID
	}
	switch {
	case m.Type != Partner && subMchID != "":
		return nil, nil, &FieldError{Field: "sub_mch_id", Reason: "needs a merchant of type " + string(Partner)}
	case m.Type != Partner && subAppID != "":
		return nil, nil, &FieldError{Field: "sub_appid", Reason: "needs a merchant of type " + string(Partner)}
	case m.Type == Partner && acting.SubMchID == "" && needed:
		return nil, nil, &FieldError{Field: "sub_mch_id", Reason: "is required: the merchant acts for several", Missing: true}
	case acting.SubMchID != "" && !m.actsFor(acting.SubMchID):
		return nil, nil, &FieldError{Field: "sub_mch_id", Reason: "is not among those that the merchant's sub_mch_id allows"}
	}
	if err := MerchantRules.CheckValue("sub_mch_id", acting.SubMchID); err != nil {
		return nil, nil, err
	}
	if err := (Rule{Name: "sub_appid", Is: AppID}).check(acting.SubAppID); err != nil {
		return nil, nil, err
	}
	return &acting, request, nil
}

// ActForAll returns a partner that may act for any sub-merchant as it acts for none of
// them, and the request without sub_mch_id: such a bill has all of them. It is for a
// request whose sub_mch_id is AnySubMerchant.
func (m *Merchant) ActForAll(in Fields) (*Merchant, Fields) {
	acting, request := *m, in.Clone()
	acting.SubMchID, acting.SubAppID = "", ""
	request.Delete("sub_mch_id")
	return &acting, request
}

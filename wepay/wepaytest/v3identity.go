package wepaytest

// readIdentity decrypts who alone may pay an order, of the payer at a path. The same
// person is encrypted to another text each time.
func (x *v3exchange) readIdentity(payer string) *v3refusal {
	identity, found := x.body.at(payer + ".identity").(object)
	if !found {
		return nil
	}
	for _, sealed := range []struct{ member, field string }{{"number", "user_creid"}, {"name", "user_truename"}} {
		plain, refused := x.decryptV3(identity.text(sealed.member))
		if refused != nil {
			return refused
		}
		identity[sealed.member] = plain
		x.in.Set(sealed.field, plain)
	}
	x.json = jsonOf(x.body)
	return nil
}

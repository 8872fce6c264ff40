#!/bin/sh
# Makes the certificates of the tests in this directory anew. The keys are
# throw-away: they were made for these tests, guard nothing, and are meant to be
# public. WeChat's own are issued by "Tenpay.com Root CA"; these only look alike.
#
# Needs OpenSSL 3 with its legacy provider. Run it from anywhere.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
days=36500

openssl req -x509 -newkey rsa:2048 -nodes -days $days -subj "/C=CN/O=Test/CN=Test Root CA" \
	-keyout "$work/ca.key" -out "$work/ca.pem" 2>/dev/null

# issue <mch_id>: a merchant's key and certificate.
issue() {
	openssl req -newkey rsa:2048 -nodes -subj "/C=CN/O=Test/OU=MMPay/CN=$1" \
		-keyout "$work/$1.key" -out "$work/$1.csr" 2>/dev/null
	openssl x509 -req -in "$work/$1.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" \
		-set_serial "$2" -days $days -out "$work/$1.pem" 2>/dev/null
}
issue 1900000109 0x048D5A6B7C8D9E0F1A2B3C4D5E6F708192A3B4C5
issue 1900000110 0x2A

# As WeChat issues them: RC2-40 for the certificates, 3DES for the key, a SHA-1
# MAC, and the mch_id as the passphrase.
as_wechat() {
	openssl pkcs12 -export -legacy -certpbe PBE-SHA1-RC2-40 -keypbe PBE-SHA1-3DES -macalg sha1 "$@"
}
as_wechat -inkey "$work/1900000109.key" -in "$work/1900000109.pem" \
	-passout pass:1900000109 -out wechat.p12
as_wechat -inkey "$work/1900000109.key" -in "$work/1900000109.pem" -certfile "$work/ca.pem" \
	-passout pass:1900000109 -out wechat-chain.p12
as_wechat -inkey "$work/1900000110.key" -in "$work/1900000110.pem" \
	-passout pass:1900000110 -out other.p12

# As OpenSSL 3 writes them by default: PBES2 with AES-256, a SHA-256 MAC.
openssl pkcs12 -export -inkey "$work/1900000109.key" -in "$work/1900000109.pem" -certfile "$work/ca.pem" \
	-passout pass:1900000109 -out openssl3.p12

# The PEM pair of the same merchant, and another merchant's key.
cp "$work/1900000109.pem" cert.pem
cp "$work/1900000109.key" key.pem
cp "$work/1900000110.key" other-key.pem
cp "$work/ca.pem" ca.pem

# One that expired: only "openssl ca" can set both ends.
mkdir "$work/db"
: >"$work/db/index.txt"
printf '[ca]\ndefault_ca=d\n[d]\ndatabase=%s\nnew_certs_dir=%s\nserial=%s\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n' \
	"$work/db/index.txt" "$work/db" "$work/db/serial" >"$work/ca.cnf"
openssl ca -batch -notext -config "$work/ca.cnf" -create_serial -cert "$work/ca.pem" -keyfile "$work/ca.key" \
	-startdate 20150101000000Z -enddate 20200101000000Z -in "$work/1900000109.csr" -out "$work/expired.pem" 2>/dev/null
as_wechat -inkey "$work/1900000109.key" -in "$work/expired.pem" \
	-passout pass:1900000109 -out expired.p12

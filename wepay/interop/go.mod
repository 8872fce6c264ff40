module github.com/windsome/caddy-wepay/wepay/interop

go 1.26.0

replace github.com/windsome/caddy-wepay => ../../

require (
	github.com/wechatpay-apiv3/wechatpay-go v0.2.21
	github.com/windsome/caddy-wepay v0.0.0
)

require (
	github.com/go-json-experiment/json v1.27.2 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	software.sslmate.com/src/go-pkcs12 v0.7.4 // indirect
)

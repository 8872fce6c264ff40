package apiv3

import (
	"slices"
	"strings"
)

// files are what WeChat answers with something that it does not sign. Of the last only
// one source knows: were it signed, it would be handed on all the same.
// Source: WeChat Pay, 下载账单, 下载电子回单, 下载发票文件 and 下载对账单;
// TheNorthMemory/wechatpay-axios-plugin and its author's OpenAPI description.
var files = []string{
	billFile,
	"/v3/global/statements",
	"/v3/new-tax-control-fapiao/download",
	"/v3/statements",
	"/v3/transferdownload/elecvoucherfile",
	"/v3/transferdownload/signfile",
	"/v3/transferbilldownload/elecvoucherfile",
}

// images is where the pictures of complaints are, each under its media_id. WeChat does
// not sign them either.
// Source: WeChat Pay, 图片下载.
const images = "/v3/merchant-service/images/"

// isFile says whether WeChat answers with a file, which it does not sign.
func isFile(uri string) bool {
	path, _, _ := strings.Cut(uri, "?")
	return slices.Contains(files, path) || strings.HasPrefix(path, images)
}

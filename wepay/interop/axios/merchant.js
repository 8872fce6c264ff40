// A merchant that asks by wechatpay-axios-plugin, whose own checks have to find
// every reply right. It reads who it is, where WeChat Pay is and a notification of a
// payment, of a complaint and of a contract from standard input, one JSON object, and
// prints one with what it was told.
const { readFileSync } = require('node:fs');
const { Agent } = require('node:https');
const { Aes, Formatter, Hash, Rsa, Transformer, Wechatpay } = require('wechatpay-axios-plugin');

const given = JSON.parse(readFileSync(0, 'utf8'));
const wechatKey = Rsa.from(given.platformKey, Rsa.KEY_TYPE_PUBLIC);
const wxpay = new Wechatpay({
  mchid: given.mchid, serial: given.serial, privateKey: given.privateKey, certs: { [given.platformSerial]: wechatKey },
  baseURL: given.url, httpsAgent: new Agent({ ca: given.ca }), headers: { 'Wechatpay-Serial': given.platformSerial },
});

// opened verifies a notification and decrypts it.
function opened({ header, body }) {
  const said = Formatter.response(header['Wechatpay-Timestamp'], header['Wechatpay-Nonce'], body);
  if (!Rsa.verify(said, header['Wechatpay-Signature'], wechatKey)) throw new Error('the notification is not believed');
  const { resource } = JSON.parse(body);
  return JSON.parse(Aes.AesGcm.decrypt(resource.ciphertext, given.apiV3Key, resource.nonce, resource.associated_data));
}

// told verifies a notification of API v2.
function told(xml) {
  const fields = Transformer.toObject(xml);
  if (!Hash.equals(Hash.sign(Hash.ALGO_MD5, fields, given.apiKey), fields.sign)) throw new Error('the notice is not believed');
  return fields;
}

(async () => {
  const { mchid, appid, number } = given;
  const native = await wxpay.v3.pay.transactions.native.post({
    appid, mchid, description: '袜子', out_trade_no: `${number}N`, notify_url: 'https://m.example.cn/pay_notify', amount: { total: 100 },
  });
  const closed = await wxpay.v3.pay.transactions.outTradeNo.$number$.close.post({ mchid }, { number: `${number}N` });
  const paid = await wxpay.v3.pay.transactions.outTradeNo.$number$.get({ params: { mchid }, number });
  const refund = await wxpay.v3.refund.domestic.refunds.post({
    out_trade_no: number, out_refund_no: 'R1', amount: { refund: 100, total: 1200, currency: 'CNY' },
  });
  console.log(JSON.stringify({
    native: native.data, closed: closed.status, paid: paid.data, refund: refund.data, notification: opened(given.notification),
    event: opened(given.event), contract: told(given.contract),
  }));
})().catch((error) => {
  console.error(error.response ? { status: error.response.status, data: error.response.data } : error);
  process.exit(1);
});

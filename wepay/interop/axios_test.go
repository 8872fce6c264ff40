package interop

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	neturl "net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/windsome/caddy-wepay/wepay"
	"github.com/windsome/caddy-wepay/wepay/apiv3"
	"github.com/windsome/caddy-wepay/wepay/wepaytest"
)

const publicKeyID = "PUB_KEY_ID_0119000001092024101100000000000001"

// node runs one of the plugin's programs with what it reads.
func node(t *testing.T, program string, input any) *exec.Cmd {
	t.Helper()
	text := must(json.Marshal(input))(t)
	command := exec.CommandContext(t.Context(), "node", program)
	command.Dir, command.Stdin = "axios", bytes.NewReader(text)
	return command
}

func publicPEM(t *testing.T, key *rsa.PublicKey) string {
	t.Helper()
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(key))(t)}))
}

func privatePEM(t *testing.T, key *rsa.PrivateKey) string {
	t.Helper()
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))(t)}))
}

// plugged starts the plugin's WeChat Pay and returns a merchant of it.
func plugged(t *testing.T) (url string, merchant *wepay.Merchant) {
	t.Helper()
	own, wechat := must(rsa.GenerateKey(rand.Reader, 2048))(t), must(rsa.GenerateKey(rand.Reader, 2048))(t)
	serial := strings.Repeat("0A", 20)
	command := node(t, "wechat.js", map[string]string{
		"mchid": mchID, "merchantSerial": serial, "merchantPublicKey": publicPEM(t, &own.PublicKey),
		"platformSerial": publicKeyID, "platformKey": privatePEM(t, wechat), "apiV3Key": apiV3Key,
	})
	var complaints bytes.Buffer
	command.Stderr = &complaints
	output := must(command.StdoutPipe())(t)
	if err := command.Start(); err != nil {
		t.Fatalf("starting node: %v", err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait() // it was killed
	})
	port, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		_ = command.Wait()
		t.Fatalf("the plugin does not start (was npm ci run in axios?): %v\n%s", err, complaints.String())
	}
	url = "http://127.0.0.1:" + strings.TrimSpace(port)
	return url, &wepay.Merchant{
		Name: "shop", API: wepay.V3, Env: wepay.H5, Type: wepay.Direct, AppID: appID, MchID: mchID,
		SignType: wepay.MD5, APIv3Key: apiV3Key, PrivateKey: own, MchSerial: serial,
		PublicKeyID: publicKeyID, PublicKey: &wechat.PublicKey,
		NotifyURL: "https://m.example.cn/pay_notify", CbNotifyURL: "http://127.0.0.1/", Endpoints: []string{url},
	}
}

// The plugin verifies the client's requests, and the client the plugin's
// answers and tells.
func TestPluginAsWeChat(t *testing.T) {
	url, merchant := plugged(t)
	if err := merchant.Validate(time.Now()); err != nil {
		t.Fatal(err)
	}
	client := apiv3.NewClient(merchant, apiv3.NewKeyRing(merchant, nil, wepay.ClientOptions{}), wepay.ClientOptions{})
	ask := func(op wepay.Operation, in map[string]string) wepay.Fields {
		t.Helper()
		out, err := client.Do(t.Context(), op, wepay.NewFields(in))
		if err != nil {
			t.Fatalf("%s: %v", op, err)
		}
		return out
	}
	number := "A|B*c-1_2@x" // whatever a number may hold
	placed := ask(wepay.PlaceOrder, map[string]string{
		"out_trade_no": number, "total_fee": "1200", "body": "袜子 & <手套>", "openid": openID, "spbill_create_ip": "203.0.113.7",
	})
	message := placed.Get("appId") + "\n" + placed.Get("timeStamp") + "\n" + placed.Get("nonceStr") + "\n" + placed.Get("package") + "\n"
	if !signedByMerchant(merchant, message, placed.Get("paySign")) {
		t.Errorf("the client's parameters are not signed: %v", placed)
	}
	state := ask(wepay.QueryOrder, map[string]string{"out_trade_no": number})
	if state.Get("trade_state") != "SUCCESS" || state.Get("total_fee") != "1200" || state.Get("time_end") != "20231115061318" {
		t.Errorf("the order is %v", state)
	}
	ask(wepay.CloseOrder, map[string]string{"out_trade_no": number})
	if _, err := client.Do(t.Context(), wepay.QueryOrder, wepay.NewFields(map[string]string{"out_trade_no": "nobody-knows"})); err == nil || !strings.Contains(err.Error(), "ORDER_NOT_EXIST") {
		t.Errorf("an order that nobody knows: %v", err)
	}
	checkPluginNotification(t, url, merchant, number)
	checkPluginReads(t, client)
}

// checkPluginReads has the plugin read what only WeChat can.
func checkPluginReads(t *testing.T, client *apiv3.Client) {
	t.Helper()
	must(client.Do(t.Context(), wepay.PlaceOrder, wepay.NewFields(map[string]string{
		"out_trade_no": "ORDER-0002", "total_fee": "1200", "body": "袜子", "openid": openID, "spbill_create_ip": "203.0.113.7",
		"user_type": "IDCARD", "user_creid": "43102119910910512X", "user_truename": "张三",
	})))(t)
	var told struct {
		Payer struct{ Identity map[string]string }
	}
	text := must(client.Native(t.Context(), wepay.QueryOrder, wepay.NewFields(map[string]string{"out_trade_no": "ORDER-0002"})))(t)
	if err := json.Unmarshal(text, &told); err != nil {
		t.Fatal(err)
	}
	if who := told.Payer.Identity; len(who) != 3 || who["type"] != "IDCARD" || who["number"] != "43102119910910512X" || who["name"] != "张三" {
		t.Errorf("the plugin reads %v", who)
	}
}

func signedByMerchant(merchant *wepay.Merchant, message, signature string) bool {
	digest := sha256.Sum256([]byte(message))
	raw, err := base64.StdEncoding.DecodeString(signature)
	return err == nil && rsa.VerifyPKCS1v15(&merchant.PrivateKey.PublicKey, crypto.SHA256, digest[:], raw) == nil
}

func checkPluginNotification(t *testing.T, url string, merchant *wepay.Merchant, number string) {
	t.Helper()
	request := must(http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/notification/"+neturl.PathEscape(number), nil))(t)
	response := must(http.DefaultClient.Do(request))(t)
	defer response.Body.Close()
	var told struct {
		Header map[string]string `json:"header"`
		Body   string            `json:"body"`
	}
	if err := json.Unmarshal(must(io.ReadAll(response.Body))(t), &told); err != nil {
		t.Fatal(err)
	}
	header := make(http.Header)
	for name, value := range told.Header {
		header.Set(name, value)
	}
	unverified := must(apiv3.ReadNotification(header, []byte(told.Body)))(t)
	sealed := must(unverified.Verify(merchant.PublicKey, time.Now()))(t)
	notification := must(sealed.Open(apiV3Key))(t).Notification(merchant, merchant.AppID)
	if notification.Kind != wepay.Payment || notification.Fields.Get("out_trade_no") != number || notification.Fields.Get("total_fee") != "1200" {
		t.Errorf("the client got %s %v", notification.Kind, notification.Fields)
	}
}

// lastNotification is what arrived last, as the plugin reads it.
func (s *shop) lastNotification() map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	header := make(map[string]string)
	for name := range s.arrived.Header {
		header[name] = s.arrived.Header.Get(name)
	}
	return map[string]any{"header": header, "body": s.body}
}

// The plugin verifies wepaytest's replies and notifications.
func TestPluginAsMerchant(t *testing.T) {
	s := newShop(t, wepaytest.ByPublicKey)
	s.complain()
	event := s.lastNotification()
	contract := must(s.wechat.NotifyContract(mchID, wepaytest.Contract{URL: s.site.URL, ID: "Wx1", PlanID: "123"}, wepaytest.ContractSigned, wepaytest.Held()))(t)
	s.pay("ORDER-0001", 1200, false)
	id, key, err := s.wechat.PublicKey(mchID)
	if err != nil {
		t.Fatal(err)
	}
	command := node(t, "merchant.js", map[string]any{
		"url": s.wechat.URL, "ca": string(s.wechat.CACertPEM()), "mchid": mchID, "appid": appID, "number": "ORDER-0001",
		"serial": s.serial, "privateKey": privatePEM(t, s.key), "platformSerial": id, "platformKey": string(key),
		"apiV3Key": apiV3Key, "notification": s.lastNotification(), "event": event, "apiKey": apiKey, "contract": string(contract.Body()),
	})
	var complaints bytes.Buffer
	command.Stderr = &complaints
	output, err := command.Output()
	if err != nil {
		t.Fatalf("the plugin: %v\n%s", err, complaints.String())
	}
	var told struct {
		Native struct {
			CodeURL string `json:"code_url"`
		} `json:"native"`
		Closed int `json:"closed"`
		Paid   struct {
			State string `json:"trade_state"`
		} `json:"paid"`
		Refund struct {
			Status string `json:"status"`
		} `json:"refund"`
		Notification struct {
			Number string `json:"out_trade_no"`
		} `json:"notification"`
		Event    map[string]string
		Contract map[string]string
	}
	if err := json.Unmarshal(output, &told); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if !strings.HasPrefix(told.Native.CodeURL, "weixin://") || told.Closed != http.StatusNoContent || told.Paid.State != "SUCCESS" ||
		told.Refund.Status != "PROCESSING" || told.Notification.Number != "ORDER-0001" ||
		told.Event["complaint_id"] != "1" || told.Contract["contract_id"] != "Wx1" || told.Contract["change_type"] != "ADD" {
		t.Errorf("the plugin got %s", output)
	}
}

package caddymodule

import (
	"encoding/json"
	"strings"
	"testing"
)

// Members of another case than the documented are refused and not taken, as are those
// that stand there twice; no error repeats what may be a secret.
func TestJSONMembers(t *testing.T) {
	const (
		shop = `{"name":"shop","app_id":"wx00112233445566aa","mch_id":"1900000109","partner_key":"` + testKey + `","cb_notify_url":"http://orders/"`
		app  = `{"call_timeout":"3s","merchants":[`
		site = `{"handler":"wepay","allow":"10.0.0.1","token":["` + testToken + `"]`
	)
	for name, test := range map[string]struct{ app, site, says string }{
		"as documented":           {app + shop + `}]}`, site + "}", ""},
		"a merchant's":            {app + shop + `,"Cb_Event_Url":"http://events/"}]}`, site + "}", "Cb_Event_Url"},
		"a merchant's, no such":   {app + shop + `,"cb_events":"http://events/"}]}`, site + "}", "cb_events"},
		"a merchant's, twice":     {app + shop + `,"cb_notify_url":"http://events/"}]}`, site + "}", "cb_notify_url"},
		"a merchant's, no text":   {app + strings.Replace(shop, `"`+testKey+`"`, "12345678901234567890123456789012", 1) + `}]}`, site + "}", "partner_key"},
		"a merchant's, an object": {app + strings.Replace(shop, `"`+testKey+`"`, `{"`+testKey+`":"`+testKey+`"}`, 1) + `}]}`, site + "}", "partner_key"},
		"a merchant's, no time":   {app + shop + `,"close_after":"` + testKey + `"}]}`, site + "}", "close_after"},
		"the app's, no time":      {`{"call_timeout":"` + testKey + `","merchants":[` + shop + `}]}`, site + "}", "call_timeout"},
		"deep in it, no time":     {`{"deliver":{"retry":["1s","` + testKey + `"]},"merchants":[` + shop + `}]}`, site + "}", "retry"},
		"the app's":               {`{"Call_Timeout":"3s","merchants":[` + shop + `}]}`, site + "}", "Call_Timeout"},
		"the directive's":         {app + shop + `}]}`, site + `,"Merchants":["shop"]}`, "Merchants"},
		"the directive's, odd":    {app + shop + `}]}`, strings.Replace(site, `["`+testToken+`"]`, `[["`+testToken+`"]]`, 1) + "}", "token"},
	} {
		t.Run(name, func(t *testing.T) {
			config := testConfig(t, ":8080\n")
			config.AppsRaw["wepay"] = json.RawMessage(test.app)
			config.AppsRaw["http"] = json.RawMessage(`{"servers":{"srv0":{"listen":[":8080"],"routes":[{"handle":[` + test.site + `]}]}}}`)
			_, err := validateConfig(t, config)
			if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Fatalf("got %v, want %q", err, test.says)
			}
			if err == nil {
				return
			}
			if strings.Contains(err.Error(), "parsing") {
				t.Errorf("the error shows a part of a time: %v", err)
			}
			for _, secret := range []string{testKey, testToken, "1234567890123456"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the error repeats a secret: %v", err)
				}
			}
		})
	}
}

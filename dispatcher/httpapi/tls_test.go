package httpapi

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/ringback/ringback/dispatcher/egress/egresstest"
)

// tlsOf is the member tls of a registration, without the empty ones.
func tlsOf(certificate, key, ca, serverName string) string {
	text, _ := json.Marshal(struct {
		Certificate string `json:"client_certificate,omitempty"`
		Key         string `json:"client_key,omitempty"`
		CA          string `json:"ca,omitempty"`
		ServerName  string `json:"server_name,omitempty"`
	}{certificate, key, ca, serverName})
	return string(text)
}

// TestNginxWantsAClientCertificate: a real nginx that lets in who has a certificate of its authority, over HTTP/1.1 and h2. What it says to others is
// told in words, the certificate is exchanged with a PATCH, and the next request has the new one.
func TestNginxWantsAClientCertificate(t *testing.T) {
	ours, strangers := egresstest.NewAuthority(t, "partner's authority"), egresstest.NewAuthority(t, "somebody's authority")
	cert, key := ours.Server("hooks.partner.example")
	const strict = "ssl_certificate $dir/cert.pem;\nssl_certificate_key $dir/key.pem;\nssl_client_certificate $dir/ca.pem;\nssl_verify_client on;\n"
	files := map[string]string{"cert.pem": cert, "key.pem": key, "ca.pem": ours.PEM()}
	only := func(name string) string {
		return strict + fmt.Sprintf("location / {\nif ($ssl_client_s_dn != \"CN=%s\") { return 403; }\nadd_header Content-Type application/json;\nreturn 204;\n}", name)
	}
	told := strict + "error_page 496 =496 /told;\nlocation = /told { internal; return 496 'no'; }"
	addrs := append(egresstest.StartNginx(t, "ssl", files, only("acme"), told), egresstest.StartNginx(t, "ssl http2", files, only("acme"))...)
	h := newHouse(t)
	register := func(addr, tls string) string {
		return h.call("partner", "POST", "/companies/acme/config/callbacks", `{"callback_type":"payment_proof","destination":{"url":"https://`+addr+`/hook"},"tls":`+tls+`}`).want(201).header.Get("Location")
	}
	test := func(path string) (verdict, detail string) {
		said := h.call("partner", "POST", path+"/test", `{"event_type":"payment_proof"}`).want(200).json()
		return fmt.Sprint(said["verdict"]), fmt.Sprint(said["detail"])
	}
	acme, acmeKey := ours.Client("acme", nil)
	globex, globexKey := ours.Client("globex", nil)
	stranger, strangerKey := strangers.Client("acme", nil)
	for _, addr := range []string{addrs[0], addrs[2]} {
		path := register(addr, tlsOf("", "", ours.PEM(), "hooks.partner.example"))
		for _, step := range []struct{ cert, key, verdict, detail string }{
			{"", "", "retry", "answered 400 Bad Request: the endpoint asked for a client certificate, and none was sent; give the callback one that the endpoint takes (tls.client_certificate and tls.client_key)"},
			{acme, acmeKey, "delivered", "answered 204 No Content: delivered"},
			{globex, globexKey, "retry", "answered 403 Forbidden: nginx refused the request before it came to the endpoint"},
			{stranger, strangerKey, "retry", "answered 400 Bad Request: the endpoint did not take the client certificate; give the callback one that"},
			{acme, acmeKey, "delivered", "answered 204 No Content: delivered"},
		} {
			if step.cert != "" {
				h.call("partner", "PATCH", path, `{"tls":`+tlsOf(step.cert, step.key, "", "")+`}`).want(200)
			}
			for range 2 { // the second over the connection of the first
				if verdict, detail := test(path); verdict != step.verdict || !strings.HasPrefix(detail, step.detail) {
					t.Errorf("%s, %s; want %s, %s", verdict, detail, step.verdict, step.detail)
				}
			}
		}
	}
	if verdict, detail := test(register(addrs[1], tlsOf("", "", ours.PEM(), "hooks.partner.example"))); verdict != "retry" || !strings.HasPrefix(detail, "answered 496: the endpoint asked for a client certificate, and none was sent; ") {
		t.Errorf("%s, %s", verdict, detail)
	}
}

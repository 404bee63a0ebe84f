package httpapi

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/ringback/ringback/dispatcher/egress/egresstest"
)

// someTLS is a company's certificate as a request has it.
func someTLS(t testing.TB) string {
	cert, key := egresstest.NewAuthority(t, "authority").Client("acme", nil)
	return tlsOf(cert, key, "", "")
}

// TestACompanysCertificateByTheAPI: who changes callbacks changes it, its key is shown to nobody, and what was answered may be sent back.
func TestACompanysCertificateByTheAPI(t *testing.T) {
	h := newHouse(t)
	const path = "/companies/acme/tls"
	h.call("partner", "GET", path, "").wantProblem(http.StatusNotFound)
	set := h.call("partner", "PUT", path, someTLS(t)).want(http.StatusOK)
	for _, answer := range []string{string(set.body), string(h.call("viewer", "GET", path, "").want(http.StatusOK).body)} {
		if answer != string(set.body) || strings.Contains(answer, "PRIVATE KEY") || !strings.Contains(answer, `"client_key":"***"`) || !strings.Contains(answer, `"subject":"CN=acme"`) {
			t.Errorf("answered %s", answer)
		}
	}
	if again := h.call("operator", "PUT", path, string(set.body)).want(http.StatusOK); string(again.body) != string(set.body) {
		t.Errorf("sent back: %s", again.body)
	}
	fault := h.call("partner", "PUT", path, `{"client_certificate":"x","client_key":"y","ca":"z"}`).wantProblem(http.StatusUnprocessableEntity)
	if said := fmt.Sprintf("%+v", fault); !strings.Contains(said, "body.ca") || !strings.Contains(said, "body.client_certificate") {
		t.Errorf("faults: %s", said)
	}
	h.call("producer", "GET", path, "").wantProblem(http.StatusForbidden)
	h.call("viewer", "PUT", path, someTLS(t)).wantProblem(http.StatusForbidden)
	h.call("viewer", "DELETE", path, "").wantProblem(http.StatusForbidden)
	h.call("partner", "PUT", "/companies/globex/tls", someTLS(t)).wantProblem(http.StatusNotFound)
	h.call("partner", "DELETE", path, "").want(http.StatusNoContent)
	h.call("partner", "DELETE", path, "").wantProblem(http.StatusNotFound)
}

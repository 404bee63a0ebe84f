package httpapi

import (
	"net/http"
	"strings"
	"testing"
)

// A key of all companies that names a company which there is not is told so, with the names that are near. A key of one company learns nothing of others, be
// they there or not.
func TestNearCompanies(t *testing.T) {
	h := newHouse(t)
	h.register("acme")
	h.register("acme-berlin")
	h.register("zebra")
	for _, request := range []struct{ method, path string }{
		{"GET", "/companies/acmee/config/callbacks/1"},
		{"PATCH", "/companies/acmee/config/callbacks/1"},
		{"GET", "/companies/acmee/events/e"},
		{"GET", "/companies/acmee/deliveries/dlv_x"},
		{"DELETE", "/companies/acmee?confirm=acmee"},
		{"DELETE", "/companies/acmee/portal-links/lnk_x"},
		{"GET", "/companies/acmee/replays/rpl_x"},
	} {
		body := ""
		if request.method == "PATCH" {
			body = `{"description":"d"}`
		}
		detail := h.call("operator", request.method, request.path, body).wantProblem(http.StatusNotFound).Detail
		if !strings.HasPrefix(detail, "there is no company acmee: ") || !strings.Contains(detail, "near: acme;") || strings.Contains(detail, "zebra") {
			t.Errorf("%s %s: %s", request.method, request.path, detail)
		}
	}
	wantPlain := func(actor, path, words string) {
		t.Helper()
		detail := h.call(actor, "GET", path, "").wantProblem(http.StatusNotFound).Detail
		if strings.Contains(detail, "near") || !strings.Contains(detail, words) {
			t.Errorf("%s is told of %s: %s", actor, path, detail)
		}
	}
	wantPlain("operator", "/companies/acme/config/callbacks/9", "no such callback")
	wantPlain("operator", "/companies/somethingelse/config/callbacks/9", "there is no company somethingelse")
	for _, actor := range []string{"partner", "acme operator", "producer", "other partner"} {
		company := map[bool]string{true: "/companies/other", false: "/companies/acme"}[strings.HasPrefix(actor, "other")]
		wantPlain(actor, company+"/deliveries/dlv_x", "no such event or delivery") // other's has nothing yet
		wantPlain(actor, "/companies/acmee/deliveries/dlv_x", "no such company for this key")
		wantPlain(actor, "/companies/zebra/deliveries/dlv_x", "no such company for this key")
	}
	for _, replay := range []struct{ companies, words string }{{`["acmee"]`, "is no company that there is; near: acme"}, {`["qqqqqqqq"]`, "is no company that there is"}} {
		p := h.call("operator", "POST", "/replays", `{"companies":`+replay.companies+`}`).wantProblem(http.StatusUnprocessableEntity)
		if !strings.HasSuffix(p.Errors[0].Message, replay.words) {
			t.Error(p.Errors[0].Message)
		}
	}
}

package httpapi

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestRotation(t *testing.T) {
	h := newHouse(t)
	callback := h.register("acme")
	id := int64(1)
	live := func(in time.Duration) int {
		cb, err := h.api.Registry.Get(t.Context(), "acme", id)
		h.must(err)
		return len(cb.LiveSecrets(time.Now().Add(in)))
	}
	rotate := func(body string) string {
		a := h.call("partner", "POST", callback+"/secret", body).want(http.StatusOK).json()
		secret, _ := a["secret"].(string)
		if !strings.HasPrefix(secret, "whsec_") || a["callback_id"] != 1.0 {
			t.Errorf("rotated: %v", a)
		}
		return secret
	}
	first, second := rotate(""), rotate(`{"overlap":"1h"}`)
	if first == second {
		t.Error("the secret stayed")
	}
	if n, later, muchLater := live(0), live(2*time.Hour), live(25*time.Hour); n != 3 || later != 1 || muchLater != 1 {
		t.Errorf("%d live secrets, %d in two hours, %d tomorrow", n, later, muchLater)
	}
	rotate(`{"overlap":"0s"}`)
	if n := live(0); n != 1 {
		t.Errorf("%d live secrets after an overlap of 0s", n)
	}
	rotate(`{"overlap":null}`)
	if n, later := live(23*time.Hour), live(25*time.Hour); n != 2 || later != 1 {
		t.Errorf("by default %d live secrets in 23 h, %d in 25 h", n, later)
	}
	h.call("partner", "POST", callback+"/secret", `{"overlap":"168h"}`).want(http.StatusOK)
	for _, body := range []string{`{"overlap":"169h"}`, `{"overlap":"-1s"}`, `{"overlap":"soon"}`, `{"overlap":24}`, `{"overlap":true}`} {
		h.call("partner", "POST", callback+"/secret", body).wantFault("body.overlap")
	}
	h.call("partner", "POST", callback+"/secret", `{"overlpa":"1h"}`).wantFault("body.overlpa")
	h.call("partner", "POST", "/companies/acme/config/callbacks/9/secret", "").wantProblem(http.StatusNotFound)
	if a := h.call("partner", "GET", callback, "").want(200); strings.Contains(string(a.body), "whsec_") {
		t.Errorf("shown later: %s", a.body)
	}
}

// TestTypesAreNotNamedAsAMember: no callback type is named as anything that a registration, or an answer that shows one, may have.
func TestTypesAreNotNamedAsAMember(t *testing.T) {
	h := newHouse(t)
	met := 0
	for _, doc := range []any{RegistrationDoc{}, createdCallbackDoc{}, callbackHealthDoc{}} {
		for _, field := range reflect.VisibleFields(reflect.TypeOf(doc)) {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if name == "" {
				continue
			}
			met++
			h.call("operator", "PUT", "/callback-types/"+name, `{}`).wantFault("path.name")
		}
	}
	if met < 40 {
		t.Errorf("met %d members only", met)
	}
}

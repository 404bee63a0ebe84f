package console

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/ringback/ringback/dispatcher/httpapi"
)

// The connection of somebody whose session holds counts as admitted at the door, so that strangers in a crowd make room before people at the console do. That
// of somebody without a session does not.
func TestASessionIsAdmittedAtTheDoor(t *testing.T) {
	h := newHouse(t)
	out := h.loggedIn("viewer")
	ended := map[string]string{"ringback_console": out.cookies["ringback_console"]}
	out.submit(out.get("/console/types"), "/console/logout", nil).want(t, http.StatusSeeOther)
	for name, tt := range map[string]struct {
		visitor *visitor
		want    bool
	}{
		"logged in":        {h.loggedIn("viewer"), true},
		"shows a key":      {h.showing("operator"), true},
		"nobody":           {&visitor{h, "", map[string]string{}}, false},
		"a made-up cookie": {&visitor{h, "", map[string]string{"ringback_console": "rbs_made.up"}}, false},
		"logged out":       {&visitor{h, "", ended}, false},
	} {
		told := false
		ctx := httpapi.OnAdmission(t.Context(), func() { told = true })
		tt.visitor.do(httptest.NewRequestWithContext(ctx, http.MethodGet, "/console/types", nil))
		if told != tt.want {
			t.Errorf("%s: admitted %t, want %t", name, told, tt.want)
		}
	}
}

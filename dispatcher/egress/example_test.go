package egress_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"time"

	"github.com/ringback/ringback/dispatcher/egress"
)

func ExampleClient_Do() {
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Printf("%s %s %s\n", r.Method, r.RequestURI, body)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer partner.Close()

	client, err := egress.New(egress.Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	resp, err := client.Do(context.Background(), egress.Request{
		URL: partner.URL + "/hook?source=ringback", Body: []byte(`{"ok":true}`), Timeout: 5 * time.Second,
	})
	if e, ok := errors.AsType[*egress.Error](err); ok {
		fmt.Println("no answer:", e.Reason, e.Detail)
		return
	}
	fmt.Println(resp.Status)
	// Output:
	// POST /hook?source=ringback {"ok":true}
	// 204
}

func ExampleClient_CheckURL() {
	client, err := egress.New(egress.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	fmt.Println(client.CheckURL("https://partner.example/hook"))
	fmt.Println("destination.url", client.CheckURL("http://169.254.169.254/latest/meta-data/"))
	fmt.Println("destination.url", client.CheckURL("https://partner.example:6379/"))
	// Output:
	// <nil>
	// destination.url may not have an address as its host: use a host name (an operator can allow addresses)
	// destination.url has a port that is not allowed: use 443, 8443 or 80
}

package httpapi_test

import (
	"log"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/httpapi"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// The API's parts are made by hand, from the bottom up, and closed by whoever made them.
func ExampleNew() {
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
	defer func() { _ = rdb.Close() }()
	keyset, err := registry.NewKeyset() // a real one is kept: registry.LoadOrCreateKeyset
	if err != nil {
		log.Fatal(err)
	}
	callbacks, err := registry.New(registry.Config{Redis: rdb, Catalogue: payloads.Builtin(), Keyset: keyset})
	if err != nil {
		log.Fatal(err)
	}
	out, err := egress.New(egress.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer out.Close()
	client, err := dispatcher.New(dispatcher.Config{Redis: rdb, Registry: callbacks, Egress: out})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Close() }()

	api, err := httpapi.New(httpapi.Config{
		Client: client, Registry: callbacks, Keys: registry.NewKeys(rdb), Redis: rdb, Version: "1.2.3",
	})
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Addr: "127.0.0.1:8080", Handler: httpapi.Linger(api, nil), ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}

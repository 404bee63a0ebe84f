package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/ringback/ringback/dispatcher/client"
)

// Hand over an event, and ask what became of it.
func Example() {
	ctx := context.Background()
	server, key, stop := exampleServer()
	defer stop()
	ringback, err := client.New(client.Config{Server: server, Key: key})
	if err != nil {
		log.Fatal(err)
	}
	callback, err := ringback.CreateCallback(ctx, "acme", client.Registration{
		CallbackType: "payment_proof",
		Destination:  client.Destination{URL: "http://127.0.0.1:9000/payments"},
		Timeout:      client.Duration(20 * time.Second),
	})
	if err != nil {
		log.Fatal(err)
	}
	receipt, err := ringback.Send(ctx, "acme", client.Event{
		Type: "payment_proof", ID: "proof-1", Payload: json.RawMessage(`{"requestId": "cba1e997", "status": "OK"}`),
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(receipt.EventID, "goes to callback", callback.CallbackID, "and is", receipt.Deliveries[0].State)

	became, err := ringback.Event(ctx, "acme", "proof-1", client.ExplainQuery{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(became.Callbacks[0].Decision, "by", became.Callbacks[0].CallbackType)
	// Output:
	// proof-1 goes to callback 1 and is pending
	// matched by payment_proof
}

// What the server refuses says which field is at fault.
func ExampleAPIError() {
	ctx := context.Background()
	server, key, stop := exampleServer()
	defer stop()
	ringback, err := client.New(client.Config{Server: server, Key: key})
	if err != nil {
		log.Fatal(err)
	}
	_, err = ringback.CreateCallback(ctx, "acme", client.Registration{CallbackType: "payment_proof", Destination: client.Destination{URL: "ftp://127.0.0.1/"}})
	if refused, ok := errors.AsType[*client.APIError](err); ok {
		fmt.Println(refused.Status, refused.Errors[0].Location)
	}
	// Output: 422 body.destination.url
}

// All deliveries that were given up, however many there are.
func ExampleClient_AllDeliveries() {
	ctx := context.Background()
	server, key, stop := exampleServer()
	defer stop()
	ringback, err := client.New(client.Config{Server: server, Key: key})
	if err != nil {
		log.Fatal(err)
	}
	dead := 0
	for delivery, err := range ringback.AllDeliveries(ctx, "acme", client.DeliveriesQuery{States: []string{client.Dead}}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(delivery.DeliveryID, delivery.Summary)
		dead++
	}
	fmt.Println(dead, "dead")
	// Output: 0 dead
}

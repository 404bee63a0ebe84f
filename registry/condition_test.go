package registry_test

import (
	"errors"
	"testing"
	"time"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// A condition is judged by the callback that is changed: if somebody changes that in between, it is judged anew, and what it refuses is not done.
func TestConditionsAreJudgedAgain(t *testing.T) {
	for name, change := range map[string]func(h *house, id int64, condition registry.Condition) error{
		"patch": func(h *house, id int64, condition registry.Condition) error {
			_, err := h.Patch(t.Context(), "acme", id, []byte(`{"description":"mine"}`), condition)
			return err
		},
		"delete": func(h *house, id int64, condition registry.Condition) error {
			return h.Delete(t.Context(), "acme", id, condition)
		},
		"rotate the secret": func(h *house, id int64, condition registry.Condition) error {
			_, err := h.RotateSecretTo(t.Context(), "acme", id, "", 0, condition)
			return err
		},
		"rotate the key": func(h *house, id int64, condition registry.Condition) error {
			_, err := h.RotateKey(t.Context(), "acme", id, time.Hour, time.Hour, condition)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			cb := h.create("acme", `{"callback_type":"payment_proof","destination":{"url":"https://partner.example/"},"signature":{"ed25519":true}}`)
			judged := 0
			var theirs *registry.Callback
			err := change(h, cb.ID, func(etag string) bool {
				if judged++; judged == 1 { // somebody is faster than the change
					var err error
					theirs, err = h.neighbour().Patch(t.Context(), "acme", cb.ID, []byte(`{"description":"theirs"}`))
					return err == nil
				}
				return etag == cb.ETag()
			})
			if !errors.Is(err, registry.ErrOvertaken) || judged != 2 {
				t.Errorf("judged %d times: %v", judged, err)
			}
			if now := h.get("acme", cb.ID); now.Description != "theirs" || now.ETag() != theirs.ETag() || len(now.Secrets) != 1 || len(now.Signature.Keys) != 1 {
				t.Errorf("changed all the same: %v", now)
			}
			if err := change(h, cb.ID, func(string) bool { return true }); err != nil {
				t.Errorf("a condition that holds: %v", err)
			}
		})
	}
}

// A condition of a callback type is judged by what is in Redis, which another process may have written, and again if somebody is faster.
func TestConditionsOfTypesAreJudgedAgain(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	put := func(h *house, description string, conditions ...registry.Condition) (*payloads.Type, error) {
		_, err := h.Types().Put(ctx, payloads.Type{Name: "order.placed", Description: description, Schema: []byte(`{ "type": "object" }`)}, conditions...)
		if err != nil {
			return nil, err
		}
		c, err := h.Types().Fresh(ctx)
		if err != nil {
			t.Fatal(err)
		}
		typ, _ := c.Lookup("order.placed")
		return typ, nil
	}
	other := h.neighbour()
	first, err := put(other, "first")
	if err != nil {
		t.Fatal(err)
	}
	is := func(tag string) registry.Condition {
		return func(etag string) bool { return etag == tag }
	}
	judged := 0
	_, err = put(h, "mine", func(etag string) bool {
		if judged++; judged == 1 {
			if _, err := put(other, "theirs"); err != nil {
				t.Error(err)
			}
			return true
		}
		return etag == registry.TypeETag(first)
	})
	if !errors.Is(err, registry.ErrOvertaken) || judged != 2 {
		t.Errorf("judged %d times: %v", judged, err)
	}
	c, err := h.Types().Fresh(ctx)
	if err != nil {
		t.Fatal(err)
	}
	theirs, _ := c.Lookup("order.placed")
	if theirs.Description != "theirs" {
		t.Errorf("it is %s", theirs.Description)
	}
	if _, err := h.Leave(ctx, "order.placed", is(registry.TypeETag(first))); !errors.Is(err, registry.ErrOvertaken) {
		t.Errorf("deleted as it was: %v", err)
	}
	if _, err := put(other, "mine", is(registry.TypeETag(theirs))); err != nil {
		t.Errorf("as another process shows it: %v", err)
	}
}

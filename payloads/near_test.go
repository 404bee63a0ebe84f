package payloads

import (
	"slices"
	"strings"
	"testing"
)

func TestNear(t *testing.T) {
	for _, tc := range []struct {
		name  string
		among string
		want  string
	}{
		{"payment_prof", "payment_proof customer.updated", "payment_proof"},
		{"PAYMENT_PROOF", "payment_proof customer.updated", "payment_proof"},
		{"payment", "payment_proof customer.updated", "payment_proof"},
		{"customer.update", "customer.deleted customer.updated customer.created_or_updated", "customer.updated customer.deleted customer.created_or_updated"},
		{"wallet.install", "wallet_item_remove wallet_item_install", "wallet_item_install"},
		{"wallet_removal", "wallet_item_remove wallet_item_install", ""},
		{"___", "wallet_item_remove wallet_item_install", ""},
		{"lsit", "list get delete", "list"},
		{"xy", "list get delete", ""},
		{"ge", "list get delete", "get"},
		{"x", "a b c", ""},
		{"", "a b c", ""},
		{"order.placed", "", ""},
		{strings.Repeat("a", 129), strings.Repeat("a", 128), ""},
		{"aaa", "aaa1 aaa2 aaa3 aaa4", "aaa1 aaa2 aaa3"},
	} {
		if got := Near(tc.name, strings.Fields(tc.among)); !slices.Equal(got, strings.Fields(tc.want)) {
			t.Errorf("%q among %s: %v, want %s", tc.name, tc.among, got, tc.want)
		}
	}
}

// TestNoSuchTypeIsOneLine: whatever the name is, the sentence holds names of the catalogue only, and says what to do.
func TestNoSuchTypeIsOneLine(t *testing.T) {
	for name, near := range map[string]string{
		"customer.update":         "; near: customer.updated, customer.deleted",
		"order.placed":            "; none is near, and GET /callback-types lists all",
		"<b>\n":                   "; none is near, ",
		strings.Repeat("x", 1000): "; none is near, ",
	} {
		got := Builtin().NoSuchType(name)
		if !strings.HasPrefix(got, "names no such type"+near) || !strings.HasSuffix(got, "; an operator adds one with `ringback types put`") || len(got) > 200 {
			t.Errorf("%q: %s", name, got)
		}
	}
}

package registry

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

// TestSealedURLs open for their callback alone, and only with their keyset. However many there are, a bounded number is remembered.
func TestSealedURLs(t *testing.T) {
	t.Parallel()
	keyset, err := NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	r := &Registry{keyset: keyset}
	const url = "https://partner.example/T000/secret"
	sealed, err := r.SealURL("acme", 1, url)
	if err != nil || bytes.Contains(sealed, []byte("secret")) {
		t.Fatalf("%q, %v", sealed, err)
	}
	if got, err := r.OpenURL("acme", 1, sealed); err != nil || got != url {
		t.Errorf("%q, %v", got, err)
	}
	if again, err := r.SealURL("acme", 1, url); err != nil || !bytes.Equal(again, sealed) {
		t.Errorf("sealed anew, %v", err)
	}
	other, err := NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func() (string, error){
		"another company":  func() (string, error) { return r.OpenURL("other", 1, sealed) },
		"another callback": func() (string, error) { return r.OpenURL("acme", 11, sealed) },
		"another keyset":   func() (string, error) { return (&Registry{keyset: other}).OpenURL("acme", 1, sealed) },
		"nothing":          func() (string, error) { return r.OpenURL("acme", 1, nil) },
	} {
		if got, err := open(); !errors.Is(err, ErrSealed) || got != "" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for n := range mostSealedURLs {
		if _, err := r.SealURL("acme", 2, fmt.Sprint("https://partner.example/", n)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.urls.made); n > mostSealedURLs {
		t.Errorf("%d are remembered", n)
	}
}

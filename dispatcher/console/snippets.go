package console

import (
	"embed"
	"strings"
)

//go:embed snippets
var snippetFiles embed.FS

// A snippet verifies deliveries in a language, with its standard library alone: a whole receiver, which answers 204 to what verifies and 401 to the rest.
// The place of the signing secret holds whsec_…, once.
type snippet struct {
	Language string // as people write it
	Name     string // the file to keep it in
	Text     string
}

// snippets are in the order of the page that partners read: deploy/PARTNERS.md has the same texts.
func snippets() []snippet {
	all := []snippet{
		{"Go", "verify.go", ""},
		{"Node", "verify.mjs", ""},
		{"Python", "verify.py", ""},
		{"PHP", "verify.php", ""},
		{"Ruby", "verify.ru", ""},
		{"Java", "Verify.java", ""},
	}
	for i, s := range all {
		name := s.Name
		if strings.HasSuffix(name, ".go") {
			name += ".txt" // a .go would be a package of this module
		}
		text, err := snippetFiles.ReadFile("snippets/" + name)
		if err != nil {
			panic(err) // a file of this program
		}
		all[i].Text = string(text)
	}
	return all
}

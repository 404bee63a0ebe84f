package console

import (
	"iter"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// parse reads a page.
func (a answer) parse(t *testing.T) *html.Node {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(a.text))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// elements are those of a page with a name, in order; "" is any. What is in a template is none: nobody sees it.
func elements(doc *html.Node, name string) iter.Seq[*html.Node] {
	return func(yield func(*html.Node) bool) { walk(doc, name, yield) }
}

func walk(n *html.Node, name string, yield func(*html.Node) bool) bool {
	for child := range n.ChildNodes() {
		if child.Type == html.ElementNode && (child.Data == "template" || (name == "" || child.Data == name) && !yield(child)) {
			if child.Data == "template" {
				continue
			}
			return false
		}
		if !walk(child, name, yield) {
			return false
		}
	}
	return true
}

// has is an attribute, and whether it is there.
func has(n *html.Node, name string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}

func attribute(n *html.Node, name string) string {
	value, _ := has(n, name)
	return value
}

// words are the text in an element.
func textOf(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// fieldText is what a field for several lines holds.
func fieldText(n *html.Node) string {
	if n.FirstChild == nil {
		return ""
	}
	return n.FirstChild.Data
}

// wantSafe checks what holds for every answer.
func (a answer) wantSafe(t *testing.T) {
	t.Helper()
	policy := a.header.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
		if !strings.Contains(policy, part) {
			t.Errorf("status %d: the policy has no %s: %s", a.status, part, policy)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Errorf("the policy is unsafe: %s", policy)
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY"} {
		if a.header.Get(name) != want {
			t.Errorf("status %d: %s is %q", a.status, name, a.header.Get(name))
		}
	}
	if a.header.Get("Cache-Control") == "" {
		t.Errorf("status %d: no Cache-Control", a.status)
	}
}

// wantSound checks that a page is one that everybody can use: each thing has one id, each field a label, headings skip no level, tables have a caption, and
// nothing runs or is styled from within the page.
func (a answer) wantSound(t *testing.T) {
	t.Helper()
	if !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") || !strings.HasPrefix(a.text, "<!doctype html>") {
		t.Fatalf("no page: %d %s", a.status, a.text)
	}
	doc := a.parse(t)
	ids, labelled := map[string]bool{}, map[string]bool{}
	for n := range elements(doc, "") {
		if id := attribute(n, "id"); id != "" {
			if ids[id] {
				t.Errorf("two elements have the id %s", id)
			}
			ids[id] = true
		}
		for _, at := range n.Attr {
			if strings.HasPrefix(at.Key, "on") || at.Key == "style" || strings.HasPrefix(strings.ToLower(at.Val), "javascript:") {
				t.Errorf("%s has %s=%q", n.Data, at.Key, at.Val)
			}
		}
		if n.Data == "style" || n.Data == "script" && (attribute(n, "src") == "" || n.FirstChild != nil) {
			t.Errorf("%s within the page", n.Data)
		}
	}
	for n := range elements(doc, "label") {
		labelled[attribute(n, "for")] = true
	}
	level, firsts := 0, 0
	for n := range elements(doc, "") {
		for _, refers := range []string{"for", "aria-labelledby", "aria-describedby"} {
			for id := range strings.FieldsSeq(attribute(n, refers)) {
				if !ids[id] {
					t.Errorf("%s of %s names %q, which is not there", refers, n.Data, id)
				}
			}
		}
		switch n.Data {
		case "h1", "h2", "h3", "h4":
			at := int(n.Data[1] - '0')
			if at > level+1 {
				t.Errorf("a heading skips a level: %s", textOf(n))
			}
			if level = at; at == 1 {
				firsts++
			}
		case "input", "select", "textarea":
			if attribute(n, "type") != "hidden" && !labelled[attribute(n, "id")] {
				t.Errorf("the field %s has no label", attribute(n, "name"))
			}
		case "a", "button", "caption", "th", "legend":
			if textOf(n) == "" {
				t.Errorf("a %s without words", n.Data)
			}
		case "table":
			if n.FirstChild.NextSibling == nil || n.FirstChild.NextSibling.Data != "caption" {
				t.Error("a table without a caption")
			}
		}
	}
	if firsts != 1 || attributeOfRoot(doc) != "en" {
		t.Errorf("%d headings of level 1, and the language is %q", firsts, attributeOfRoot(doc))
	}
}

func attributeOfRoot(doc *html.Node) string {
	for n := range elements(doc, "html") {
		return attribute(n, "lang")
	}
	return ""
}

package payloads

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// maxForm bounds a form, in bytes: every value repeats the way to it, so that
	// a deep payload of 1 MiB could fill gigabytes. Four times what the API takes
	// leaves room for the encoding of any text.
	maxForm = 4 << 20

	// maxFormDepth is how deep objects and arrays nest, as encoding/json has it.
	maxFormDepth = 10_000
)

// tree is a JSON value with its members in order and its scalars as text.
type tree struct {
	kind    treeKind
	text    string   // of a leaf
	members []member // of an object; of an array, the items without a name
	places  map[string]int
}

type member struct {
	name  string
	value tree
}

type treeKind byte

const (
	leaf treeKind = iota
	object
	array
)

// fewMembers is how many members are found as quickly without places.
const fewMembers = 8

// find returns where the member of that name is, -1 if there is none.
func (t *tree) find(name string) int {
	if len(t.members) <= fewMembers {
		return slices.IndexFunc(t.members, func(m member) bool { return m.name == name })
	}
	if t.places == nil {
		t.places = make(map[string]int, 2*len(t.members))
		for i, m := range t.members {
			t.places[m.name] = i
		}
	}
	if i, ok := t.places[name]; ok {
		return i
	}
	return -1
}

func (t *tree) add(name string, value tree) {
	if t.places != nil {
		t.places[name] = len(t.members)
	}
	t.members = append(t.members, member{name, value})
}

// halfPair finds a name or a text that no form can hold, and the path to it.
func (t *tree) halfPair() (path string, found bool) {
	for i, m := range t.members {
		at := step(m.name)
		if t.kind == array {
			at = fmt.Sprintf("[%d]", i)
		}
		if strings.Contains(m.name, halfPair) || strings.Contains(m.value.text, halfPair) {
			return at, true
		}
		if inner, found := m.value.halfPair(); found {
			return at + inner, true
		}
	}
	return "", false
}

func encodeForm(payload json.RawMessage) ([]byte, error) {
	if _, fault := readJSON(payload, "body.payload"); fault != nil {
		return nil, fault
	}
	dec := json.NewDecoder(bytes.NewReader(marked(payload))) // once more: a map forgets the order
	dec.UseNumber()
	root, err := readTree(dec)
	if err != nil {
		return nil, invalid("body.payload", "is not valid JSON")
	}
	if root.kind != object {
		return nil, invalid("body.payload", "must be an object to be sent as a form: its members become the fields")
	}
	if place, found := root.halfPair(); found {
		return nil, invalid("body.payload"+place, SaysHalfPair)
	}
	w := formWriter{}
	if !w.fields(&root) {
		return nil, invalid("body.payload", fmt.Sprintf(
			"is more than %d MiB as a form, in which every value repeats the way to it: register the callback for %s, or send less", maxForm>>20, ContentTypeJSON))
	}
	return w.form, nil
}

// readTree reads the next value of dec, which is known to be valid and no deeper
// than encoding/json allows.
func readTree(dec *json.Decoder) (tree, error) {
	token, err := dec.Token()
	if err != nil {
		return tree{}, err
	}
	switch token := token.(type) {
	case json.Delim:
		t := tree{kind: array}
		if token == '{' {
			t.kind = object
		}
		for dec.More() {
			if err := t.readMember(dec); err != nil {
				return tree{}, err
			}
		}
		_, err = dec.Token()
		return t, err
	case string:
		return tree{text: token}, nil
	case nil:
		return tree{}, nil
	default:
		return tree{text: fmt.Sprint(token)}, nil
	}
}

func (t *tree) readMember(dec *json.Decoder) error {
	if t.kind == array {
		value, err := readTree(dec)
		t.members = append(t.members, member{value: value})
		return err
	}
	token, err := dec.Token()
	if err != nil {
		return err
	}
	value, err := readTree(dec)
	name, _ := token.(string) // a Decoder lets nothing else stand there
	if i := t.find(name); i >= 0 {
		t.members[i].value = value
	} else {
		t.add(name, value)
	}
	return err
}

// formWriter writes a tree as a form.
type formWriter struct {
	form []byte
	way  []byte // to the value that is written, encoded
}

// fields writes all that is in t; false when the form becomes too long.
func (w *formWriter) fields(t *tree) bool {
	for i := range t.members {
		m, length := &t.members[i], len(w.way)
		w.step(t.kind, m.name, i)
		var fits bool
		switch {
		case len(m.value.members) > 0:
			fits = w.fields(&m.value)
		case m.value.kind == object:
			fits = w.field("{}")
		case m.value.kind == array:
			fits = w.field("[]")
		default:
			fits = w.field(m.value.text)
		}
		if !fits {
			return false
		}
		w.way = w.way[:length]
	}
	return true
}

func (w *formWriter) field(text string) bool {
	text = url.QueryEscape(text)
	if len(w.form)+len("&")+len(w.way)+len("=")+len(text) > maxForm {
		return false
	}
	if len(w.form) > 0 {
		w.form = append(w.form, '&')
	}
	w.form = append(w.form, w.way...)
	w.form = append(w.form, '=')
	w.form = append(w.form, text...)
	return true
}

// step lengthens the way by a member of an object or an item of an array.
func (w *formWriter) step(parent treeKind, name string, i int) {
	const open, closed = "%5B", "%5D" // [ and ] in a form
	switch {
	case parent == array:
		w.way = append(strconv.AppendInt(append(w.way, open...), int64(i), 10), closed...)
	case len(w.way) == 0:
		w.way = append(w.way, url.QueryEscape(formName(name))...)
	default:
		if isDigits(name) {
			name = "%3" + name // the code of the digit d is 3d
		} else {
			name = formName(name)
		}
		w.way = append(append(append(w.way, open...), url.QueryEscape(name)...), closed...)
	}
}

var formNames = strings.NewReplacer("%", "%25", "[", "%5B", "]", "%5D")

func formName(name string) string {
	if name == "" {
		return "%"
	}
	return formNames.Replace(name)
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// DecodeForm reads a form that [Encode] wrote back into the JSON it was made of,
// members in order and every value as a string: what was null is "", what was an
// empty array "[]", an empty object "{}". It is for receivers in Go that
// registered for [ContentTypeForm]; verify the signature first, over the body as
// it came.
//
// What Encode gives to no payload is an error: a field that stands twice, one that
// is a value here and holds others there (a=1&a[b]=2), items out of their sequence
// (a[7] before a[6], a[]), brackets without a partner, text that is not UTF-8, and
// a form of more than 4 MiB. An error says which field it is, counting from 1, and
// repeats nothing of it.
func DecodeForm(body []byte) (json.RawMessage, error) {
	if len(body) > maxForm {
		return nil, fmt.Errorf("the form has more than %d MiB: no payload is sent as such a form", maxForm>>20)
	}
	root := tree{kind: object}
	place := 0
	for field := range strings.SplitSeq(string(body), "&") {
		place++
		if field == "" && len(body) == 0 {
			break
		}
		if err := root.readField(field); err != nil {
			return nil, fmt.Errorf("field %d of the form %w", place, err)
		}
	}
	w := newTreeWriter()
	if err := w.write(&root); err != nil {
		return nil, fmt.Errorf("write the form as JSON: %w", err)
	}
	return w.out.Bytes(), nil
}

// readField puts one field, still encoded, into its place below t.
func (t *tree) readField(field string) error {
	name, text, found := strings.Cut(field, "=")
	if !found {
		return errors.New("has no = after its name")
	}
	name, badName := url.QueryUnescape(name)
	text, badText := url.QueryUnescape(text)
	if badName != nil || badText != nil {
		return errors.New("has a % without two hex digits after it")
	}
	if !utf8.ValidString(name) || !utf8.ValidString(text) {
		return errors.New("is not UTF-8 text")
	}
	outermost, inner, nested := strings.Cut(name, "[")
	at, fresh, err := t.enter(outermost, false)
	for depth := 1; err == nil && nested; depth++ {
		var step string
		if step, inner, found = strings.Cut(inner, "]"); !found {
			return errors.New("has a [ without its ] in its name")
		}
		if inner != "" && inner[0] != '[' || strings.Contains(step, "[") {
			return errors.New("has a name with more than brackets after its brackets")
		}
		if depth == maxFormDepth {
			return fmt.Errorf("lies more than %d levels deep", maxFormDepth)
		}
		if fresh { // this step says what its parent is
			at.kind = object
			if isDigits(step) {
				at.kind = array
			}
		}
		at, fresh, err = at.enter(step, true)
		nested = inner != ""
		inner = strings.TrimPrefix(inner, "[")
	}
	if err != nil {
		return err
	}
	if !fresh {
		return errors.New("gives a value to what has one, or holds others, already")
	}
	at.text = text
	return nil
}

// enter returns the member of t that a step of a field's name leads to. It is
// fresh if it was not there before.
func (t *tree) enter(step string, inner bool) (at *tree, fresh bool, err error) {
	switch {
	case t.kind == leaf:
		return nil, false, errors.New("lies within what is a value already")
	case t.kind == array && !isDigits(step):
		return nil, false, errors.New("names a member of what is an array already")
	case t.kind == array:
		return t.item(step)
	case inner && isDigits(step):
		return nil, false, errors.New("numbers an item of what is an object already")
	}
	name, ok := memberName(step)
	if !ok {
		return nil, false, errors.New("has a name that no payload gives: an empty one, or one with a % or ] that is not percent-encoded")
	}
	i := t.find(name)
	if fresh = i < 0; fresh {
		i = len(t.members)
		t.add(name, tree{})
	}
	return &t.members[i].value, fresh, nil
}

func (t *tree) item(number string) (at *tree, fresh bool, err error) {
	i, err := strconv.Atoi(number)
	if err != nil || i > len(t.members) || len(number) > 1 && number[0] == '0' {
		return nil, false, errors.New("is an item out of sequence: they are numbered 0, 1, 2 and so on")
	}
	if fresh = i == len(t.members); fresh {
		t.members = append(t.members, member{})
	}
	return &t.members[i].value, fresh, nil
}

// memberName is the name that step stands for.
func memberName(step string) (name string, ok bool) {
	if step == "%" {
		return "", true
	}
	name, err := url.PathUnescape(step)
	return name, err == nil && step != "" && !strings.Contains(step, "]") && utf8.ValidString(name)
}

// treeWriter writes a tree as JSON, its leaves as strings.
type treeWriter struct {
	out  *bytes.Buffer
	text *json.Encoder // onto out
}

func newTreeWriter() treeWriter {
	out := new(bytes.Buffer)
	text := json.NewEncoder(out)
	text.SetEscapeHTML(false)
	return treeWriter{out, text}
}

func (w treeWriter) write(t *tree) error {
	if t.kind == leaf {
		return w.string(t.text)
	}
	open, closed := byte('{'), byte('}')
	if t.kind == array {
		open, closed = '[', ']'
	}
	w.out.WriteByte(open)
	for i := range t.members {
		if i > 0 {
			w.out.WriteByte(',')
		}
		if t.kind == object {
			if err := w.string(t.members[i].name); err != nil {
				return err
			}
			w.out.WriteByte(':')
		}
		if err := w.write(&t.members[i].value); err != nil {
			return err
		}
	}
	w.out.WriteByte(closed)
	return nil
}

func (w treeWriter) string(s string) error {
	err := w.text.Encode(s)
	w.out.Truncate(max(0, w.out.Len()-1)) // the line break that Encode adds
	return err
}

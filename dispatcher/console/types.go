package console

import (
	"github.com/ringback/ringback/dispatcher/client"
)

// A typeRow is a callback type in a list.
type typeRow struct {
	*client.Type
	Href string
}

// typesPage lists the callback types.
func typesPage(v *visit) error {
	var list client.TypeList
	if err := v.get(&list, nil, "callback-types"); err != nil {
		return err
	}
	var rows []typeRow
	for _, t := range list.CallbackTypes {
		rows = append(rows, typeRow{t, v.path("types", t.Name)})
	}
	return v.show(sheet{template: "types", title: "Callback types", main: rows})
}

// typePage shows a callback type with its schema and an example.
func typePage(v *visit) error {
	var t client.Type
	if err := v.get(&t, nil, "callback-types", v.r.PathValue("name")); err != nil {
		return err
	}
	return v.show(sheet{template: "type", title: t.Name, kicker: "Callback type", crumbs: []link{{v.path("types"), "callback types"}}, main: struct {
		*client.Type
		Example, Schema string
	}{&t, indented(t.Example), indented(t.Schema)}})
}

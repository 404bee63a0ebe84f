package console

// homePage is where a visit begins. A caller of one company begins at that company.
func homePage(v *visit) error {
	if !v.everywhere() {
		return v.redirect("companies", v.key.Company)
	}
	return v.show(sheet{template: "home", title: "Which company?", main: v.path("find")})
}

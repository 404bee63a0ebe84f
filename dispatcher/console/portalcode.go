package console

// verificationPage shows code that verifies signatures.
func verificationPage(v *visit) error {
	return v.show(sheet{template: "verification", title: "Verify signatures", main: snippets()})
}

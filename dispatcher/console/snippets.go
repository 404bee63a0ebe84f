package console

// A snippet is code that verifies signatures, with whsec_… where the secret's place is.
type snippet struct{ Language, Name, Text string }

func snippets() []snippet {
	return []snippet{{"Go", "go", "wh, err := standardwebhooks.NewWebhook(\"whsec_…\")\n"}}
}

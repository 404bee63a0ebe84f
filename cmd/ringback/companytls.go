package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

func companyTLSCommand() *cli.Command {
	return &cli.Command{
		Name: "tls", Usage: "show a company's client certificate, exchange it, and take it away", ArgsUsage: "COMPANY",
		Description: examples("ringback companies tls acme", "ringback companies tls acme --tls client_certificate=@cert.pem,client_key=@key.pem",
			"ringback companies tls acme --tls none") +
			"\n\nIt is shown to endpoints that ask for one, for all callbacks that have none of their own. Attempts that begin once this\n" +
			"has returned use what it says, retries included. It takes an operator's key, or the company's partner's.",
		Flags: []cli.Flag{
			settingFlag("tls", "the certificate and its key: client_certificate=@`FILE`,client_key=@FILE, or none"),
		},
		Action: companyTLS,
	}
}

func companyTLS(c *cli.Context) error {
	args, err := arguments(c, "COMPANY")
	if err != nil {
		return err
	}
	company := args[0]
	value, given, err := tlsFlag(c)
	if err != nil {
		return err
	}
	api, err := newAPI(c)
	if err != nil {
		return err
	}
	out := newPrinter(c)
	if given && value == nil {
		if err := api.DeleteCompanyTLS(c.Context, company); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(c.App.ErrWriter, "the client certificate of company %s is gone\n", printable(company))
		return nil
	}
	var t *client.CompanyTLS
	if given {
		t, err = api.SetCompanyTLS(c.Context, company, ownTLS(value))
	} else {
		t, err = api.CompanyTLS(c.Context, company)
	}
	if err != nil {
		return err
	}
	if out.json {
		return out.raw(t.Raw)
	}
	return out.pairs(
		[2]string{"company", t.Company},
		[2]string{"certificate", t.Subject},
		[2]string{"issuer", t.Issuer},
		[2]string{"", t.Expiry(time.Now())},
		[2]string{"fingerprint", t.Fingerprint},
	)
}

// ownTLS is what --tls has, for a company.
func ownTLS(value any) client.TLS {
	members, _ := value.(map[string]any)
	text := func(name string) string { s, _ := members[name].(string); return s }
	return client.TLS{ClientCertificate: text("client_certificate"), ClientKey: text("client_key"), CA: text("ca"), ServerName: text("server_name")}
}

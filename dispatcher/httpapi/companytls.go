package httpapi

import (
	"context"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/registry"
)

const companyTLSRoute = companyRoute + "/tls"

type (
	newCompanyTLSIn struct {
		Company string `path:"company"`
		RawBody []byte `contentType:"application/json"`
	}
	companyTLSOut struct{ Body companyTLS }

	companyTLS struct {
		Company           string    `json:"company"`
		ClientCertificate string    `json:"client_certificate" doc:"PEM: the client certificate, and then those between it and its authority."`
		ClientKey         string    `json:"client_key" doc:"Always ***."`
		Subject           string    `json:"subject"`
		Issuer            string    `json:"issuer"`
		NotAfter          time.Time `json:"not_after" doc:"When the certificate expires. That is told of 30, 7 and 1 days before."`
		Fingerprint       string    `json:"fingerprint" doc:"SHA-256 of the certificate, in hex."`
	}
	companyTLSRequestDoc struct {
		_                 struct{}  `additionalProperties:"false"`
		Company           string    `json:"company,omitempty" readOnly:"true"`
		ClientCertificate string    `json:"client_certificate" maxLength:"32768" doc:"PEM: the client certificate, and then those between it and its authority, 10 at most. It must not have expired, and be for clients."`
		ClientKey         secretDoc `json:"client_key"`
		Subject           string    `json:"subject,omitempty" readOnly:"true"`
		Issuer            string    `json:"issuer,omitempty" readOnly:"true"`
		NotAfter          time.Time `json:"not_after,omitzero" readOnly:"true"`
		Fingerprint       string    `json:"fingerprint,omitempty" readOnly:"true"`
	}
)

func (s *server) companyTLS() {
	chapter := []string{"Callbacks"}
	register(s, operation{need: readCallbacks, Operation: huma.Operation{
		OperationID: "get-company-tls", Method: http.MethodGet, Path: companyTLSRoute, Tags: chapter, Summary: "Show the company's client certificate",
		Description: "For its callbacks that have none of their own. 404 if there is none.",
	}}, func(ctx context.Context, in *companyIn) (*companyTLSOut, error) {
		return shownCompanyTLS(in.Company)(s.Registry.CompanyTLS(ctx, in.Company))
	})
	register(s, operation{need: manageCallbacks, body: &body{schema: reflect.TypeFor[companyTLSRequestDoc]()}, Operation: huma.Operation{
		OperationID: "set-company-tls", Method: http.MethodPut, Path: companyTLSRoute, Tags: chapter, Summary: "Give the company a client certificate",
		Description: "It is shown to endpoints that ask for one, for all callbacks of the company whose `tls` has no `client_certificate`; their `ca` and `server_name` hold beside it. " +
			"Every attempt that begins after the answer uses it, retries included. The key is sealed, and never shown; `***` leaves it as it is.",
		Errors: []int{http.StatusConflict},
	}}, func(ctx context.Context, in *newCompanyTLSIn) (*companyTLSOut, error) {
		return shownCompanyTLS(in.Company)(s.Registry.SetCompanyTLS(ctx, in.Company, in.RawBody))
	})
	register(s, operation{need: manageCallbacks, Operation: huma.Operation{
		OperationID: "delete-company-tls", Method: http.MethodDelete, Path: companyTLSRoute, Tags: chapter, Summary: "Take the company's client certificate away",
		Description: "Callbacks without one of their own show none from the next attempt on.",
	}}, func(ctx context.Context, in *companyIn) (*noContent, error) {
		return nil, s.Registry.DeleteCompanyTLS(ctx, in.Company)
	})
}

func shownCompanyTLS(company string) func(t *registry.TLS, err error) (*companyTLSOut, error) {
	return func(t *registry.TLS, err error) (*companyTLSOut, error) {
		if err != nil {
			return nil, err
		}
		out := companyTLS{Company: company, ClientCertificate: t.ClientCertificate, ClientKey: registry.Masked}
		if c := t.Certificate(); c != nil {
			out.Subject, out.Issuer, out.NotAfter, out.Fingerprint = c.Subject, c.Issuer, c.NotAfter, c.Fingerprint
		}
		return &companyTLSOut{out}, nil
	}
}

package registry

import (
	"encoding/json"
	"fmt"
)

// tlsField is where the certificate stands: sealed in [companyTLSKey], and the anchor of its seal in [anchorsKey].
const tlsField = "tls"

// companyPlace is what its seal is bound to. Without an anchor, a process is alive that knows none.
func companyPlace(company, anchor string) string { return company + "/tls/" + anchor }

// sealCompanyTLS seals a company's certificate.
func (k *Keyset) sealCompanyTLS(company string, t *TLS, anchor string) ([]byte, error) {
	plain, err := json.Marshal(t) //nolint:gosec // to be sealed
	if err != nil {
		return nil, fmt.Errorf("registry: store the client certificate of company %s: %w", company, err)
	}
	return k.seal(plain, companyPlace(company, anchor))
}

// openCompanyTLS opens a company's certificate; nil: it has none.
func (k *Keyset) openCompanyTLS(company, sealed, anchor string) (*TLS, error) {
	if sealed == "" {
		return nil, nil //nolint:nilnil // documented
	}
	plain, err := k.open([]byte(sealed), companyPlace(company, anchor))
	if err != nil {
		return nil, fmt.Errorf("client certificate of company %s: %w, or is not what Ringback wrote there last: give this process the keyset that sealed it, "+
			"or restore Redis from a backup, or put the certificate anew (PUT /companies/%s/tls)", company, err, company)
	}
	t := &TLS{}
	if err := json.Unmarshal(plain, t); err != nil { // not wrapped: it may quote
		return nil, fmt.Errorf("registry: the client certificate of company %s is stored in a shape this version cannot read", company)
	}
	return t, nil
}

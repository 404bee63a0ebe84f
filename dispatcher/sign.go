package dispatcher

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// sign has the header of a callback's request, which is complete but for that, say under which id it is sent, when, and by whom. What a message signature is
// of has to stand in the header.
func sign(cb *registry.Callback, h http.Header, m payloads.Message) error {
	secrets, standard, messages := cb.Signers(m.At)
	if len(secrets) > 0 || len(standard)+len(messages) == 0 {
		if err := cb.HeaderStyle.Sign(h, m, secrets...); err != nil {
			return err
		}
	} else {
		h.Set(payloads.HeaderID, m.ID)
		h.Set(payloads.HeaderTimestamp, strconv.FormatInt(m.At.Unix(), 10))
	}
	if len(standard) > 0 {
		signature, err := payloads.SignEd25519(m.ID, m.At, m.Body, standard...)
		if err != nil {
			return err
		}
		h.Set(payloads.HeaderSignature, strings.TrimSpace(h.Get(payloads.HeaderSignature)+" "+signature))
	}
	if len(messages) == 0 {
		return nil
	}
	url, err := egress.WireURL(cb.Destination.URL)
	if err != nil {
		return fmt.Errorf("sign: the URL %w", err)
	}
	return payloads.HTTPMessage{Method: cb.Destination.Method, URL: url, Header: h, Body: m.Body}.Sign(m.At, messages...)
}

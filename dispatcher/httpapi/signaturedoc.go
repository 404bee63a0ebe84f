package httpapi

import "time"

// signatureDoc describes by what a callback's requests are signed.
type signatureDoc struct {
	HMAC    *bool           `json:"hmac,omitempty" default:"true" doc:"Sign with the callback's secrets: v1 of Standard Webhooks. If false, it still goes on until a key signs, so that no request is without a signature: for the first six minutes, where the company publishes keys already or the callback was signed by HMAC before. An endpoint that verifies by keys alone refuses such a request, and gets it again by the callback's retry; or pause the callback until signature.keys says signing."`
	Ed25519 *bool           `json:"ed25519,omitempty" default:"false" doc:"Sign with the callback's keys: v1a of Standard Webhooks, in the same header. Whoever has the public key can verify, and cannot sign."`
	RFC9421 *bool           `json:"rfc9421,omitempty" default:"false" doc:"Sign with the callback's keys by RFC 9421 (HTTP Message Signatures): the headers Signature-Input and Signature are of the method, the URL, Content-Type, Webhook-Id, Content-Digest (RFC 9530) and the ce- headers of a CloudEvent."`
	Keys    []signingKeyDoc `json:"keys,omitempty" nullable:"false" readOnly:"true" doc:"The public keys, the newest first. Ringback makes them; in a patch they are passed over."`
}

// signingKeyDoc describes a public key of a callback.
type signingKeyDoc struct {
	KID            string    `json:"kid" doc:"Its name in the company's set of keys, and in RFC 9421's keyid: its thumbprint by RFC 7638." example:"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"`
	PublicKey      string    `json:"public_key" doc:"As Standard Webhooks writes it." example:"whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="`
	Stage          string    `json:"stage" enum:"announced,signing,retired" doc:"announced: published, and does not sign yet; signing: signs; retired: no longer signs, and is published for ten minutes more."`
	AnnouncedAt    time.Time `json:"announced_at"`
	SignsFrom      time.Time `json:"signs_from" doc:"The first key of a company signs at once. Any other is announced for six minutes at least."`
	SignsUntil     time.Time `json:"signs_until,omitzero" doc:"Absent if it stays."`
	PublishedUntil time.Time `json:"published_until,omitzero" doc:"Absent if it stays."`
}

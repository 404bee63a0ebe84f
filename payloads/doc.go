// Package payloads is what goes on the wire: the events internal systems hand
// over, the catalogue of callback types they belong to, the bodies partners
// receive, and the signatures that prove where those came from.
//
// The package is pure. It opens nothing, waits for nothing and has no clock of
// its own: whatever depends on the time takes it as an argument. All of it may be
// used by many goroutines at once.
//
// # Events and callback types
//
// An [Event] says: this happened, for this company, and here is the JSON to tell
// partners. Its payload goes out byte for byte, but for the time of sending in the
// types whose contract asks for one ([Type.Stamped]).
//
// A callback type says what such a payload looks like: a [Type] has a JSON
// Schema, an example, and the attributes callbacks may narrow their match by.
// [Builtin] is the [Catalogue] of the types Ringback ships with:
//
//	wallet_item_install   a wallet pass was installed   match by campaign_token
//	wallet_item_remove    a wallet pass was removed     match by campaign_token
//
//	payment_proof         a payment proof is available
//
//	customer.updated                          a loyalty customer's data was changed
//	customer.deleted                          … was removed
//	customer.registered                       … joined
//	customer.deactivated                      … was deactivated
//	customer.level_changed_automatically      … got another level by the rules
//	customer.level_changed                    … got another level otherwise
//	customer.bought_campaign                  … paid with points
//	transaction.registered                    a sale or its like was registered
//	transaction.assigned_to_customer          … was assigned to a customer
//	account.available_points_amount_changed   there are more or fewer points
//	account.expiring_points_notification      some points will expire soon
//	account.points_transfer                   points were moved
//
//	entry_code.validation_failed   a code did not open a door   stamped at /timeOfIssue
//	entry_code.verify              may this code enter?         asked, not sent
//	customer.created_or_updated    a customer's personal data   any answer will do
//
// [Type.Check] is the one reading of a payload on its way in. It validates, and
// it extracts the attributes; what it refuses it explains field by field, in an
// [InvalidError]:
//
//	body.payload.wallet_campaign.token is missing: wallet_item_install needs it
//
// Schemas are lenient where the contracts are: dates come in many precisions
// and pass untouched, unknown fields are welcome.
//
// # Adding a contract
//
// A contract is what one provider's document agrees on. Add one file for it to
// contracts/. Its types, by name, have the members of the API's
// PUT /callback-types/{name}, so a type can move between the two:
//
//	{
//	  "description": "whose contract is it, and what is it about?",
//	  "types": {
//	    "parking.started": {
//	      "description": "when does such an event happen?",
//	      "match":   {"garage": "/garage/id"},
//	      "success": "json_200_or_204",
//	      "schema":  {…},
//	      "example": {…}
//	    }
//	  }
//	}
//
// The tests read every file there: the schemas must stand on their own and the
// examples must fit them.
//
// # Bodies
//
// [Encode] makes the body a callback asked for: the payload itself, or a form for
// receivers that cannot read JSON, with names such as items[0][sku]. [DecodeForm]
// reads such a form back.
//
// # Signatures
//
// Requests are signed as Standard Webhooks lays down
// (https://github.com/standard-webhooks/standard-webhooks): HMAC-SHA256 over
// "id.timestamp.body", once per live secret, so that a secret can be rotated
// without a gap. [Sign] is the sender's half. [Verify] is the receiver's, for
// partners who write Go, and package receive is a whole endpoint for them; any
// Standard Webhooks library does as well. When a
// request will not verify, [Diagnose] looks for the usual culprit, a body that
// was parsed and written anew before it was verified.
//
// A [Secret] cannot be printed, logged or encoded by accident: only
// [Secret.Reveal] shows it.
package payloads

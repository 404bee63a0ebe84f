// Package ledger says in which data model Redis is written, and keeps programs out that do not know it.
package ledger

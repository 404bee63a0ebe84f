// Package ledger speaks to Redis about deliveries: it says in which data model Redis is written and keeps programs out that do not know it, and
// it brings to Redis together what many callers ask for at the same time.
//
// A [Committer] promises this. Each step is done once, unless its caller is told of an error: then it may be done or not, and whoever repeats it
// finds out. Each caller has the answer to its own step. Steps of a company that are asked for at the same time leave the same as if each had
// gone alone. No caller waits for another's slow flight longer than 20 ms.
package ledger

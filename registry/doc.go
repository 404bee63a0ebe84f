// Package registry keeps what companies have registered: their callbacks, with
// the secrets that belong to them, and the API keys of everyone who may call in.
//
// # What it promises
//
// A registration that has returned is in Redis, and its version is part of it:
// every change of a company's callbacks raises the company's version in the same
// script. [Registry.Match] answers from memory and says which version it looked
// at; whoever accepts an event compares that version with Redis in the script
// that accepts, and after a mismatch calls [Registry.Refresh] and matches again.
// So no process can accept an event on a registry older than a registration that
// has returned, and matching costs no round trip.
//
// A change that returned an error may have happened all the same, when Redis did
// the work and its answer was lost. Repeating it is safe for [Registry.Patch],
// [Registry.Pause] and [Registry.Resume]; after [Registry.Create] look at
// [Registry.List] first, and after [Registry.Delete] ErrNotFound means done.
// Retries below this package, as go-redis makes them, are recognised and change
// nothing twice.
//
// All that a callback holds, its URL included, is sealed in Redis with the
// [Keyset]; the company, the id and an anchor that each write makes anew and keeps in
// another hash are part of the seal, so that a row copied to another place, or an older
// one put back, does not open. API keys are stored as SHA-256 digests.
//
// # Versions side by side
//
// Two versions of the program run on one Redis while it is upgraded, and the
// older one would ignore, or misread, what it does not know. So processes
// announce themselves and the [Level] they know ([Announce]); those of 6da24ca,
// level 1, are seen by the name of their connections and in asynq's list of
// workers. Whoever adds something that an older process must not ignore, such as a
// field that holds deliveries back, does two things:
//
//   - A request that uses it calls [Registry.KnownEverywhere] with the level that
//     brought it, before anything is written: while an older process is alive the
//     request is refused, which the API answers with 409. A request that does not
//     use it never asks.
//   - What is stored says that it is new, where its readers can tell: a sealed
//     callback that uses the field gets a higher model (storedModel), which older
//     processes refuse to read. That holds also when one is started later.
//
// # Keys in Redis
//
// {c} is the company's name in braces, which keeps a company in one slot.
//
//	{c}:ver             version of the last change: above every earlier one, absent = 0
//	{c}:cb              hash: callback id -> sealed JSON
//	{c}:cbseal          hash: callback id -> anchor of its seal, fresh with each write; none where a process of level 1 wrote or was alive
//	{c}:cbver           sorted set: callback id by version of its last change; ids of deleted ones stay
//	{c}:cbseq           counter of callback ids
//	{c}:gate:<id>       why deliveries are held, as a [Gate]; absent = open
//	{c}:rate:<id>       how fast it may be called, as a [RateLimit]; absent = as fast as it goes (read by the dispatcher)
//	{c}:health:<id>     the dispatcher's; hn in it is the name of the host that the callback goes to
//	{c}:rooms           sorted set: callbacks to look after, by time in Unix milliseconds (read by the dispatcher)
//	{c}:quota           hash: quota -> what an operator set; absent = the default (the dispatcher's scripts read it, too)
//	{c}:audit           stream: a line for each change, kept for 90 days
//	ringback:companies  set of companies, written before a company's first key
//	ringback:keys       hash: SHA-256 of an API key -> [Key]; with "2:" before it where processes of level 1 must not take the key
//	ringback:keyrate:<id>   when all changes that an API key made are paid for, and when that was written, in Unix milliseconds; absent = now
//	ringback:keytests:<id>  sorted set: the tests that an API key has under way, by their end at the latest
//	ringback:keyset     hash: id of a sealing key in use -> a known text sealed with it
//	ringback:processes  sorted set: JSON of a [Process], by when it last said that it lives, in Unix milliseconds
//	{ringback:types}:quota  hash: quota of the installation -> what an operator set
//	ringback:audit, {ringback:keys}:audit, {ringback:types}:audit, {ringback:companies}:audit
//	                    streams as {c}:audit, of what no company has; each in the slot of what it tells of
//
// A line of the audit trail is written by the script that makes the change, and
// only if it changes something: so there is neither without the other, whenever a
// process is killed and however often a command is repeated. Sealing anew and
// retiring a sealing key write their line afterwards, once for all that they did.
// Keys that have long expired, and the keys of an erased company, go without a
// line of their own. Processes of a version before write none.
//
// Versions are Redis's clock in milliseconds, or the last version plus one where
// the clock has not moved on. A counter would repeat itself after a Redis that
// lost its last second, and a process that remembers the lost version would
// take its own memory for current. A Redis that went back in time is noticed by
// [Registry.Refresh], which then reads everything again.
package registry

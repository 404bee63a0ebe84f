// Package registry keeps the callbacks that companies have registered, with the
// secrets that belong to them, and the API keys of everyone who may call in.
//
// # What it promises
//
// A registration that has returned is in Redis, and its version is part of it:
// every change of a company's callbacks raises the company's version in the same
// script. [Registry.Match] answers from memory and says which version it looked
// at. The script that accepts an event compares that version with Redis. If the two
// differ, its caller calls [Registry.Refresh] and matches again. So no process can
// accept an event on a registry older than a registration that has returned, and
// matching costs no round trip.
//
// If Redis did the work and its answer was lost, a change returns an error and has
// happened all the same. Under a claim (package once) every repeat is safe. Else repeating it is safe for [Registry.Patch],
// [Registry.Pause] and [Registry.Resume]. Before you repeat [Registry.Create], look
// at [Registry.List]. If a repeated [Registry.Delete] returns ErrNotFound, it is
// done. Retries below this package, as go-redis makes them, are recognised and
// change nothing twice.
//
// All that a callback holds, its URL included, is sealed in Redis with the
// [Keyset]. The company and the id are part of the seal, so that a row copied to
// another place does not open. So is an anchor, which each write makes anew and
// keeps in another hash, so that an older row put back does not open. API keys are
// stored as SHA-256 digests.
//
// # Who comes in to pages
//
// An API key is shown once and never kept in a browser. Whoever shows one begins a session ([Sessions.Begin]): 32 random bytes in a cookie, of which Redis
// holds the digest. A session is of the secret that began it. Each use asks for that secret again, so it ends with the secret: when the key is
// revoked, rotated without an overlap, or expired. The time that it ends at stands in it, by the installation's clock. Redis's own expiry of what holds it
// lies a month ahead, so no step of a clock ends a session, or lets one live. An older process knows no sessions and takes none; a key that it revokes
// ends them all the same.
//
// # Versions side by side
//
// Two versions of the program run on one Redis while it is upgraded, and the
// older one would ignore, or misread, what it does not know. So processes
// announce themselves and the [Level] they know, with [Announce]. Those of 6da24ca,
// level 1, are seen by the name of their connections and in asynq's list of
// workers. If a release adds something that an older process must not ignore, such
// as a field that holds deliveries back, it does two things:
//
//   - A request that uses it calls [Registry.KnownEverywhere] with the level that
//     brought it, before anything is written. While an older process is alive, the
//     request is refused, and the API answers 409. A request that does not use it
//     never asks.
//   - The stored value says that it is new. A sealed callback that uses the field
//     gets a higher model (storedModel, traits), which older processes refuse to read, even
//     if they are started later. A company's client certificate stands in no callback: an
//     older process that is started later attempts without it, so it has to be taken away
//     before a way back.
//
// # Files
//
// The files stand in layers, and each uses names of lower ones only:
//
//   - rotatesigning.go gives a callback that signs by keys a new one.
//   - reseal.go, retire.go, erasure.go, setquotas.go and audit.go do one thing each to
//     what is there.
//   - change.go, pause.go, verify.go, list.go and match.go are what clients and the
//     dispatcher do with callbacks. They use save.go, get.go, keyspublished.go and memory.go, which
//     write one, read one and remember them.
//   - setcompanytls.go gives companies client certificates. expiring.go files certificates by their end. companytls.go reads those of companies.
//   - index.go lists the companies that may have work for the dispatcher's rounds, and runs scripts that give them some.
//   - registry.go is the [Registry], which holds no more than all of those share.
//   - visits.go finds the sessions of people, on sessions.go, which has those of API keys, and redeem.go, which has those of portal links.
//   - answers.go seals what is kept of requests with an Idempotency-Key.
//   - links.go makes portal links, lists and revokes them.
//   - leavetype.go deletes callback types, for the dispatcher, which knows what uses them. gonetype.go is what is left of one.
//   - openedlinks.go counts what comes of portal links that somebody wants to open.
//   - keyset.go, types.go, presence.go and apikeys.go are of use without a Registry,
//     with Redis or a file of their own.
//   - callback.go, signature.go, registration.go, patch.go, gate.go, quota.go, key.go, session.go, link.go, caller.go, auditline.go
//     and the files beside them are values, which ask Redis nothing.
//   - keynames.go, errors.go, invalid.go, json.go and times.go are below all others.
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
//	{c}:health:<id>     the dispatcher's; hn in it is the name of the host that the callback goes to, and by how its deliveries travel, absent if one by one
//	{c}:special         there once was a callback that does not take its deliveries one by one
//	{c}:ordered         set: ids of the callbacks with an ordering
//	{c}:rooms           sorted set: callbacks to look after, by time in Unix milliseconds (read by the dispatcher)
//	{c}:tls             hash: tls -> the company's client certificate, sealed as JSON; its anchor stands in {c}:cbseal as tls; xc -> the dispatcher's
//	{c}:links           hash: id of a portal link -> the link, as JSON; <id>/used -> when it was opened, the SHA-256 of its session's token, or - once
//	                    somebody logged out, and when the session ends (ms, the installation's time); 100 links at most
//	{c}:quota           hash: quota -> what an operator set; absent = the default (the dispatcher's scripts read it, too)
//	{c}:audit           stream: a line for each change, kept for 90 days
//	{c}:awake           the dispatcher's and index.go's: whether the company is in the index
//	ringback:working, {ringback:working}:epoch, {ringback:working}:asleep, {ringback:working}:sums, ringback:owed
//	                    the index of companies with work; package ledger's comment says what each holds
//	ringback:companies  set of companies, written before a company's first key
//	ringback:keys       hash: SHA-256 of an API key -> [Key]; with "2:" before it where processes of level 1 must not take the key
//	ringback:keyrate:<id>   when all changes that an API key made are paid for, and when that was written, in Unix milliseconds; absent = now
//	ringback:keytests:<id>  sorted set: the tests that an API key has under way, by their end at the latest (ms, the installation's time)
//	ringback:sessions:<id>  hash: SHA-256 of a session's token -> the session, as JSON: the digest of the API key's secret that began it, the place it is
//	                    good at, when it began and when it ends (ms, the installation's time); <id> is the API key's
//	ringback:keyset     hash: id of a sealing key in use -> a known text sealed with it
//	ringback:certificates  sorted set: <company>/<callback id>/<fingerprint> of each client certificate, by its end (ms); some are of no use any more
//	ringback:processes  sorted set: JSON of a [Process], by when it last said that it lives (ms, the installation's time; of versions before, Redis's)
//	ringback:types      hash: name of a callback type that operators added -> the type, as JSON; :version -> how often any was changed
//	{ringback:types}:gone   hash: name of a callback type that was deleted -> when, by whom, and how what was accepted of it is sent, as JSON; while the type
//	                    stands in ringback:types, too, it is being deleted
//	{ringback:types}:quota  hash: quota of the installation -> what an operator set
//	ringback:audit, {ringback:keys}:audit, {ringback:types}:audit, {ringback:companies}:audit, {ringback:replays}:audit
//	                    streams as {c}:audit, of what no company has; each in the slot of what it tells of
//
// A line of the audit trail is written by the script that makes the change, and
// only if it changes something. So there is neither without the other, whenever a
// process is killed and however often a command is repeated. Sealing anew and
// retiring a sealing key write their line afterwards, once for all that they did.
// Keys that have long expired, and the keys of an erased company, go without a
// line of their own. Processes of level 1 write none.
//
// A version is Redis's clock in milliseconds. If the clock has not moved on, it is
// the last version plus one. If Redis lost its last second, a counter would repeat
// itself, and a process that remembers the lost version would take its own memory
// for current. [Registry.Refresh] notices a Redis that went back in time, and then
// reads everything again.
package registry

// Package dispatcher is Ringback's engine: it accepts events, makes a delivery of each for every callback that matches, and attempts each
// delivery until the partner's answer meets the contract, the schedule ends, or somebody cancels it.
//
// [Client] accepts events and answers for them; [Worker] attempts. Both work on one Redis, in any number of processes. This package tells the story, and
// each part of it has a package of its own: what Redis holds is package ledger, which has the data model and a picture of a delivery's states; asynq
// is package lanes; the partner's side of the wire is package egress; what its answer means is package verdict; who wants what is package registry; what
// goes on the wire is package payloads.
//
// A delivery's record in Redis is the only truth about it. An asynq task is a hint that it may be time to act on one generation of it; a
// task whose generation is not the record's ends without an attempt. So tasks may be lost, doubled or delayed: only time is at stake.
//
// An event that matches more callbacks than a run should write deliveries for (100) is accepted with those of the first page, and expands: the process
// that accepted it writes page after page, the companies by turns. Whoever asks for a delivery of a later page has it written first. An event with many
// deliveries is erased in pages as well.
//
// # Files
//
// The files stand in layers, and each uses names of lower ones only:
//
//   - new.go and start.go make a Client and a Worker, and alone know all their parts.
//   - reconcile.go goes rounds: tour.go serves companies, repair.go repairs them, walk.go goes to those without work, and expiring.go tells of client certificates. run.go is the way of one task, and
//     follow.go that of what begins as it is accepted.
//   - overview.go looks over all companies, for who is on call; overviewdoc.go is what it shows, overviewsay.go the sentences in it, and overviewcertificates.go finds the certificates that expire. minutes.go counts what
//     happens by the minute, for it.
//     companies.go lists the companies, and everywhere.go what all of them have, merged.
//   - read.go, list.go, find.go, explain.go and decisions.go answer for deliveries, on view.go, and requests.go for what was sent. list.go's ways are listlog.go, listbook.go and listunfinished.go, on
//     pick.go. act.go, hasten.go, bulk.go on bulkparts.go and replay.go, erase.go, rooms.go, ask.go, trial.go and challenge.go
//     do what is asked for, pull.go has partners fetch, claims.go does once what is repeated, deletetype.go on typeuse.go deletes a callback type, watch.go tells those who watch (live.go), and halt.go and spread.go of the whole installation. send.go accepts.
//   - client.go is the Client, which holds no more than all of those share.
//   - attempt.go, sign.go, auth.go, oauth.go and settle.go are an attempt: its request, the answer, and what that means. kept.go and keep.go say what is kept of those, and
//     exchange.go what is shown.
//   - near.go, live.go on watches.go, expander.go, limiter.go, shares.go, brake.go, pumptimers.go, peers.go, rounds.go, shed.go, pollers.go, outage.go, survive.go and instruments.go know no
//     Client.
//
// # The crash story
//
// What a kill between two steps leaves, who repairs it, and when. Each worker's reconciler goes a round every 2 s, over the companies that are its own. Each
// row has its test.
//
//	kill between                        leaves                              repaired
//	registry's script / its answer      registered, caller unsure           the caller lists, or registers again
//	claim of a request with a key /     nothing but the claim               the caller's repeat, once the first can no longer be under way (10 s)
//	the script that acts
//	the same, with its note / the       done, and noted what was said       the same: it finds that, and what was made up for it, goes on from
//	answer kept                                                             there, and keeps the answer
//	answer kept / sent                  the caller has none                 the caller's repeat: the answer that was kept
//	a decision's record opened / what   nobody knows what was said          the same: unknown, and nobody is asked twice
//	came of it, under a key
//	accept script / enqueue             pending and due, no task, no 202    reconciler, 25 s; the caller's repeat at once
//	accept script that begins / POST    attempt begun, nothing sent         reconciler at timeout + 15 s: attempt "unknown", new generation
//	the same / its answer, which is     attempt begun, owner unsure         the owner asks, within 3 s; else the same
//	lost, or which replicas lack
//	accept script / a page, two pages   the event knows which are left      reconciler, 25 s; the caller's repeat at once
//	a page / its enqueue                pending and due, no task            reconciler, 25 s
//	unbegin / enqueue                   pending and due, no task            reconciler, 25 s
//	a run of several / its answers      each as after its own step          each as after its own step; begin knows its token again
//	a call of a run fails in Redis      what it had written so far; pending its caller repeats it; reconciler, 25 s
//	                                    only with its place in due
//	a task waits to come into a lane /  pending and due, no task            reconciler, 25 s
//	it does
//	a lane does not answer / it does    pending and due, no task            who brought it, as soon as the lane answers; reconciler, 25 s
//	lanes set / a process's look        tasks in lanes of before            workers take from both; two tasks of a delivery: one begins
//	a task brought to a lane above the  a task that nobody sees             reconciler, 25 s: brought anew; the old one ends in begin, if ever
//	number / it is given up
//	a lane above the number empty / it  looked into for nothing             reconciler of any worker, once empty for 3 minutes
//	is given up
//	enqueue / 202                       delivered, caller unsure            the caller's repeat is a duplicate: same answer
//	enqueue / the bell                  a task that nobody was told of      the workers look into idle lanes, 0.25 s
//	enqueue's reply lost                false conflict of task ids          a conflict is success
//	dequeue / begin                     asynq active, record pending        reconciler, 25 s: new generation
//	begin / POST                        attempt begun, nothing sent         reconciler at timeout + 15 s: attempt "unknown", new generation
//	POST / finish                       partner has it, record active       the same: the one duplicate permitted, same webhook-id
//	finish(final) / asynq's done        final record, live task             asynq brings it back; begin ends it, no POST
//	finish(retry) / asynq's retry       retrying, task active               asynq brings it back early, begin sends it back to its time;
//	                                                                        reconciler 25 s after its time
//	finish pops the room / enqueue,     pending and due, no task            reconciler, 25 s
//	or the popped one's begin
//	finish begins the next / its POST   attempt begun, nothing sent         reconciler at timeout + 15 s: attempt "unknown", new generation
//	the same / its answer, which is     attempt begun, owner unsure         finish again, which knows its token
//	lost
//	finish(retry) of one without task / retrying and due, no task           reconciler, 25 s after its time
//	its enqueue
//	gate opened / pump                  full room, open gate                rooms, next round
//	accept that enters a line / its     in the line or not: one run         the caller's repeat: the first answer
//	answer
//	finish of a line's head / the       the next is in the room: one run    as a popped one; rooms, next round
//	next one's begin
//	cancelled, buried, purged, erased   the next is in the room: one run    rooms, next round
//	head / the pump
//	a step that ends a head fails       others wait behind one that has     rooms, which look at lines once a minute
//	half-way, or is an older program's  ended
//	a head's time to be skipped / the   the others wait                     rooms, next round
//	pump
//	a head's owner stalls, the next     the partner gets the older again    known by its webhook-id, and its lower number
//	goes / it wakes
//	let out to a narrow host / finish   the turn is taken, by nobody        the next one goes 75 s later
//	told to wait / its timer's pump      room, and nobody who remembers      rooms, next round
//	eased / gate opened                 a narrow breaker, closed gate       the next successes widen it; held as before
//	pump / enqueue                      pending and due, no task            reconciler, 25 s
//	overdue or revive / enqueue         new generation, no task             reconciler, 25 s
//	accept into a room that waits for   nobody who remembers                rooms, next round after the batch's time
//	its batch / its timer's pump
//	pump of an empty batch / enqueue    empty, pending and due, no task     reconciler, 25 s; what it was to take goes with others meanwhile
//	begin that fills a batch / POST     attempt begun, nothing sent         reconciler at timeout + 15 s: attempt "unknown", the same members and webhook-id
//	POST of a batch / finish            partner has it, batch active        the same: the one duplicate of each member permitted, same webhook-id
//	a batch split / its halves' enqueue two batches, pending, no task       reconciler, 25 s
//	elements delivered / finish         those are, the batch active         reconciler at timeout + 15 s: the rest, under another webhook-id
//	member cancelled, replayed or       the batch's list still has it       its next begin, which gives it another webhook-id
//	erased / the batch's next begin
//	a batch's step fails in Redis       some members in it, some not; final their own records count: others go with the next batch; overdue ends
//	                                    with members that are not           the rest
//	replay / enqueue                    pending and due, no task            reconciler, 25 s
//	hasten / enqueue                    pending and due, no task            reconciler, 25 s; the caller's repeat, once it is late
//	sweep / enqueue                     the same, for a page                reconciler, 25 s
//	two pages of a replay               it knows how far it is              reconciler, next round
//	a replay over companies / its first nothing of it                       a worker, next round
//	company named
//	a company of it named / its replays the company, no replay of it there  the same, which begins what is missing
//	two replays of a company of it      some of them there                  the same
//	a replay of it ended / that noted   the part as it was                  the same
//	it is cancelled / its replays       they run                            the same, which stops them
//	stopped
//	named / begun, cancelled between    a replay that nobody began          stopped before it is there: who begins it late finds it cancelled
//	two pages of the pruning            the hash knows how far it is        reconciler, within a minute
//	two pages of bodies that leave      {c}:bodies:at knows how far it is   reconciler, within a minute
//	two pages of an event's erasure     out of sight, not all of it gone    reconciler, 25 s; the caller who calls again
//	erasing events / their tasks        tasks without record                end in begin; one that waits under the id of an event sent
//	                                                                        anew delays that at most until its own time
//	two pages of an acknowledgement     delivered as far as it came         the partner, who has no answer, acknowledges again
//	acknowledged / its answer           delivered, partner unsure           the same: there is nothing left to do
//	two pages of a seek                 cancelled as far as it came         the caller, who has no answer, calls again
//	a poll waits / its answer           nothing                             the partner polls again, at any process
//	type marked as leaving / looked     the type, and nothing new of it      whoever asks for it a minute later, or the caller who calls again
//	again, and taken away               is accepted
//	type taken away / its answer        the type is gone, without a use     the caller, who has no answer, calls again: 404
//	portal link opened / its answer     the link is used, and nobody has     its owner asks for another link; the session ends at its time, or with
//	                                    its session's token                  the link that is revoked
//	any two steps of erasing a company  its name, and what is left          the caller, who has no answer, calls again
//	its line of the audit trail / its   the line, and keys of the company   the caller calls again, which writes the line anew
//	last page, or its last keys
//	old process's accept or finish / -  bytes that wait miscounted          reconciler, a minute for each 10,000 events that wait
//	old process's round / -             events with one delivery are not    the first rounds of a new process
//	                                    counted as waiting
//	quota on bytes set / their count    too few counted                     the same
//	finish, which warns or disables, /  the notice in the outbox            reconciler, next round
//	its notice's event
//	notice's event / its removal        the notice, sent already            reconciler, next round: a duplicate by its id, so once
//	a certificate filed / its callback  filed, and nobody has it            the next look of a worker, 10 minutes: taken out
//	stored
//	a company's certificate stored /    used from the next attempt on,      whoever sets it puts it again
//	its answer                          caller unsure
//	a certificate's event / the step    told, and not noted                 the same: a duplicate by its id, so once
//	noted
//	halt / the lanes' pauses, on a      nothing goes out, asynq's UI does   whoever pauses repeats it
//	cluster                             not show it
//	resume / the lanes' go, on a        some lanes paused                   whoever resumes repeats it
//	cluster
//	its company listed / the step that  listed without work                 the caller, who has no answer, repeats it; rounds take it out a
//	makes work for it                                                       minute later
//	owed to the index / the step that   owed without work                   the next round lists it; rounds take it out a minute later
//	makes work for it
//	listed / no longer owed             listed and owed                     the next round, which lists it anew
//	put to sleep / taken out of the     asleep, and listed                  its next event wakes it; else rounds, a minute later
//	index
//	a step / what it tells watchers     both or neither: one run of Redis
//	news read / handed to who watches   the stream ends with the process    who watches comes back with a place, and goes on behind it
//	hushed / its process's next look    a gap where nothing is told         Redis's time: all is told again after 0.9 s
//	last watcher gone / its news gone   a short stream that nobody reads    the next change, or the sweep of the log, a minute later
//	watched / its company's erasure     -                                   it goes with the company; no look begins one without a name
//	Redis loses its last second / -     news that are not there any more    the place is gone, or of another epoch: who watches has a gap
//	a worker / its next round           companies that nobody serves        the other workers, 10 s later, or at once if it said that it ends
//	an older program's step / -         work that is not listed             rounds go over all names while it lives, and once after
//	registered or moved / its challenge unverified, without a reason        whoever repeats the change, or verifies
//	deleted / purge                     deliveries of no callback           rooms, next round; shown as cancelled at once
//	worker stalls, lease lost, wakes    two owners                          the old token counts only for "delivered"
//	a panic while encoding, sending      an attempt of unknown outcome       at once: it follows the callback's schedule and eats its budget,
//	or judging                                                               so what panics each time ends in the book and not in a loop
//	a panic elsewhere in a task          as a kill just there                asynq brings the task back after 5 s, if there is one; what had
//	                                                                         begun counts as lost at timeout + 15 s
//	a panic while a connection is opened a failed attempt (network)         by the callback's schedule
//	a panic in a round, a timer or an    as a kill just there                the next round; of other companies, the same one
//	enqueue
//	Redis loses its last second / -     fetched and acknowledged places     the partner fetches again, under the same delivery_id, and what it
//	                                    that are older                      acknowledges counts as far as it is known to have fetched; what
//	                                                                        is written then is above all cursors that were given
//	Redis loses its last second         older records, lost or extra tasks  records without task go by due, tasks without record end in begin
//
// A process that accepts and attempts begins what it accepts in the accepting step, as long as it has a place and the callback a turn. A worker
// that delivered goes on with the delivery that its finish let out of the room, and began. Neither takes a detour over asynq: that would cost three more
// round trips. A delivery that is to be tried again has a task from then on. The task's first taker finds it early, and asynq shows it as a retry with its reason.
//
// The companies take turns. A lane is first come, first served, so it holds few tasks. Further ones wait in the process that brings them, and
// come in by turns: the companies, and a company's callbacks (package lanes, intake). A company has at most three times as many of a worker's attempts
// under way as it leaves free (shares). If a further one comes out of a lane, it goes to its room, or it comes back a second later if the company is alone.
// While processors are short, a worker makes fewer attempts at a time of companies that have many (brake). A company that is alone is held back by its
// share only.
//
// An attempt whose outcome is unknown does not eat the callback's budget, unless it panicked.
//
// A round costs what there is to do, not what there ever was. A company with work stands in an index, and rounds look into no other (package registry,
// index.go). A company that has had no work for a minute is taken out, and what makes work for it puts it there before. The workers share the companies
// out (peers.go). To trim and prune what has grown old, the reconciler walks over all names, a few each round. A round goes over all names if the index may
// lack any: the first of each worker, while a process of a level before the index is alive and once after, and when Redis went back in time or could not
// be asked. So a version before may run beside this one, and after it. A program of your own that makes a Client or a Worker has to announce itself
// ([registry.Announce]): else it is taken for an older one.
//
// A round of the reconciler whose questions to Redis fail leaves out what needs the answers, says so, and goes on with the rest.
//
// A company is erased in the order in which things lead to each other: callbacks first (so that nothing new matches), then the log with all
// its events and their tasks, its batches (whose attempts under way then leave no traces), what names are kept of the rest, and the name last. The script
// that takes the name sees whether anything came meanwhile. It raises the registry's version too: a process that still knows the company has to read it, and
// name it, again before it accepts an event.
//
// A callback is disabled in the step that records its last failure: after days of nothing but failure (Config.DisableAfter), in 20 attempts at
// least. Before that it is warned of at 50, 70 and 90 percent of the way, once each. Each of these is also an event of an operational type, into
// the same company. A day is the most that counts between two attempts, and an outage of our own, when most destinations cannot be reached that
// were reached within the hour before, does not count at all.
//
// What an attempt sent is recorded as it was sent, in the step that records what came of it. So there is no attempt with an outcome whose request is still to be
// written: an attempt that was lost has neither. Secrets are blotted out before. A test shows its request to who asked for it, and nothing of it
// is kept. A decision's request is kept without its body, as the question is kept nowhere. Of a challenge nothing is kept.
//
// A decision has no queue and no repair: its caller waits. It is written down before the partner is asked, so that a kill leaves a record
// without an outcome, which is shown as unknown once its time is up.
package dispatcher

// Package dispatcher is Ringback's engine: it accepts events, makes a delivery of each for every callback that matches, and attempts each
// delivery until the partner's answer meets the contract, the schedule ends, or somebody cancels it.
//
// [Client] accepts events and answers for them; [Worker] attempts. Both work on one Redis, in any number of processes.
// The partner's side of the wire is package egress; what its answer means is package verdict; who wants what is package registry; what goes
// on the wire is package payloads.
//
// # The data model
//
// A delivery's record in Redis is the only truth about it. An asynq task is a hint that it may be time to act on one generation of it; a
// task whose generation is not the record's ends without an attempt. So tasks may be lost, doubled or delayed: only time is at stake.
//
// The company is the hash tag of its keys, written {c} here; every line marked "script" below is one Lua script on them, so it happens whole
// or not at all. All times in records are Redis's own clock. What is written here has a number (ledger.Model), which grows with any change of a
// key's type or a record's format; testdata/model1.txt is what 1 stands for, model1-additions.txt what was added that others leave alone, and every test holds what it finds in Redis against it.
//
//	{c}:ver, {c}:cb, {c}:cbver   the registry's: version, sealed callbacks, the delta to read (package registry);
//	                             {c}:cbseal has the anchors of the seals
//	{c}:gate:<cb>   string       closed and why (paused, disabled, unverified, deleted); absent: open
//	{c}:ev:<event>  hash         m meta, b body, a log id (its time is accepted_at), n unfinished, unless it has
//	                             a single delivery that was never replayed, x dead, h held at acceptance,
//	                             d<cb> the record: state, generation, attempt, budget spent, time, owner's token, attempts;
//	                             r<cb> it was replayed: its attempts say so;
//	                             while it expands: e pages left and callbacks matched, e<n> a page's callbacks; c those of the first page
//	{c}:gone:<event> hash        an event that is being erased in pages, under this name so that nobody finds it; and g1 to g5, what was erased so
//	                             far, and l the audit trail's line
//	{c}:paged       zset         each event that is written or erased in pages; score: when to look whether that goes on (ms)
//	{c}:log         stream       an entry for each accepted event: the order and the cursor of lists; goes after its event
//	{c}:due         zset         <event>/<cb> of every pending, active or retrying delivery; score: when to worry (ms)
//	{c}:ready:<cb>  set          the pending and active ones of a callback; the window bounds who is let in beside retries; a set, not
//	                             a counter: it cannot drift
//	{c}:room:<cb>   zset         those that wait: callback paused, disabled, unverified, failing or slow, its host name not allowed, no token of its rate limit left, or the window is
//	                             full; score: order of acceptance, so that what comes back from the lanes keeps its place
//	{c}:rate:<cb>   string       the callback's rate limit: per second and burst (the registry's); absent: none
//	{c}:busy:<cb>   string       for 5 s after a worker had no turn left for the callback: how many were in the lanes; while it is at least
//	                             half as many, the pump leaves the room alone
//	{c}:rooms       zset         callbacks with a room; score: when to pump it (ms)
//	{c}:retry:<cb>  zset         a callback's retrying deliveries; score: accepted (ms)
//	{c}:health:<cb> hash         dead: its entries in the book, ok: last delivered (ms), bad: the last failed attempt,
//	                             token: the last that got no access token, f: failures in a row;
//	                             hn: the name of the host it goes to (the registry's; finish notes it if it is another);
//	                             the breaker, while it is not closed: l: how many may be in the lanes, o: nothing goes before (ms),
//	                             k: probes that failed, b: when l shrank (ms); the rate limit's bucket: tk tokens at ta (ms);
//	                             of a run of failures with no success between: fs its first (ms), fl its last (ms), fo how much of that time
//	                             does not count (ms), fn how many count, w the highest warning told (percent). A success or a resumption
//	                             forgets the run
//	{c}:hosts       hash         by that name, what a host's breaker knows: failures in a row, probes that failed, nothing goes out before (ms),
//	                             narrow since (ms, 0: it is not), the callback that failed last, when (ms); an hour after the last failure it ages,
//	                             and goes with the hash or when names are added
//	{c}:challenges  hash         by that name, how many challenges to a host failed in a row or are under way, and when the last was sent (ms);
//	                             an hour later it ages in the same way
//	{c}:notices     hash         the outbox: operational events by their id, until they are accepted
//	{c}:replay:<id> hash         a replay of many deliveries: what it selects, how far in the log it is; 7 days after its end
//	{c}:replaying   set          those that run; {c}:replays zset of all, score: when it was asked for
//	{c}:ask:<id>    hash         a decision: t type, c callback, a asked (ms), u under way until (ms), p traceparent, e its attempt;
//	                             {c}:asks zset of them, score: when it was asked for. Both age with retention
//	{c}:dead        zset         the dead-letter book; score: accepted (ms). While an event has an entry it does not age
//	{c}:quota       hash         what the company may use, where an operator set it (package registry's)
//	{c}:waiting     hash         only with a quota on it: each event that waits -> bytes of its payload, and their sum under "/"; an event stands
//	                             in it once or not at all, and the sum changes in the same script: it cannot drift from what stands there.
//	                             What stands there can, by a process of a version before, or where the quota is new: the reconciler walks
//	                             it, {c}:due and the rooms, and puts it right
//	{c}:audit       stream       who changed what (package registry's); written by the scripts that change it
//	{c}:erased      hash         while the company is being erased: the erasure's id, when it began (ms), and what each call erased
//	{c}:prune       hash         how far the pruning of the book is, how many leave it soon, since when that is announced,
//	                             and when anybody last went through it
//	{c}:buried      hash         how many held ones were given up, by reason; ringback:buried the same of all companies that were erased
//	ringback:companies  set      every company there ever was; written before anything of it
//	ringback:work       channel  "<process> <lane>": something was enqueued there (package lanes); idle workers wait for it
//	ringback:reconciler string   whose turn the round is; saves work, guards nothing
//	asynq:{ringback-<lane>}:paused  asynq's: since when (s) nothing goes out of that lane; all of them: nothing goes out of the installation
//	asynq:{ringback-slow}:t:<task id> asynq's: read to see whether a task is in the slow lane
//	asynq's own                  queue ringback-<lane>, task id <delivery id>:g<generation>, payload the names, no content; lanes 0 to 3 by
//	                             callback, and the slow one for what was let out while the callback's breaker was open: its crowds of
//	                             retries would hold up neighbours in a lane. No record says in which lane a task is; whoever has to
//	                             know looks in both
//
// A delivery's life (states as in [State]):
//
//	accept ── gate open, room empty, pace allows ──> pending ── begin ──> active ── finish ──> delivered | dead | retrying
//	   ├───── the same, and its process has a place for it ─────────────> active
//	   └───── else ──> held ── pump or a finish ──> pending or, by its owner, active      retrying ── its time, begin ──> active
//	                    └───── too long, or too many ──> dead       └───── pace forbids ──> held
//
// A callback whose host name egress's policy does not let through has its deliveries in the room, too: begin puts them there, and the pump
// leaves them, for as long as the process that runs it is set up so.
//
// What a callback's pace is: the window bounds how many are in the lanes; an open breaker bounds them to one, with pauses, or to a few; the
// rate limit takes a token for each that leaves the room or passes by it, and for each retry. Whatever may not go waits in the one room,
// and the one pump lets it out: each attempt that ends releases what may follow, the pacer of the process that was told to wait pumps when
// the time has come, and the reconciler's rounds do whatever a crash made others forget.
//
// A host has a breaker over all callbacks of a company that go there. Only attempts that found nobody, or were told to come later (429, 503),
// narrow it, and several of one callback in a row count once. After ten, one delivery at a time goes out to the host, whichever callback it is
// for, with pauses of up to ten seconds. Any other answer opens it. A delivery that is let out to a narrow host takes the turn for 75 s, or until
// its attempt ends.
//
// and from each unfinished state to cancelled. Replay leads from the final states back to pending or held, with a new generation and the same webhook-id.
//
// An event that matches more callbacks than a run should write deliveries for (100) is accepted with those of the first page, and expands: the process
// that accepted it writes page after page, the companies by turns. Whoever asks for a delivery of a later page has it written first. An event with many
// deliveries is erased in pages as well.
//
// The scripts: accept (event, records, window or room, and the first attempt's beginning where the accepting process makes that; or nothing, if
// the registry moved on since matching or the event is known), expand (a page of an event's deliveries), begin (is it due, and this task's?), unbegin (nothing goes out of what has begun: egress is paused, or it took too long), finish (outcome, and one delivery from the room into the place that came free, which begins if the same owner makes it next), overdue and revive (repair),
// pump (room to window; buries what was held too long), ease (a resumed callback begins with a few), purge (cancel what waits), cancel,
// replay, sweep (a page of a replay of many: replays and notes how far it is), replay_start and replay_stop, halt (pauses or resumes all lanes),
// count (compares what is counted as waiting with what waits), prune (the dead whose time is over
// leave the book), erase (an event, a page of the log, or what is left of a company after that), health, ask (which callback decides; opens
// the record) and answer (what came of it).
//
// Accept, begin and finish take many callers' calls in one run: a Committer (package ledger) brings to Redis together what a process asks for at the
// same time. A run makes its calls one by one, in their order, and each has its own answer. A call that Redis refuses, such as for a key of
// another type, keeps what it had written so far; its neighbours do not notice.
//
// # The crash story
//
// What a kill between two steps leaves, who repairs it, and when. The reconciler runs every 2 s, in one process at a time. Each row has its test.
//
//	kill between                        leaves                              repaired
//	registry's script / its answer      registered, caller unsure           the caller lists, or registers again
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
//	let out to a narrow host / finish   the turn is taken, by nobody        the next one goes 75 s later
//	told to wait / the pacer's pump     room, and nobody who remembers      rooms, next round
//	eased / gate opened                 a narrow breaker, closed gate       the next successes widen it; held as before
//	pump / enqueue                      pending and due, no task            reconciler, 25 s
//	overdue or revive / enqueue         new generation, no task             reconciler, 25 s
//	replay / enqueue                    pending and due, no task            reconciler, 25 s
//	sweep / enqueue                     the same, for a page                reconciler, 25 s
//	two pages of a replay               it knows how far it is              reconciler, next round
//	two pages of the pruning            the hash knows how far it is        reconciler, within a minute
//	two pages of an event's erasure     out of sight, not all of it gone    reconciler, 25 s; the caller who calls again
//	erasing events / their tasks        tasks without record                end in begin; one that waits under the id of an event sent
//	                                                                        anew delays that at most until its own time
//	any two steps of erasing a company  its name, and what is left          the caller, who has no answer, calls again
//	its line of the audit trail / its   the line, and keys of the company   the caller calls again, which writes the line anew
//	last page, or its last keys
//	old process's accept or finish / -  bytes that wait miscounted          reconciler, a minute for each 10,000 events that wait
//	quota on bytes set / their count    too few counted                     the same
//	finish, which warns or disables, /  the notice in the outbox            reconciler, next round
//	its notice's event
//	notice's event / its removal        the notice, sent already            reconciler, next round: a duplicate by its id, so once
//	a lane's pause / the next lane's    some lanes paused                   whoever pauses or resumes repeats it
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
//	Redis loses its last second         older records, lost or extra tasks  records without task go by due, tasks without record end in begin
//
// A process that accepts and attempts begins what it accepts in the accepting step, as long as it has a place and the callback a turn. A worker
// that delivered goes on with the delivery that its finish let out of the room, and began. Neither takes a detour over asynq: that would cost three more
// round trips. What is to be tried again has a task from then on. The task's first taker finds it early, and asynq shows it as a retry with its reason.
//
// Who goes next is shared by company. A lane is first come, first served, so it holds few tasks. What is more waits in the process that brings it, and
// comes in by turns: the companies, and a company's callbacks (package lanes, Intake). A company has at most three times as many of a worker's attempts
// under way as it leaves free (shares). What else of it comes out of a lane goes to its room, or comes back a second later if the company is alone.
// While processors are short, a worker makes fewer attempts at a time of companies that have many (brake). A company that is alone is held back by its
// share only.
//
// An attempt whose outcome is unknown does not eat the callback's budget, unless it panicked.
//
// A round of the reconciler whose questions to Redis fail leaves out what needs the answers, says so, and goes on with the rest.
//
// A company is erased in the order in which things lead to each other: callbacks first (so that nothing new matches), then the log with all
// its events and their tasks, what names are kept of the rest, and the name last, in the one script that sees whether anything came meanwhile. It
// raises the registry's version too: a process that still knows the company has to read it, and name it, again before it accepts an event.
// A callback is disabled in the step that records its last failure: after days of nothing but failure (Config.DisableAfter), in 20 attempts at
// least. Before that it is warned of at 50, 70 and 90 percent of the way, once each. Each of these is also an event of an operational type, into
// the same company. A day is the most that counts between two attempts, and an outage of our own, when most destinations cannot be reached that
// were reached within the hour before, does not count at all.
//
// A decision has no queue and no repair: its caller waits. It is written down before the partner is asked, so that a kill leaves a record
// without an outcome, which is shown as unknown once its time is up.
package dispatcher

// Package ledger is the only one that speaks to Redis about deliveries. Each method of a [Ledger] is one step of the crash story in package dispatcher's
// documentation: a Lua script that happens whole or not at all, or a plain look. Its arguments and its answer have names, and nothing outside reads what a
// script says.
//
// # What it promises
//
// Each step of [Ledger.Accept], [Ledger.Begin] and [Ledger.Finish] is done once. If its caller is told of an error, the step may be done or not. A caller
// that repeats it learns which. A [Committer] brings to Redis together what a process asks for at the same time. Each caller has the answer to its own step.
// Steps of a company that are asked for at the same time leave the same as if each had gone alone. A step that Redis refuses, such as for a key of another
// type, keeps what it had written so far; its neighbours do not notice. No caller waits for another's slow flight longer than 20 ms.
//
// [Enter] keeps programs out that do not know the data model that Redis is written in. What is new in the newest one is written only once every process
// knows it and the number is raised ([Ledger.Raised]): until then a roll-out can be rolled back.
//
// # A delivery's states
//
// The letter is the one in its record.
//
//	accept ─┬─> P pending ───── begin ────> A active ── finish ──> D delivered, X dead
//	        │      ^                        ^  └─────── finish ──> R retrying ── begin ──> A
//	        │      ├── pump, finish         │
//	        └─> H held ─────── finish ──────┘
//
//	from                step                  to           when
//	nowhere             accept, expand        P            nothing is in its way
//	                    accept                A            the same, and the accepting process makes it
//	                    accept, expand        H            gate, pace, window or room forbid
//	                    accept                H, in line   one of the same callback and key is ahead
//	P                   begin                 A            it is due, and the claimant's
//	                    begin                 H            gate, pace or the worker's turns forbid
//	R                   begin                 A            its time has come
//	                    begin                 H            gate, pace or turns forbid
//	A                   unbegin               P            nothing went out
//	                    finish                D, X, R      as the answer and the schedule have it
//	                    overdue               P, H         its owner is gone; a new generation
//	                    finish, overdue       C            its callback was deleted
//	H                   ack                   D            its partner fetched it, and says so
//	H                   seek                  C            its partner goes on behind it, without it
//	H, in line          any that ends a head  H            it is the head now, and in the room
//	                    pump                  H            the same, since the head was that for too long
//	H                   pump, finish          P            it is let out
//	                    finish                A            the same, and the owner of what ended makes it
//	                    pump                  X            it was held for too long
//	                    any that fills a room X            too many are held; the oldest goes, or the first of a line that is too long
//	P, H, R             begin, purge, pump    C cancelled  its callback was deleted
//	P, H, R, A          cancel                C            somebody asked for it; an attempt under way still counts if it delivers
//	C                   finish                D            it was cancelled under way, and delivered
//	any                 finish                D            an owner that was taken for gone delivered
//	P, R                revive                the same     its task will not run; a new generation
//	D, X, C             replay, sweep         P, H         a new generation, the same webhook-id
//	R                   replay                P, H         the same, at once
//	R                   hasten, sweep         P, H         a new generation, with the attempts and the budget that it has
//
// # Batches
//
// Deliveries of a callback may travel together. A batch is a delivery of its own, with a record in a hash of its own, and is called ~<name>/<callback> where
// deliveries have their names. So its record goes the ways of a delivery's: unbegin, revive and hold do not know it from one. Begin fills it, and whatever ends it ends
// its members. Its members' records say A and ~<name> as their token, and stand in no set. Whoever reads a delivery looks through that to the batch.
//
// A run that works for many deliveries is bounded in members: begin and finish take a batch in a run of its own, and pump, purge and overdue stop behind the
// batch with which enough have ended.
//
//	from                step                  to           its members
//	nowhere             pump, finish          P            H, in the room: it is empty, and may be forgotten
//	nowhere             finish                A            H -> A: one batch follows another
//	P, empty            begin                 A            H -> A: it is filled
//	P, R                begin                 A            who left meanwhile is not in it; if anybody did, it has another webhook-id
//	A                   split                 P            the second half is in a batch of its own; both have another webhook-id
//	A                   arrive                A            some D, as the answer had it
//	any                 into a final state    the same     the same; who was cancelled under way counts if it was delivered
//
// A member leaves a batch that is not under way by a cancel or a replay, or with its event. Those write the member's record only.
//
// # Lines
//
// A callback with an ordering has a line for each value of its key that an unfinished delivery has. A delivery comes into its line, and gets its number, in the step
// that accepts its event; so the order of a line is that of the log. Only the head of a line is where deliveries without an order are. What ends it lets the next one
// into the room, in the same run; and from there it goes as anything that is held. A replay that begins after the end is in no line. The pump takes a head out of its line that
// was attempted and has been the head for skip_after, and puts right what a step left that failed half-way.
//
// If Redis loses its last second, a number may be given again: to another event, of the same key.
//
// # The data model
//
// A delivery's record is the only truth about it. The company is the hash tag of its keys, written {c} here, so a script may touch any of them. All times
// in records are the installation's: Redis's clock, and what makes up for its steps (package steady). The data model has a number ([Model]), which grows with any change of a key's type or a record's format. In
// package dispatcher, testdata/model2.txt is what 2 stands for, and model1.txt what 1 does, with model1-additions.txt and model2-additions.txt for what was added that
// others leave alone. Every test holds what it finds in Redis against the newest.
//
//	{c}:ver, {c}:cb, {c}:cbver   the registry's: version, sealed callbacks, the delta to read (package registry);
//	                             {c}:cbseal has the anchors of the seals
//	{c}:gate:<cb>   string       closed and why (paused, disabled, unverified, deleted); absent: open. Of a callback whose partner fetches it is always
//	                             closed: by the status pull, alone or as what another gate leaves behind
//	{c}:ev:<event>  hash         m meta, b body, z the payload's length, if b is a zstd frame of it, a log id (its time is accepted_at), n unfinished, unless it has
//	                             no delivery, or a single one that was never replayed, x dead, h held at acceptance,
//	                             d<cb> the record: state, generation, attempt, budget spent, time, owner's token, attempts;
//	                             r<cb> it was replayed: its attempts say so;
//	                             o<cb> its number among those of its callback and key, and the key's name;
//	                             q<cb>.<n> what one of its last three attempts sent, n being its number modulo 3, and what of the answer is not in the
//	                             record: a JSON line, and behind it the URL, sealed (package registry), and the answer's body, as a zstd frame if it is long; written
//	                             with the record; of a batch also four bytes for each element, by which it is known when it is made again, and where the batch
//	                             goes on the members' event ids, since its e may change;
//	                             k<cb> the last body that was sent and is not made of the payload by changing a few bytes, such as a form: its name,
//	                             which a q<cb>.<n> gives, its length if the rest is a zstd frame, else 0, and the body; leaves with b;
//	                             while it expands: e pages left and callbacks matched, e<n> a page's callbacks; c those of the first page
//	{c}:gone:<event> hash        an event that is being erased in pages, under this name so that nobody finds it; and g1 to g5, what was erased so
//	                             far, and l the audit trail's line
//	{c}:paged       zset         each event that is written or erased in pages; score: when to look whether that goes on (ms)
//	{c}:log         stream       an entry for each accepted event: the order and the cursor of lists; goes after its event
//	{c}:bodies      zset         where bodies leave before their events: those events that have ended behind a walk over the log, or before their body's time had
//	                             come, or have many deliveries; score: when they ended (ms). {c}:bodies:at string is where that walk is, and for
//	                             how long bodies were kept (s)
//	{c}:blocks      stream       summaries of the log in blocks of 200 entries, each under the id of its block's last: f the last one before the block,
//	                             t the types, c the callbacks of deliveries in it, or *. Lists leave out blocks that have nothing for them.
//	                             It follows from the log and the events: whoever finds a block without one writes it
//	{c}:finals      hash         by a block's id, which states its deliveries are in, once all of them are final; / the last block that was looked
//	                             at; ~<id>, of a block with very many, the entry and states up to which it was.
//	                             Lists leave out blocks that have none of the states they are for. A step that changes such a state takes the note
//	                             back
//	{c}:unsettled   zset         the blocks up to that one without such a note; score: when to look at them again (ms)
//	{c}:due         zset         <event>/<cb> of every pending, active or retrying delivery; score: when to worry (ms)
//	{c}:ready:<cb>  set          the pending and active ones of a callback; the window bounds who is let in beside retries; a set, not
//	                             a counter: it cannot drift
//	{c}:room:<cb>   zset         those that wait: callback paused, disabled, unverified, failing or slow, its host name not allowed, no token of its rate limit left, or the window is
//	                             full; score: order of acceptance, so that what comes back from the lanes keeps its place. If the partner fetches,
//	                             all of its deliveries wait here until they are acknowledged; score: the order in which they were written, see below
//	{c}:pull:<cb>   hash         of a callback whose partner fetches: at, the last place in its room that was given, ack, up to which place was acknowledged,
//	                             got, up to which one any poll came: nothing beyond it is acknowledged
//	{c}:fetched:<cb> zset        the deliveries that were acknowledged, for who goes back to them; score: their place. It is tidied up by each
//	                             acknowledgement, and by its expiry
//	{c}:line:<cb>:<key> zset     the deliveries in order of a callback and a key that have not ended; score: their number. The first is the head; the others wait. No replay is in it
//	{c}:heads:<cb>  zset         the keys that have a line; score: since when its head is that (ms)
//	{c}:behind:<cb> zset         those who wait in lines, with the token line in their records; score: order of acceptance
//	{c}:seq:<cb>    hash         by key: the last number, and when it was given (ms). 30 days later it ages, and goes as other keys come; with a callback that is
//	                             deleted, or where there are too many, it goes earlier. All go by Redis's expiry, 60 days after a day on which one was given
//	{c}:ordered     set          the callbacks with an ordering (the registry's); {c}:health:<cb> has as by how their lines go (the registry's), and as lc how far the look at
//	                             them is and when that was (ms)
//	{c}:rate:<cb>   string       the callback's rate limit: per second and burst (the registry's); absent: none
//	{c}:special     string       there once was a callback that does not take its deliveries one by one (the registry's)
//	{c}:batch:<name> hash        a batch: d<cb> its record, a the log id of its first member, e the members' event ids, w its webhook-id, k how its elements are
//	                             written, q<cb>.<n> as of an event. e is missing as long as it is empty, w once it is to have another
//	{c}:batches     zset         ~<name>/<cb> of every batch; score: until when it is kept (ms), far ahead while it has not ended. Some go whenever one ends,
//	                             and with the sweep of the log
//	{c}:busy:<cb>   string       for 5 s after a worker had no turn left for the callback: how many were in the lanes, and when (ms); while it is
//	                             at least half as many, the pump leaves the room alone
//	{c}:rooms       zset         callbacks with a room; score: when to pump it (ms)
//	{c}:retry:<cb>  zset         a callback's retrying deliveries, of a batch its members; score: accepted (ms)
//	{c}:health:<cb> hash         dead: its entries in the book, ok: last delivered (ms), bad: the last failed attempt,
//	                             token: the last that got no access token, f: failures in a row;
//	                             hn: the name of the host it goes to (the registry's; finish notes it if it is another);
//	                             by: how deliveries travel (the registry's): batch, events and bytes at most, ms that the first waits, and how
//	                             an element is written; or order, and ms after which others go on; absent: one by one, as they come; wb: about how many bytes wait for a batch;
//	                             xc: the fingerprint of its client certificate, and how many days before its end that was told of last;
//	                             hb: deliveries in the room that batches stand for there, beyond one each;
//	                             the breaker, while it is not closed: l: how many may be in the lanes, o: nothing goes before (ms),
//	                             k: probes that failed, b: when l shrank (ms); the rate limit's bucket: tk tokens at ta (ms), fewer than none where a batch took one for each event;
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
//	{ringback:replays}:replay:<id> hash  a replay over callbacks and companies: what it selects, the last company it looked into; 7 days after its end
//	{ringback:replays}:parts:<id>  hash  company -> its part: matched, without a body and replayed, of what ended and of what runs, and the callbacks that
//	                             are left, each of which has a replay of its own there
//	{ringback:replays}:replaying set     those that run, or are to be stopped; {ringback:replays}:replays zset of all, score: when it was asked for; both are
//	                             unknown to programs of before, which go on with the replays of single callbacks that are begun
//	{c}:ask:<id>    hash         a decision: t type, c callback, a asked (ms), u under way until (ms), p traceparent, e its attempt, q what that sent;
//	                             {c}:asks zset of them, score: when it was asked for. Both age with retention
//	{c}:idem:<hash> hash         a request with an Idempotency-Key, under a digest of who asks for what, and of the key: f a digest of its content (sealed), t who may
//	                             act, u until when that is under way (ms), x when it is forgotten (ms); where a step acted, r:<step> what its script answered,
//	                             and n what was made up for it, such as a secret (sealed); a the answer (sealed), instead of r and n. {c}:idems zset of them,
//	                             score: x. Redis's own expiry lies a month ahead. Those for replays over callbacks and companies, and of what is about all
//	                             companies, are {ringback:replays}:idem:<hash>, and stand in {ringback:replays}:idems:<company> and {ringback:replays}:idems
//	{c}:dead        zset         the dead-letter book; score: accepted (ms). While an event has an entry it does not age
//	{c}:quota       hash         what the company may use, where an operator set it (package registry's)
//	{c}:waiting     hash         only with a quota on it: each event that waits -> bytes of its payload, and their sum under "/"; an event stands
//	                             in it once or not at all, and the sum changes in the same script: it cannot drift from what stands there.
//	                             What stands there can, by a process of a version before, or where the quota is new: the reconciler walks
//	                             it, {c}:due and the rooms, and puts it right
//	{c}:links       hash         portal links and their sessions (package registry's)
//	{c}:audit       stream       who changed what (package registry's); written by the scripts that change it
//	{c}:erased      hash         while the company is being erased: the erasure's id, when it began (ms), and what each call erased
//	{c}:prune       hash         how far the pruning of the book is, how many leave it soon, since when that is announced,
//	                             and when anybody last went through it
//	{c}:awake       string       an epoch of the index: since when the company is awake or, negative, at which it was put to sleep; while it is asleep it
//	                             has no {c}:due, {c}:rooms, {c}:paged, {c}:notices, {c}:replaying and {c}:prune (package registry, index.go)
//	{c}:watched     string       while somebody watches the company's deliveries: until when (ms), which is moved on, an epoch, until when nothing is told
//	                             (ms), for more changes than anybody reads, and until when all is (ms). Who comes too late begins another epoch
//	{c}:live        stream       only then: an entry for each attempt that ended and each state that a delivery came to without one, m the delivery, s the
//	                             letter, or an empty m where what came next was not told; the last 4,096 or so. An entry's id and the epoch are a place to go
//	                             on from, as long as the entry is there
//	{c}:buried      hash         how many held ones were given up, by reason; ringback:buried the same of all companies that were erased
//	ringback:companies  set      every company there ever was; written before anything of it
//	ringback:clock      hash     the installation's time (package steady)
//	ringback:work       channel  "<process> <lane>": something was enqueued there (package lanes); idle workers wait for it. Of lane * : there are more
//	                             lanes, or fewer
//	ringback:lanes      hash     how many lanes there are (count), up to which they are looked into (high), and how often that was changed (epoch); absent: 4
//	{ringback:lanes}:halt string since when (s) nothing goes out of the installation
//	ringback:reconciler string   of programs without the index: whose turn the round is
//	ringback:minutes:<hour>  hash  a statistic of an hour (since 1970): <minute>:a events accepted, :d delivered, :f attempts that failed, :l<n> first attempts that
//	                             delivered, by bucket of the time since acceptance; processes add to it every few seconds, and it goes 12 hours later
//	ringback:outages hash        each process that cannot reach most destinations -> since when, when it last said so (ms), of how many destinations how many
//	ringback:rounds hash         each worker that goes rounds -> how many it has begun
//	ringback:working zset        the index: companies that may have work for the rounds; score: an epoch, which no other company and no later entry has
//	{ringback:working}:epoch  string  the last of those
//	ringback:owed   zset         companies that woke while the master of the index was away, and are to come into it; score: the epoch at which they woke
//	{ringback:working}:asleep hash    what is counted of each company that is asleep: dead letters, buried ones, callbacks; {ringback:working}:sums hash of their
//	                             sums; :whole in it once all companies that are asleep are in them
//	asynq:{ringback-<lane>}:paused  asynq's: since when (s) nothing goes out of that lane; in a halt all lanes have it that there may be, for asynq's UI,
//	                             and for programs that do not know of halts
//	asynq:{ringback-<lane>}:t:<task id> asynq's: read to see whether a task is in another lane than its delivery's
//	asynq's own                  queue ringback-<lane>, task id <delivery id>:g<generation>, payload the names, no content; lanes 0 and so on by
//	                             callback, and the slow one for what was let out while the callback's breaker was open: its crowds of
//	                             retries would hold up neighbours in a lane. No record says in which lane a task is: a process
//	                             that has to know looks in both, and once the number has been another, in all
//
// What those who watched have left goes with the next change that nobody watches any more, or with the sweep of the log, by the installation's time. Redis's
// expiry, an hour later, is for a company where neither comes.
//
// What has had its time, such as an event whose deliveries all ended longer ago than retention, is swept with its company's log. The time stands in the
// key's own expiry, ten years ahead: so no step of Redis's clock expires it.
//
// # What holds a delivery back
//
// Three things make a callback's pace. The window bounds how many are in the lanes. An open breaker bounds them to one, with pauses, or to a few. The rate
// limit takes a token for each that leaves the room or passes by it, and for each retry. If a delivery may not go, it waits in the one room, and the one
// pump lets it out. Each attempt that ends releases those that may follow. If a process was told to wait, its timer pumps when the time has come. The
// reconciler's rounds do the rest after a crash.
//
// A host has a breaker over all callbacks of a company that go there. Only attempts that found nobody, or were told to come later (429, 503),
// narrow it, and several of one callback in a row count once. After ten, one delivery at a time goes out to the host, whichever callback it is
// for, with pauses of up to ten seconds. Any other answer opens it. A delivery that is let out to a narrow host takes the turn for 75 s, or until
// its attempt ends.
//
// A callback whose host name egress's policy does not let through has its deliveries in the room, too: begin puts them there, and the pump
// leaves them, for as long as the process that runs it is set up so.
//
// # What is fetched
//
// If a callback's partner fetches, its gate never opens: so each of its deliveries waits in the room from the step that writes it, under the bounds that rooms
// have, and none has a ticket. A place in that room is a time in milliseconds times 4,096, or one more than the last, if that is higher. It is given in the
// step that writes the delivery. So whoever has read up to a place has read all that will ever be below it: a page of a large fan-out that is written late,
// and a replay, come behind. After Redis lost its last second, new places are above all that were given before, as time went on.
//
// What was acknowledged has lower places than all that waits. A seek back changes only from where on it is fetched.
package ledger

// Package lanes is the only one of the engine that knows asynq: it brings deliveries' tasks to asynq's queues, the lanes, takes them from there, pauses and resumes
// what goes out, changes how many lanes there are, and says what asynq's UI shows.
//
// It promises this. A task is a hint: it names a delivery and its generation, and whoever gets it asks the ledger. If asynq has the task already, bringing
// it again changes nothing. Tasks that wait here come into a lane by turns, so that no company keeps another waiting (see intake). They are
// lost with the process, and the reconciler brings them again. Idle servers are told of work, by processes that bring it, and do not ask for it all the time
// (see bell); they look all the same, now and then, for what nobody tells.
//
// # How many lanes there are
//
// That is the installation's, and stands in Redis ([Lanes.Set]). Each process goes by what it read last. A worker reads it in its rounds, and whoever brings
// tasks reads it every second while it does. Who listens to the bell hears of a change at once. So processes may differ for some seconds. A callback's lane
// follows from the number, so that moves tasks to another lane than before, and never loses one: a task in a lane that a process does not know of is taken by
// the others, and of two tasks of a delivery in two lanes the ledger lets one begin.
//
// Lanes above the number are looked into until they have been empty for three minutes: of what waits, is under way or is to come back (leaving). Their
// places are a part of all. A task there that is to come back comes back to its own lane.
// What a process brings to a lane that nobody looks into any more, since it could not read the number for so long, the reconciler brings anew.
//
// A process has asynq servers for each lane that is looked into. They stay as they are when the number changes, and what is under way goes on: only a lane
// that is new gets some, and one that is given up loses its own. How many tasks of a lane are worked on at a time is bounded before a task is taken (places).
//
// # A halt
//
// A halt is a key of its own, beside asynq's keys for paused queues. Every process looks at it before an attempt begins, and not at the lane alone that the
// delivery came from ([HaltLook]). So it counts for lanes that one of the two did not know of, the one that halts or the one that looks.
package lanes

// Package lanes is the only one of the engine that knows asynq: it brings deliveries' tasks to asynq's queues, the lanes, takes them from there, pauses and resumes the
// lanes, and says what asynq's UI shows.
//
// It promises this. A task is a hint: it names a delivery and its generation, and whoever gets it asks the ledger. If asynq has the task already, bringing
// it again changes nothing. Tasks that wait here come into a lane by turns, so that no company keeps another waiting (see intake). They are
// lost with the process, and the reconciler brings them again. Idle servers are told of work, by processes that bring it, and do not ask for it all the time
// (see bell); they look all the same, now and then, for what nobody tells.
package lanes

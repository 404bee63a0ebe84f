package httpapi

// What the API's description shows of what is about all companies.
const (
	exampleCompanies = `{"companies":[{"company":"acme","callbacks":12,"words":"1 failing","waiting":120,"pending":1,"retrying":19,"held":100,` +
		`"oldest_waiting_at":"2026-02-01T01:14:58.02Z","dead":3,"failing":1,"paused":0,"disabled":0,"unverified":0}],"next_cursor":"YWNtZQ"}`
	exampleEvents = `{"events":[{"event_id":"order-4711","event_type":"wallet_item_install","accepted_at":"2026-02-01T08:14:58.02Z","deliveries":{"delivered":2,"retrying":1}}],` +
		`"next_cursor":"MTc2OTkzMzY5ODAyMC0wLzk"}`
	exampleOverview = `{"as_of":"2026-02-01T03:00:00Z",` +
		`"verdict":{"side":"theirs","sentence":"It is them, not us. 1 callback failed last with status_500: answered 500 Internal Server Error: the endpoint failed; its own log says why.",` +
		`"ours":[],"theirs":["1 callback failed last with status_500: answered 500 Internal Server Error: the endpoint failed; its own log says why."],"outages":[]},` +
		`"worst":{"sentence":"1 callback is not well. The worst is callback 11887 of acme (partner.example): breaker open: 14 failures in a row, tried carefully, 120 waiting, 3 dead.","of":1,` +
		`"callbacks":[{"company":"acme","callback_id":11887,"callback_type":"wallet_item_install","host":"partner.example","status":"enabled","breaker":"open",` +
		`"words":"breaker open: 14 failures in a row, tried carefully","waiting":120,"pending":1,"retrying":19,"held":100,"oldest_waiting_at":"2026-02-01T01:14:58.02Z","dead":3,` +
		`"consecutive_failures":14,"last_failure":` + exampleFailure + `,"last_success_at":"2026-02-01T01:14:01.4Z","side":"theirs"}],` +
		`"reasons":[{"reason":"status_500","callbacks":1,"waiting":120,"side":"theirs","detail":"answered 500 Internal Server Error: the endpoint failed; its own log says why"}]},` +
		`"waiting":{"sentence":"120 deliveries wait: 100 held, 19 waiting for a retry, 1 on the way. The oldest was accepted 105 minutes ago, for callback 11887 of acme.",` +
		`"total":120,"pending":1,"retrying":19,"held":100,"oldest_at":"2026-02-01T01:14:58.02Z","company":"acme","callback_id":11887},` +
		`"dead":{"sentence":"3 deliveries are dead: 3 by status_500.","total":3,"counted":3,"reasons":[{"reason":"status_500","dead":3,"callbacks":1,"side":"theirs"}]},` +
		`"wave":{"sentence":"19 retries are due within the next hour, most of them (12) in the minute from 03:01 UTC on; 0 due now, 0 later.","due_now":0,"minutes":[7,12],"later":0},` +
		`"rates":{"sentence":"In the last 5 minutes: 310 events accepted, 290 delivered, 25 failed attempts. Half of what a first attempt delivered was there within 9ms, 95 % within 38ms.",` +
		`"minutes":[{"at":"2026-02-01T02:59:00Z","accepted":61,"delivered":58,"failed":5}],"first_attempt_p50_ms":9,"first_attempt_p95_ms":38},` +
		`"callbacks":{"sentence":"12 callbacks: 12 enabled, 0 paused, 0 disabled, 0 unverified; breakers: 1 open, 0 widening.","enabled":12,"paused":0,"disabled":0,"unverified":0,"breakers_open":1,"breakers_half_open":0},` +
		`"egress":{"sentence":"Everything goes out.","status":"running"},` +
		`"workers":{"sentence":"2 workers are at work.","workers":2,"processes":3,"overdue_ms":0},` +
		`"redis":{"sentence":"Redis is well.","faults":0,"warnings":0,"findings":[{"check":"eviction","level":"ok","found":"a full Redis refuses writes and forgets nothing (maxmemory-policy noeviction)"}]},` +
		`"certificates":{"sentence":"1 client certificate expires within 7 days. The first is of callback 11887 of acme, and expires in 4 days, at 2026-02-05T08:15:00Z.","of":1,"expired":0,` +
		`"callbacks":[{"company":"acme","callback_id":11887,"callback_type":"wallet_item_install","not_after":"2026-02-05T08:15:00Z","subject":"CN=ringback.example.com",` +
		`"fingerprint":"3f0a2f1a5c7d4f1f8a0d2c9be4b1f6a0c3e5d7f9a1b2c4d6e8f0a2b4c6d8e0f2"}]},"unread":[]}`
)

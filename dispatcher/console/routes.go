package console

// companyRoutes are the pages about a company that both the console and the portal have, by method and path below the root.
func (d *door) companyRoutes() map[string]page {
	const company, callback = "/companies/{company}", "/companies/{company}/callbacks/{callback}"
	const delivery, replay, event = company + "/deliveries/{delivery}", company + "/replays/{replay}", company + "/events/{event}"
	pages := map[string]page{
		"POST /logout":                   d.logout,
		"GET /find":                      findPage,
		"GET " + company:                 companyPage,
		"GET " + callback:                callbackPage,
		"POST " + callback + "/verify":   verifyCallback,
		"GET " + company + "/live":       livePage,
		"GET " + company + "/deliveries": deliveriesPage,
		"GET " + delivery:                deliveryPage,
		"POST " + delivery + "/now":      hastenDelivery,
		"POST " + delivery + "/replay":   replayDelivery,
		"GET " + event:                   eventPage,
		"GET " + event + "/payload":      payloadPage,
		"GET " + company + "/replays":    replaysPage,
		"GET " + replay:                  replayPage,
		"GET /types":                     typesPage,
		"GET /types/{name}":              typePage,
	}
	asking(pages, map[string]page{
		callback + "/pause": pausePage, callback + "/resume": resumePage, callback + "/test": testPage, callback + "/replay": startReplayPage,
		company + "/new": newCallbackPage, callback + "/edit": editCallbackPage, callback + "/secret": rotateSecretPage, callback + "/signing-key": rotateKeyPage,
		company + "/replays/start": startReplayPage, delivery + "/cancel": cancelDeliveryPage, replay + "/cancel": cancelReplayPage,
	})
	return pages
}

// asking adds pages by path that ask first, and do it when they are told to.
func asking(pages, more map[string]page) {
	for path, p := range more {
		pages["GET "+path], pages["POST "+path] = p, p
	}
}

// Package web carries requests to typed handlers and their answers back: routes,
// authentication hooks, decoding, size and rate limits, errors as JSON, CORS,
// request logs and metrics; and the listeners under them.
//
// A route is one line:
//
//	web.PUT(rt, "/_matrix/client/v3/rooms/{roomID}/send/{type}/{txnID}", a.user, a.sendMessage, web.Limit("message"))
//
// Only this package writes responses. It knows nothing of accounts or rooms.
package web

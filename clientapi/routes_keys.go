package clientapi

import "beep/web"

// keyRoutes are the routes of end-to-end encryption and of messages between devices.
func (a *API) keyRoutes(rt *web.Router) {
	const v3 = "/_matrix/client/v3"
	other, message := web.Limit("other"), web.Limit("message")

	web.POST(rt, v3+"/keys/upload", a.userOrGuest, a.uploadKeys, other, web.OptionalBody())
	web.POST(rt, v3+"/keys/query", a.userOrGuest, a.queryKeys, other)
	web.POST(rt, v3+"/keys/claim", a.userOrGuest, a.claimKeys, other)
	web.POST(rt, v3+"/keys/device_signing/upload", a.user, a.uploadCrossSigning, other)
	web.POST(rt, v3+"/keys/signatures/upload", a.user, a.uploadSignatures, other)
	web.PUT(rt, v3+"/sendToDevice/{type}/{txnID}", a.userOrGuest, a.sendToDevice, message)

	const versions, room = v3 + "/room_keys/version", v3 + "/room_keys/keys/{roomID}"
	const all, session = v3 + "/room_keys/keys", room + "/{sessionID}"
	many := web.MaxBody(maxBackUpBody)
	web.POST(rt, versions, a.user, a.newBackup, other)
	web.GET(rt, versions, a.user, a.backup, other, web.Also(versions+"/{version}"))
	web.PUT(rt, versions+"/{version}", a.user, a.setBackup, other)
	web.DELETE(rt, versions+"/{version}", a.user, a.deleteBackup, other)
	web.PUT(rt, all, a.user, a.backUp, other, many)
	web.PUT(rt, room, a.user, a.backUpRoom, other, many)
	web.PUT(rt, session, a.user, a.backUpSession, other)
	web.GET(rt, all, a.user, a.backedUp, other, web.Also(room))
	web.GET(rt, session, a.user, a.backedUpSession, other)
	web.DELETE(rt, all, a.user, a.deleteBackedUp, other, web.Also(room, session))

	const dehydrated = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device"
	web.PUT(rt, dehydrated, a.user, a.dehydrate, other)
	web.GET(rt, dehydrated, a.user, a.dehydrated, other)
	web.DELETE(rt, dehydrated, a.user, a.removeDehydrated, other)
	web.GET(rt, dehydrated+"/{deviceID}/events", a.user, a.dehydratedEvents, other)
	web.POST(rt, dehydrated+"/{deviceID}/events", a.user, a.postDehydratedEvents, other, web.OptionalBody())
}

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
}

package clientapi

import "beep/web"

// accountRoutes are the routes of registration, login, devices and accounts.
func (a *API) accountRoutes(rt *web.Router) {
	const v1 = "/_matrix/client/v1"
	const v3 = "/_matrix/client/v3"
	const admin = "/_synapse/admin/v1"
	const tokens = admin + "/registration_tokens"
	registration, other := web.Limit("registration"), web.Limit("other")
	noBody := web.OptionalBody()
	acc := a.accounts

	web.GET(rt, v3+"/login", web.Anyone, a.loginFlows, other)
	web.POST(rt, v3+"/login", a.appservice, a.login, other)
	web.POST(rt, v1+"/login/get_token", a.user, a.newLoginToken, noBody, other)
	web.POST(rt, v3+"/refresh", web.Anyone, a.refresh, other)
	web.POST(rt, v3+"/logout", acc.AuthenticateLocked, a.logout, noBody)
	web.POST(rt, v3+"/logout/all", acc.AuthenticateLocked, a.logoutAll, noBody)

	web.POST(rt, v3+"/register", a.appservice, a.register, noBody, registration)
	web.GET(rt, v3+"/register/available", web.Anyone, a.usernameAvailable, registration)
	web.GET(rt, v1+"/register/m.login.registration_token/validity", web.Anyone, a.registrationTokenValidity, registration)
	web.GET(rt, v3+"/auth/{stage}/fallback/web", web.Anyone, a.fallbackPage, other)
	web.POST(rt, v3+"/auth/{stage}/fallback/web", web.Anyone, a.fallbackForm, other)

	web.GET(rt, v3+"/account/whoami", a.userOrGuest, a.whoami, other)
	web.POST(rt, v3+"/account/password", acc.AuthenticateOptional, a.changePassword, other)
	web.POST(rt, v3+"/account/deactivate", acc.AuthenticateOptional, a.deactivate, noBody, other)
	web.POST(rt, v3+"/user/{userID}/openid/request_token", a.user, a.newOpenIDToken, noBody, other)

	web.GET(rt, v3+"/devices", a.userOrGuest, a.devices, other)
	web.GET(rt, v3+"/devices/{deviceID}", a.userOrGuest, a.device, other)
	web.PUT(rt, v3+"/devices/{deviceID}", a.userOrGuest, a.putDevice, other)
	web.DELETE(rt, v3+"/devices/{deviceID}", a.user, a.deleteDevice, noBody, other)
	web.POST(rt, v3+"/delete_devices", a.user, a.deleteDevices, other)

	web.GET(rt, v3+"/account/3pid", a.user, a.threepids, other)
	web.POST(rt, v3+"/account/3pid", a.user, a.addThreepid, other)
	web.POST(rt, v3+"/account/3pid/add", a.user, a.addThreepid, other)
	web.POST(rt, v3+"/account/3pid/bind", a.user, a.addThreepid, other)
	web.POST(rt, v3+"/account/3pid/delete", a.user, a.deleteThreepid, other)
	web.POST(rt, v3+"/account/3pid/unbind", a.user, a.deleteThreepid, other)
	web.POST(rt, v3+"/account/3pid/{medium}/requestToken", web.Anyone, a.validateForAccount, other)
	web.POST(rt, v3+"/register/{medium}/requestToken", web.Anyone, a.validateForRegistration, other)
	web.POST(rt, v3+"/account/password/{medium}/requestToken", web.Anyone, a.validateForPassword, other)

	web.GET(rt, admin+"/register", web.Anyone, a.registrationNonce, registration)
	web.POST(rt, admin+"/register", web.Anyone, a.registerBySecret, registration)
	web.GET(rt, tokens, acc.AuthenticateAdmin, a.registrationTokens)
	web.POST(rt, tokens+"/new", acc.AuthenticateAdmin, a.newRegistrationToken)
	web.GET(rt, tokens+"/{token}", acc.AuthenticateAdmin, a.registrationToken)
	web.PUT(rt, tokens+"/{token}", acc.AuthenticateAdmin, a.updateRegistrationToken)
	web.DELETE(rt, tokens+"/{token}", acc.AuthenticateAdmin, a.deleteRegistrationToken)
}

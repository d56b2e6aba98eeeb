package clientapi

import (
	"beep/matrix"
	"beep/web"
)

// userDataRoutes are the routes of what users keep about themselves and tell each
// other besides events, and of what the server tells about itself.
func (a *API) userDataRoutes(rt *web.Router) {
	const v3 = "/_matrix/client/v3"
	const room = v3 + "/rooms/{roomID}"
	const user = v3 + "/user/{userID}"
	const profile = v3 + "/profile/{userID}"
	const wellKnown = "/.well-known/matrix"
	other, message := web.Limit("other"), web.Limit("message")
	noBody := web.OptionalBody()

	web.GET(rt, wellKnown+"/client", web.Anyone, a.wellKnownClient)
	web.GET(rt, wellKnown+"/server", web.Anyone, a.wellKnownServer)
	web.GET(rt, wellKnown+"/support", web.Anyone, a.wellKnownSupport)
	web.GET(rt, "/_matrix/client/versions", web.Anyone, a.versions)
	web.GET(rt, v3+"/capabilities", a.user, a.getCapabilities, other)

	// A new name is an event in each of the user's rooms: it counts as a message.
	web.GET(rt, profile, web.Anyone, a.profile, other)
	web.GET(rt, profile+"/{keyName}", web.Anyone, a.profileField, other)
	web.PUT(rt, profile+"/{keyName}", a.userOrGuest, a.setProfileField, message)
	web.DELETE(rt, profile+"/{keyName}", a.userOrGuest, a.deleteProfileField, message)

	const accountData = "/account_data/{type}"
	web.GET(rt, user+accountData, a.user, a.accountData, other, web.Also(user+"/rooms/{roomID}"+accountData))
	web.PUT(rt, user+accountData, a.user, a.setAccountData, other, web.Also(user+"/rooms/{roomID}"+accountData))
	web.GET(rt, user+"/rooms/{roomID}/tags", a.user, a.tags, other)
	web.PUT(rt, user+"/rooms/{roomID}/tags/{tag}", a.user, a.setTag, other)
	web.DELETE(rt, user+"/rooms/{roomID}/tags/{tag}", a.user, a.deleteTag, other)
	web.POST(rt, user+"/filter", a.user, a.defineFilter, other, web.MaxBody(matrix.MaxFilterSize))
	web.GET(rt, user+"/filter/{filterID}", a.user, a.filter, other)

	web.GET(rt, v3+"/presence/{userID}/status", a.user, a.presenceStatus, other)
	web.PUT(rt, v3+"/presence/{userID}/status", a.user, a.setPresence, other)
	web.PUT(rt, room+"/typing/{userID}", a.user, a.setTyping, other)
	web.POST(rt, room+"/receipt/{receiptType}/{eventID}", a.user, a.sendReceipt, other, noBody)
	web.POST(rt, room+"/read_markers", a.user, a.setReadMarkers, other)

	rules := v3 + "/pushrules/"
	web.GET(rt, rules+"{$}", a.user, a.pushRules, other)
	web.GET(rt, rules+"global/{$}", a.user, a.globalPushRules, other)
	web.GET(rt, rules+"global/{kind}/{$}", a.user, a.pushRulesOfKind, other)
	web.GET(rt, rules+"global/{kind}/{ruleID}", a.user, a.pushRule, other)
	web.PUT(rt, rules+"global/{kind}/{ruleID}", a.user, a.putPushRule, other)
	web.DELETE(rt, rules+"global/{kind}/{ruleID}", a.user, a.deletePushRule, other)
	web.GET(rt, rules+"global/{kind}/{ruleID}/enabled", a.user, a.pushRuleEnabled, other)
	web.PUT(rt, rules+"global/{kind}/{ruleID}/enabled", a.user, a.enablePushRule, other)
	web.GET(rt, rules+"global/{kind}/{ruleID}/actions", a.user, a.pushRuleActions, other)
	web.PUT(rt, rules+"global/{kind}/{ruleID}/actions", a.user, a.setPushRuleActions, other)
}

package clientapi

import "beep/web"

// roomRoutes are the routes of rooms: creation, membership, events, aliases.
func (a *API) roomRoutes(rt *web.Router) {
	const v3 = "/_matrix/client/v3"
	const room = v3 + "/rooms/{roomID}"
	join, invite, message, other := web.Limit("join"), web.Limit("invite"), web.Limit("message"), web.Limit("other")
	noBody := web.OptionalBody()

	web.POST(rt, v3+"/createRoom", a.active, a.createRoom, join)
	web.POST(rt, v3+"/join/{roomIDOrAlias}", a.activeOrGuest, a.join, join, noBody, web.Also(v3+"/rooms/{roomIDOrAlias}/join"))
	web.POST(rt, v3+"/knock/{roomIDOrAlias}", a.active, a.knock, join, noBody)
	web.POST(rt, room+"/leave", a.userOrGuest, a.leave, noBody)
	web.POST(rt, room+"/forget", a.user, a.forget, noBody)
	web.POST(rt, room+"/invite", a.active, a.invite, invite)
	web.POST(rt, room+"/kick", a.active, a.kick)
	web.POST(rt, room+"/ban", a.active, a.ban)
	web.POST(rt, room+"/unban", a.active, a.unban)
	web.GET(rt, v3+"/joined_rooms", a.userOrGuest, a.joinedRooms)

	web.PUT(rt, room+"/send/{type}/{txnID}", a.activeOrGuest, a.sendMessage, message)
	web.PUT(rt, room+"/state/{type}/{stateKey}", a.activeOrGuest, a.sendState, message, web.Also(room+"/state/{type}", room+"/state/{type}/{$}"))
	web.PUT(rt, room+"/redact/{eventID}/{txnID}", a.userOrGuest, a.redact, message, noBody)

	web.GET(rt, room+"/state", a.userOrGuest, a.roomState)
	web.GET(rt, room+"/state/{type}/{stateKey}", a.userOrGuest, a.stateEvent, web.Also(room+"/state/{type}", room+"/state/{type}/{$}"))
	web.GET(rt, room+"/members", a.userOrGuest, a.members)
	web.GET(rt, room+"/joined_members", a.user, a.joinedMembers)
	web.GET(rt, room+"/messages", a.userOrGuest, a.messages)
	web.GET(rt, room+"/event/{eventID}", a.userOrGuest, a.event)
	web.GET(rt, room+"/context/{eventID}", a.userOrGuest, a.eventContext)

	web.GET(rt, room+"/aliases", a.user, a.aliases)
	web.GET(rt, v3+"/directory/room/{roomAlias}", web.Anyone, a.resolveAlias)
	web.PUT(rt, v3+"/directory/room/{roomAlias}", a.active, a.setAlias)
	web.DELETE(rt, v3+"/directory/room/{roomAlias}", a.user, a.deleteAlias)
	web.GET(rt, v3+"/directory/list/room/{roomID}", web.Anyone, a.listing)
	web.PUT(rt, v3+"/directory/list/room/{roomID}", a.active, a.setListing, other)
	web.GET(rt, v3+"/publicRooms", a.directoryReader, a.publicRooms, other)
	web.POST(rt, v3+"/publicRooms", a.user, a.searchPublicRooms, other)
}

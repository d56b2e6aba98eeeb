// Package remote is how this server speaks to other servers: the [Client] finds them
// (server-server API, "Server discovery"), signs requests ("Authentication") and has a
// method for each endpoint; the [KeyRing] knows their keys ("Retrieving server keys")
// and checks what they signed.
//
// What comes back is bounded in size and has the specification's shape. Nothing else
// about it is checked here: events are whatever the other server says they are.
package remote

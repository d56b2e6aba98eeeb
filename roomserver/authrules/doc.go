// Package authrules decides whether a room's rules allow an event: the section
// "Authorisation rules" of every room version from 1 to 12. It is pure: an event and
// the state events that authorise it go in, a verdict comes out.
//
// The rules are written here, and not gomatrixserverlib's, for three reasons. That library
// reads events with encoding/json, which takes "Membership", and even "ſender" with a long
// s, for the member that is meant, so that it may see another sender than the one whose
// signature was checked. It refuses and allows other things than the specification: it lets
// a moderator raise users_default above themselves, lets anybody lift a ban who may set one,
// forbids creators of rooms of version 12 to change notification levels, compares with
// defaults where the specification compares what is written. And it reads all contents
// again for every check, where a resolution makes hundreds against the same few events.
// As a second judge it is good all the same: the tests put every row of their tables before
// it, and say where it differs.
//
// Rule 2 of most versions ("considering the event's auth_events") is not here: what an
// event cites, and whether that was rejected, is known where events are received.
// Neither are signatures, that of join_authorised_via_users_server among them.
//
// Readings of the specification, where it leaves room:
//
//   - Without an m.room.join_rules event, or without join_rule in it, the rule is "invite".
//   - Power levels that are no numbers are refused wherever the version's rules look at
//     them, not under "users" alone: there is no sensible way to compare them later.
//   - An m.room.power_levels event with a state key is never compared with another: it
//     has no say in the room, and the previous one of its key is not among what authorises it.
//   - In a room with m.federate false a membership must be of the create event's server
//     on both sides, sender and member. The specification names the sender alone; other
//     servers refuse both, and the results must be the same everywhere.
//   - Without power levels state_default is 50 and the creator has 100 (m.room.power_levels);
//     who the creator is, content.creator says up to room version 10.
package authrules

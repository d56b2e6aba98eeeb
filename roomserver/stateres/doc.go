// Package stateres resolves the states of a room's forks into one: the section "State
// resolution" of every room version, algorithm v1 for room version 1, v2 for 2 to 11, v2.1
// for 12. It is pure: no database, no clock. Events are numbers until they must be read.
//
// # How it is done
//
// States come as lists of (key, event) in order of the keys, and [Input.Graph] tells for
// an event its key and the numbers of its auth_events. With that alone are found: what is in
// conflict (one merge of the lists), the auth difference, the conflicted subgraph, the
// mainline. Events are read in two calls, never one by one: first the full conflicted set,
// then what the checks of these will look at, which their types, senders and targets tell.
// Of a room with thousands of members it reads the conflicted ones and who sent or was
// the target of a conflicted event.
//
// The auth chains of the agreed part of the states, thousands of events, matter for one
// question only: an event in them is in all full auth chains and so no difference. They are walked
// once, over numbers, and not at all when the conflicted events' chains leave nothing to ask.
//
// The work is linear in the size of the auth chains, n log n in the full conflicted set.
// Nothing recurses. Each walk visits an event once, so circles in auth_events, which event
// ids of room versions 1 and 2 allow a forger, end. Events in a circle have no topological order
// and are left out; so are events that are missing from a chain, are no state or are
// another room's. An event of a state to resolve that cannot be read is an error: to
// drop it would lose state without a word.
//
// Files: resolve.go what the algorithms share, sets.go the states, v1.go and v2.go the
// algorithms, chains.go the full conflicted set, order.go the two orderings.
//
// # Readings
//
// The specification leaves room at some points. All servers must come to the same result, so
// these are the readings of the servers that are in use.
//
// Room version 1:
//   - A key that one of the states lacks is not in conflict.
//   - "Subsequent events" are each checked with the one before it in the state; members see
//     no other conflicted member, not even a resolved one; the same for join rules.
//   - If no event of another type passes, the shallowest is taken.
//   - Events of m.room.power_levels with a state key count as of another type.
//
// Room versions 2 to 12:
//   - The full auth chain of a state has the state's own events in it. An event that all
//     states hold is in no auth difference.
//   - A power event m.room.power_levels or m.room.join_rules has the empty state key.
//   - What enlarges the set of power events is found by steps within the full conflicted set;
//     its edges, too, are direct citations. A path through an event outside does not count.
//   - The power of a sender is that by the event's own auth_events. Without power levels there
//     the creator has 100, in room version 12 creators stand above all.
//   - A check looks at the state as built so far, for keys missing there at the event's own
//     auth_events unless rejected, and nowhere else; but in room version 12 the create event,
//     which no event cites, always authorises.
//   - In room version 12 the state after the power events may have no power levels: they are
//     agreed and nobody's auth difference. Then there is no mainline and all positions are equal.
//   - The agreed state wins at the end in all versions: an older event of an agreed key can
//     come in through the auth difference.
//
// What v2 loses by these rules is lost: a server that repaired it would disagree with the others.
package stateres

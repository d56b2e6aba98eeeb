package roomserver

import (
	"context"
	"encoding/json"

	"beep/matrix"
)

// Remote is how the room server reaches other servers. What they answer is theirs:
// nothing of it has been checked but its size.
type Remote interface {
	// Verify tells for each event whether the servers that have to sign it did, with
	// keys that were theirs at the time: nil, or why not.
	Verify(ctx context.Context, events []*matrix.Event) []error
	// MissingEvents asks for the events of a room that come before the latest, as far
	// back as the earliest, at most limit.
	MissingEvents(ctx context.Context, server, roomID string, earliest, latest []string, limit int) ([]json.RawMessage, error)
	// Backfill asks for events of a room and those before them, at most limit.
	Backfill(ctx context.Context, server, roomID string, from []string, limit int) ([]json.RawMessage, error)
	// StateIDs asks for the state before an event, and its auth chain.
	StateIDs(ctx context.Context, server, roomID, eventID string) (state, auth []string, err error)
	// State is StateIDs with the events themselves.
	State(ctx context.Context, server, roomID, eventID string) (state, auth []json.RawMessage, err error)
	// Event asks for one event.
	Event(ctx context.Context, server, eventID string) (json.RawMessage, error)
	// EventAuth asks for the auth chain of an event.
	EventAuth(ctx context.Context, server, roomID, eventID string) ([]json.RawMessage, error)
	// MakeMember asks a server for a template of a user's join, leave or knock.
	MakeMember(ctx context.Context, server, membership, roomID, userID string, versions []matrix.RoomVersion) (*Template, error)
	// SendJoin gives a server a join that was made of its template.
	SendJoin(ctx context.Context, server string, join *matrix.Event, omitMembers bool) (*SendJoinAnswer, error)
	// SendLeave gives a server a leave that was made of its template.
	SendLeave(ctx context.Context, server string, leave *matrix.Event) error
	// SendKnock gives a server a knock that was made of its template. It answers with
	// what the user is shown of the room.
	SendKnock(ctx context.Context, server string, knock *matrix.Event) ([]json.RawMessage, error)
	// SendInvite gives an invite to the server of the invited user, with what the user
	// is shown of the room. It answers with the event, signed by that server too.
	SendInvite(ctx context.Context, server string, invite *matrix.Event, state []json.RawMessage) (json.RawMessage, error)
	// ExchangeThirdPartyInvite asks the server of whoever has invited an address to invite
	// the user of this one who has it.
	ExchangeThirdPartyInvite(ctx context.Context, server, roomID string, event []byte) error
	// GuestsCanJoin asks whether a room welcomes guests.
	GuestsCanJoin(ctx context.Context, server, roomID string) (bool, error)
	// PolicySign asks a policy server for its signature of an event, in base64.
	PolicySign(ctx context.Context, server string, event []byte) (signature string, err error)
	// ResolveAlias asks the server of an alias which room it points to, and which
	// servers are in that.
	ResolveAlias(ctx context.Context, alias string) (roomID string, servers []string, err error)
	// Unavailable tells whether an error of the others says that the server cannot answer
	// now, and may later. A refusal does not.
	Unavailable(err error) bool
}

// SendJoinAnswer is what a server answers to a join.
type SendJoinAnswer struct {
	State, AuthChain []json.RawMessage
	// Event is the join with the server's own signature; nil if it added none.
	Event json.RawMessage
	// MembersOmitted tells that State lacks members.
	MembersOmitted bool
	// Servers are those in the room; nil unless members were omitted.
	Servers []string
}

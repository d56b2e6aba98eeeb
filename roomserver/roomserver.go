// Package roomserver keeps rooms: it makes and authorises events, orders them,
// keeps the history of each room's state and decides who may read what.
// It knows nothing of HTTP.
package roomserver

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"beep/matrix"
	"beep/storage"
)

// Options are what [New] needs.
type Options struct {
	DB             *storage.DB
	Signer         *matrix.Signer
	DefaultVersion matrix.RoomVersion // of new rooms
	// Remote reaches other servers; nil for a server that is alone.
	Remote Remote
	// Identity asks identity servers; nil if none may be asked.
	Identity Identity
	// AdmitSender is asked about every event of another server whether that may take
	// part; nil admits all.
	AdmitSender func(ctx context.Context, e *matrix.Event) error
	// AdmitInvitee is asked about every user of another server whom a user of this one
	// invites; nil admits all.
	AdmitInvitee func(ctx context.Context, userID string) error
	Logger       *slog.Logger
}

// Rooms is the room server. Its methods may be called from several goroutines.
type Rooms struct {
	db             *storage.DB
	signer         *matrix.Signer
	defaultVersion matrix.RoomVersion
	remote         Remote
	identity       Identity
	admitSender    func(ctx context.Context, e *matrix.Event) error
	admitInvitee   func(ctx context.Context, userID string) error
	log            *slog.Logger
	hot            *hotRooms
	inbound        *turns        // one at a time takes events of other servers into a room
	turnWait       time.Duration // how long events wait for their turn
	patience       *patience
	failing        *failing
	policing       *turns // a few at a time have a room's policy server sign what they send
	policyTime     time.Duration
	arrivals       *arrivals
	inviting       *arrivals // invites that other servers sign, by room and user
	states         *states
	lastCreate     lastCreate
	partial        *partialRooms
}

// inboundWait is how long events of other servers wait for those that come before them,
// so that what these lack is fetched once. A server that does not answer when it is asked for
// that holds up nobody for longer.
const inboundWait = 5 * time.Second

// New makes a room server on the database.
func New(o Options) *Rooms {
	return &Rooms{
		db: o.DB, signer: o.Signer, defaultVersion: o.DefaultVersion, log: o.Logger,
		remote: o.Remote, identity: o.Identity, admitSender: o.AdmitSender, admitInvitee: o.AdmitInvitee,
		hot: newHotRooms(o.DB), inbound: newTurns(1), turnWait: inboundWait, patience: newPatience(), failing: newFailing(), states: newStates(), partial: newPartialRooms(),
		policing: newTurns(policyAtOnce), policyTime: policyTime, arrivals: newArrivals(), inviting: newArrivals(),
	}
}

// DefaultVersion is the version of new rooms.
func (r *Rooms) DefaultVersion() matrix.RoomVersion { return r.defaultVersion }

// ServerName is the name of this server.
func (r *Rooms) ServerName() string { return r.signer.ServerName }

// local tells whether an id belongs to this server.
func (r *Rooms) local(id string) bool { return matrix.ServerOf(id) == r.signer.ServerName }

func nowMS() int64 { return time.Now().UnixMilli() }

// errNotInRoom answers alike for rooms that are unknown and rooms that the user
// may not see, so that nobody learns which rooms exist.
var errNotInRoom = matrix.Forbidden.With("You are not in this room, or it does not exist")

// Joined is the number of a room that the user is joined to; [matrix.Forbidden]
// for every other room, known or not.
func (r *Rooms) Joined(ctx context.Context, roomID, userID string) (int64, error) {
	room, err := r.db.RoomByID(ctx, roomID)
	if errors.Is(err, storage.ErrNotFound) {
		return 0, errNotInRoom
	} else if err != nil {
		return 0, err
	}
	m, err := r.db.MembershipIn(ctx, room.Number, userID)
	if errors.Is(err, storage.ErrNotFound) || err == nil && m.Membership != "join" {
		return 0, errNotInRoom
	}
	return room.Number, err
}

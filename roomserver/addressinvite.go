package roomserver

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"golang.org/x/text/cases"

	"beep/matrix"
	"beep/storage"
)

// Identity is how the room server asks identity servers about addresses outside of Matrix.
// What it gives has the form that it has to have.
type Identity interface {
	// Trusted refuses an identity server that is not to be asked.
	Trusted(server string) error
	// Lookup finds the user who has an address; "" for nobody.
	Lookup(ctx context.Context, q *AddressQuery) (userID string, err error)
	// StoreInvite has the server keep an invite until somebody has the address.
	StoreInvite(ctx context.Context, q *AddressQuery, room *InvitedRoom) (*StoredInvite, error)
	// KeyValid tells whether the key of an invite is still good.
	KeyValid(ctx context.Context, key InviteKey) (bool, error)
	// Verify refuses what no identity server that may be asked has signed.
	Verify(ctx context.Context, signed *matrix.Signed) error
}

// AddressQuery is about an address, at an identity server.
type AddressQuery struct {
	Server          string // the identity server
	Token           string // the user's access token there
	UserID          string // who asks
	Medium, Address string
}

// InvitedRoom is what an identity server tells whom it sends an invite.
type InvitedRoom struct {
	RoomID       string `json:"room_id"`
	Alias        string `json:"room_alias,omitempty"`
	Avatar       string `json:"room_avatar_url,omitempty"`
	JoinRule     string `json:"room_join_rules,omitempty"`
	Name         string `json:"room_name,omitempty"`
	Type         string `json:"room_type,omitempty"`
	SenderName   string `json:"sender_display_name,omitempty"`
	SenderAvatar string `json:"sender_avatar_url,omitempty"`
}

// InviteKey is a public key whose owner may say who has accepted an invite.
type InviteKey struct {
	Key         string `json:"public_key"`
	ValidityURL string `json:"key_validity_url,omitempty"`
}

// StoredInvite is an invite that an identity server keeps.
type StoredInvite struct {
	UserID      string // who has the address after all; then there is no invite
	Token       string
	DisplayName string
	Keys        []InviteKey
}

// AddressInvite asks to invite whoever has an address (client-server API, "Third-party
// invites").
type AddressInvite struct {
	AddressQuery
	Direct bool // is_direct, if the address is a user's
}

// maxAddress bounds an address, and an access token of an identity server, in bytes.
const maxAddress = 500

// check refuses an address that is none, and brings it into the form in which identity
// servers know it (appendices, "3PID Types").
func (i *AddressInvite) check() error {
	switch {
	case len(i.Address) > maxAddress || len(i.Token) > maxAddress:
		return matrix.InvalidParam.Withf("address and id_access_token have at most %d bytes", maxAddress)
	case i.Token == "" || strings.ContainsFunc(i.Token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return matrix.InvalidParam.With("id_access_token is missing, or is none")
	case i.Medium == "email":
		i.Address = cases.Fold().String(i.Address)
		at := strings.LastIndexByte(i.Address, '@')
		if at < 1 || at == len(i.Address)-1 || strings.ContainsAny(i.Address, "<>\" ") || strings.ContainsFunc(i.Address, isControl) {
			return matrix.InvalidParam.With("address must be a mail address, as alice@example.org")
		}
	case i.Medium == "msisdn":
		if i.Address == "" || strings.Trim(i.Address, "0123456789") != "" {
			return matrix.InvalidParam.With("address must be a telephone number in digits, with the country code and without +")
		}
	default:
		return matrix.ThreepidMediumDenied.With("medium must be email or msisdn")
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// checkAddress refuses to invite by an address where that cannot be.
func (r *Rooms) checkAddress(i *AddressInvite) error {
	if r.identity == nil {
		return matrix.ServerNotTrusted.With("Nobody can be invited by an address here: the operator of this server has named no identity server in identity_servers.allow")
	}
	if err := r.identity.Trusted(i.Server); err != nil {
		return err
	}
	return i.check()
}

// InviteAddress invites whoever has an address: the user who has it or, if that is nobody,
// who will have it some day. [matrix.ServerNotTrusted], [matrix.Forbidden].
func (r *Rooms) InviteAddress(ctx context.Context, roomID string, i AddressInvite) error {
	if err := r.checkAddress(&i); err != nil {
		return err
	}
	room, err := r.invitedRoom(ctx, roomID, i.UserID)
	if err != nil {
		return err
	}
	userID, err := r.identity.Lookup(ctx, &i.AddressQuery)
	if err != nil {
		return err
	}
	stored := &StoredInvite{UserID: userID}
	if userID == "" {
		if stored, err = r.identity.StoreInvite(ctx, &i.AddressQuery, room); err != nil {
			return err
		}
	}
	if stored.UserID != "" {
		return r.Invite(ctx, roomID, MemberChange{Sender: i.UserID, Target: stored.UserID, Direct: i.Direct})
	}
	content, err := stored.content(i.Address)
	if err != nil {
		return err
	}
	_, err = r.Send(ctx, roomID, Draft{Type: "m.room.third_party_invite", StateKey: &stored.Token, Sender: i.UserID, Content: content})
	return err
}

// content is that of m.room.third_party_invite. Nobody in the room learns the address.
func (s *StoredInvite) content(address string) (json.RawMessage, error) {
	name := s.DisplayName
	if strings.Contains(cases.Fold().String(name), address) {
		name = "…"
	}
	return json.Marshal(map[string]any{"display_name": name, "public_keys": s.Keys,
		"public_key": s.Keys[0].Key, "key_validity_url": s.Keys[0].ValidityURL})
}

// invitedRoom is what is told of a room to whom the user invites. [matrix.Forbidden]: the
// user may not invite anybody by an address.
func (r *Rooms) invitedRoom(ctx context.Context, roomID, userID string) (*InvitedRoom, error) {
	if _, err := r.Joined(ctx, roomID, userID); err != nil {
		return nil, err
	}
	told := &InvitedRoom{RoomID: roomID}
	err := r.hot.with(ctx, roomID, func(hot *hotRoom) error {
		b, token := r.begin(hot), "token"
		invite := Draft{Type: "m.room.third_party_invite", StateKey: &token, Sender: userID, Content: json.RawMessage("{}")}
		for name, field := range map[stateName]struct {
			key string
			to  *string
		}{
			{Type: "m.room.canonical_alias"}: {"alias", &told.Alias}, {Type: "m.room.avatar"}: {"url", &told.Avatar},
			{Type: "m.room.name"}: {"name", &told.Name}, joinRulesName: {"join_rule", &told.JoinRule}, createName: {"type", &told.Type},
		} {
			e, err := b.current(ctx, name)
			if err != nil {
				return err
			}
			if e != nil {
				*field.to = e.ContentString(field.key)
			}
		}
		member, err := b.current(ctx, memberName(userID))
		if err != nil || member == nil {
			return err
		}
		told.SenderName, told.SenderAvatar = member.ContentString("displayname"), member.ContentString("avatar_url")
		_, err = b.add(ctx, invite) // only to see whether it is allowed
		return err
	})
	return told, err
}

// inviteAddresses invites by addresses to a room that was just made. As for the users of
// other servers, the room is there whether that succeeds or not.
func (r *Rooms) inviteAddresses(ctx context.Context, roomID string, d *RoomDraft) {
	for _, i := range d.InviteAddresses {
		i.UserID, i.Direct = d.Creator, d.IsDirect
		if err := r.InviteAddress(ctx, roomID, i); err != nil {
			r.log.Warn("somebody could not be invited by an address", "room", roomID, "identity_server", i.Server, "error", err)
		}
	}
}

// Binding is an identity server's word that a user has an address, with the invites to
// that address (PUT /3pid/onbind).
type Binding struct {
	UserID  string
	Invites []BoundInvite
}

// BoundInvite is one of the invites.
type BoundInvite struct {
	UserID, RoomID, Sender string
	Signed                 json.RawMessage
}

// Bound has a user of this server invited to all rooms to which the address has been, by
// the servers of those who did. It goes on after a failure and gives the first.
// [matrix.NotFound], [matrix.Forbidden].
func (r *Rooms) Bound(ctx context.Context, b *Binding) error {
	if r.identity == nil {
		return matrix.Forbidden.With("The operator of this server has named no identity server in identity_servers.allow")
	}
	if !r.local(b.UserID) {
		return matrix.NotFound.With("There is no such user on this server")
	}
	if err := r.checkInvitee(ctx, b.UserID); err != nil {
		return err
	}
	var first error
	for _, invite := range b.Invites {
		if err := r.bound(ctx, b.UserID, invite); err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (r *Rooms) bound(ctx context.Context, userID string, invite BoundInvite) error {
	proof, err := readAddressProof(invite.Signed)
	if err != nil {
		return err
	}
	if invite.UserID != userID {
		return matrix.InvalidParam.With("The invite is for somebody else")
	}
	// Nobody knows who sends this, so it counts for nothing without the signature.
	if err := r.identity.Verify(ctx, proof.signed); err != nil {
		return err
	}
	return r.redeem(ctx, invite.RoomID, invite.Sender, userID, proof)
}

// ProveAddress has the user invited who proves to have an address that was invited
// (third_party_signed of a join).
func (r *Rooms) ProveAddress(ctx context.Context, roomID, userID string, signed json.RawMessage) error {
	proof, err := readAddressProof(signed)
	if err != nil {
		return err
	}
	return r.redeem(ctx, roomID, proof.sender, userID, proof)
}

// redeem has the user invited by whoever has invited the address: by this server, if that
// is a user of it, otherwise by that user's.
func (r *Rooms) redeem(ctx context.Context, roomID, sender, userID string, proof *addressProof) error {
	switch {
	case !matrix.ValidRoomID(roomID) || !matrix.ValidUserID(sender):
		return matrix.InvalidParam.With("The invite names no room, or nobody who invites")
	case proof.userID != userID:
		return matrix.Forbidden.With("What is signed is about somebody else")
	case r.local(sender):
		return r.inviteProven(ctx, roomID, sender, proof)
	case r.remote == nil:
		return errNowhere
	}
	// The room's id says nothing about where the room is.
	return r.remote.ExchangeThirdPartyInvite(ctx, matrix.ServerOf(sender), roomID, proof.request(roomID, sender))
}

// Exchange makes the invite of a user of the origin who proves to have an address that a
// user of this server has invited (server-server API, "Third-party invites"). Nothing of
// the event that is given goes into it but the proof. [matrix.NotFound],
// [matrix.InvalidParam], [matrix.Forbidden].
func (r *Rooms) Exchange(ctx context.Context, origin, roomID string, raw json.RawMessage) error {
	var asked struct {
		Type     string          `json:"type"`
		RoomID   string          `json:"room_id"`
		Sender   string          `json:"sender"`
		StateKey string          `json:"state_key"`
		Content  json.RawMessage `json:"content"`
	}
	var content struct {
		Membership string `json:"membership"`
		Invite     struct {
			Signed json.RawMessage `json:"signed"`
		} `json:"third_party_invite"`
	}
	if exactly(raw, &asked) != nil || exactly(asked.Content, &content) != nil {
		return matrix.BadJSON.With("This is not the invite of somebody who has an address")
	}
	switch {
	case asked.Type != "m.room.member" || asked.RoomID != roomID || content.Membership != "invite":
		return matrix.InvalidParam.With("The event is not an invite to the room that the path says")
	case !matrix.ValidUserID(asked.StateKey) || matrix.ServerOf(asked.StateKey) != origin:
		return matrix.Forbidden.With("The invited user is another server's")
	case !r.local(asked.Sender):
		return matrix.Forbidden.With("The event's sender is not a user of this server")
	}
	proof, err := readAddressProof(content.Invite.Signed)
	if err != nil {
		return err
	}
	if proof.userID != asked.StateKey {
		return matrix.Forbidden.With("What is signed is about somebody else")
	}
	return r.inviteProven(ctx, roomID, asked.Sender, proof)
}

// inviteProven invites the user who has proven to have an address, in the name of the user
// of this server who has invited that.
func (r *Rooms) inviteProven(ctx context.Context, roomID, sender string, proof *addressProof) error {
	if proof.sender != "" && proof.sender != sender {
		return matrix.Forbidden.With("What is signed is about somebody else's invite")
	}
	room, err := r.residentRoom(ctx, roomID)
	if err != nil {
		return err
	}
	member, err := r.db.MembershipIn(ctx, room.Number, proof.userID)
	if err == nil && member.Membership == "join" {
		return nil // an invite would put the user out of the room
	} else if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	invite, err := r.db.CurrentStateEvent(ctx, room.Number, "m.room.third_party_invite", proof.token)
	if errors.Is(err, storage.ErrNotFound) || err == nil && invite.Sender != sender {
		return matrix.Forbidden.With("This user has not invited that address, or has taken the invite back")
	} else if err != nil {
		return err
	}
	if err := r.checkKeys(ctx, invite.Content, proof); err != nil {
		return err
	}
	content, err := json.Marshal(map[string]any{"third_party_invite": map[string]any{
		"display_name": invite.ContentString("display_name"), "signed": proof.object}})
	if err != nil {
		return err
	}
	return r.Invite(ctx, roomID, MemberChange{Sender: sender, Target: proof.userID, Content: content})
}

// checkKeys refuses a proof that is not signed with a key of the invite that is still good
// (client-server API, "Third-party invites": the server that invites has to see to it).
func (r *Rooms) checkKeys(ctx context.Context, invite json.RawMessage, proof *addressProof) error {
	for _, key := range inviteKeys(invite) {
		switch {
		case !proof.signedBy(key.Key):
			continue
		case key.ValidityURL == "":
			return nil
		case r.identity == nil:
			return matrix.ServerNotTrusted.With("The key of this invite cannot be checked: the operator of this server has named no identity server in identity_servers.allow")
		}
		if valid, err := r.identity.KeyValid(ctx, key); valid || err != nil {
			return err
		}
	}
	return matrix.Forbidden.With("No key of the invite that is still good has signed this")
}

// maxInviteKeys bounds the keys of an invite that are tried.
const maxInviteKeys = 16

// inviteKeys are the keys of m.room.third_party_invite.
func inviteKeys(raw json.RawMessage) []InviteKey {
	var content struct {
		InviteKey
		Keys []InviteKey `json:"public_keys"`
	}
	if exactly(raw, &content) != nil {
		return nil
	}
	// What stands beside the list is there for those who do not know the list.
	if !slices.ContainsFunc(content.Keys, func(k InviteKey) bool { return k.Key == content.Key }) {
		content.Keys = append(content.Keys, content.InviteKey)
	}
	return content.Keys[:min(len(content.Keys), maxInviteKeys)]
}

package harness

import (
	"crypto/rand"
	"slices"
)

// CreateRoom makes a room and gives its id.
func (c *Client) CreateRoom(body Object) string {
	c.t.Helper()
	if body == nil {
		body = Object{}
	}
	id := c.Post("/v3/createRoom", body).OK().At("room_id").Str()
	if id == "" {
		c.t.Fatal("the new room has no id")
	}
	return id
}

// PublicRoom makes a room that others join, and lets them.
func (c *Client) PublicRoom(members ...*Client) string {
	c.t.Helper()
	room := c.CreateRoom(Object{"preset": "public_chat"})
	for _, m := range members {
		m.Join(room)
	}
	return room
}

// Join joins a room.
func (c *Client) Join(room string) {
	c.t.Helper()
	c.Post(Path("/v3/join/%s", room), nil).OK()
}

// Leave leaves a room.
func (c *Client) Leave(room string) {
	c.t.Helper()
	c.Post(Path("/v3/rooms/%s/leave", room), nil).OK()
}

// Change does an action (invite, kick, ban, unban) on another user.
func (c *Client) Change(action, room string, target *Client) *Response {
	c.t.Helper()
	return c.Post(Path("/v3/rooms/%s/%s", room, action), Object{"user_id": target.UserID})
}

// Text sends a text message and gives the event's id.
func (c *Client) Text(room, text string) string {
	c.t.Helper()
	return c.SendEvent(room, "m.room.message", rand.Text(), Object{"msgtype": "m.text", "body": text}).OK().At("event_id").Str()
}

// SendEvent sends an event that is no state.
func (c *Client) SendEvent(room, eventType, txnID string, content any) *Response {
	c.t.Helper()
	return c.Put(Path("/v3/rooms/%s/send/%s/%s", room, eventType, txnID), content)
}

// SetState sends a state event.
func (c *Client) SetState(room, eventType, key string, content any) *Response {
	c.t.Helper()
	return c.Put(Path("/v3/rooms/%s/state/%s/%s", room, eventType, key), content)
}

// State is the content of a state event.
func (c *Client) State(room, eventType, key string) *Response {
	c.t.Helper()
	return c.Get(Path("/v3/rooms/%s/state/%s/%s", room, eventType, key))
}

// Redact redacts an event and gives the redaction's id.
func (c *Client) Redact(room, event string) string {
	c.t.Helper()
	return c.Put(Path("/v3/rooms/%s/redact/%s/%s", room, event, rand.Text()), Object{"reason": "a slip"}).OK().At("event_id").Str()
}

// SetPower gives users power levels in a room, whose other levels stay.
func (c *Client) SetPower(room string, levels map[*Client]int) {
	c.t.Helper()
	content, _ := c.State(room, "m.room.power_levels", "").OK().Value().(Object)
	users, _ := content["users"].(Object)
	if users == nil {
		users = Object{}
	}
	for who, level := range levels {
		users[who.UserID] = level
	}
	content["users"] = users
	c.SetState(room, "m.room.power_levels", "", content).OK()
}

// History are the events that /messages shows, oldest first.
func (c *Client) History(room string) []JSON {
	c.t.Helper()
	var all []JSON
	for from := ""; ; {
		query := []string{"dir", "b", "limit", "50"}
		if from != "" {
			query = append(query, "from", from)
		}
		page := c.Get(Path("/v3/rooms/%s/messages", room), query...).OK()
		all = append(all, page.At("chunk").List()...)
		if from = page.At("end").Str(); from == "" {
			slices.Reverse(all)
			return all
		}
	}
}

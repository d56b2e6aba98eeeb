package account

import (
	"context"
	"encoding/json"
	"errors"

	"beep/matrix"
	"beep/storage"
)

const (
	tagType = "m.tag"
	maxTag  = 255 // bytes
)

// Tags are the tags that the user has put on a room: any JSON object by name
// (client-server API, "Room Tagging"). M_NOT_FOUND for a room that the user never
// had to do with.
func (a *Accounts) Tags(ctx context.Context, userID, roomID string) (map[string]json.RawMessage, error) {
	room, err := a.accountRoom(ctx, userID, roomID)
	if err != nil {
		return nil, err
	}
	d, err := a.db.AccountData(ctx, userID, room, tagType)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return nil, err
	}
	return tagsOf(d.Content), nil
}

// SetTag puts a tag on a room. Content is a JSON object that may have an order of 0
// to 1. M_INVALID_PARAM, M_TOO_LARGE, M_NOT_FOUND as for [Accounts.Tags].
func (a *Accounts) SetTag(ctx context.Context, userID, roomID, tag string, content json.RawMessage) error {
	if err := checkTag(tag, content); err != nil {
		return err
	}
	return a.updateTags(ctx, userID, roomID, func(tags map[string]json.RawMessage) bool {
		tags[tag] = content
		return true
	})
}

// DeleteTag takes a tag off a room, if it is there.
func (a *Accounts) DeleteTag(ctx context.Context, userID, roomID, tag string) error {
	return a.updateTags(ctx, userID, roomID, func(tags map[string]json.RawMessage) bool {
		_, there := tags[tag]
		delete(tags, tag)
		return there
	})
}

func checkTag(tag string, content json.RawMessage) error {
	if tag == "" || len(tag) > maxTag {
		return matrix.InvalidParam.Withf("The name of a tag has 1 to %d bytes", maxTag)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(content, &members); err != nil || members == nil {
		return matrix.BadJSON.With("A tag is a JSON object").Because(err)
	}
	raw, given := members["order"]
	if !given {
		return nil
	}
	var order *float64
	if err := json.Unmarshal(raw, &order); err != nil || order == nil || *order < 0 || *order > 1 {
		return matrix.InvalidParam.With("The order of a tag is a number from 0 to 1").Because(err)
	}
	return nil
}

// updateTags lets fn change the tags; it tells whether it did.
func (a *Accounts) updateTags(ctx context.Context, userID, roomID string, fn func(tags map[string]json.RawMessage) bool) error {
	return a.updateAccountData(ctx, userID, roomID, tagType, func(old json.RawMessage) (json.RawMessage, error) {
		tags := tagsOf(old)
		if !fn(tags) {
			return nil, nil // the storage's way to say: leave it as it is
		}
		content, err := json.Marshal(map[string]any{"tags": tags})
		if err != nil {
			return nil, err
		}
		return matrix.CanonicalJSON(content, false)
	})
}

// tagsOf reads the content of m.tag. Clients may write that as they like: what is
// no object of objects counts for nothing.
func tagsOf(content json.RawMessage) map[string]json.RawMessage {
	var read struct {
		Tags map[string]json.RawMessage `json:"tags"`
	}
	tags := map[string]json.RawMessage{}
	if content == nil || json.Unmarshal(content, &read) != nil {
		return tags
	}
	for tag, value := range read.Tags {
		if value[0] == '{' {
			tags[tag] = value
		}
	}
	return tags
}

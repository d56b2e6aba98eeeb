package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

const roomName = "Planning"

// meet lets the user of the one ministry make a room, and that of the other join it. It gives
// the room's id.
func meet(ctx context.Context, host, guest *ministry) (string, error) {
	tokens := map[*ministry]string{}
	for _, m := range []*ministry{host, guest} {
		var answer struct {
			AccessToken string `json:"access_token"`
		}
		login := map[string]any{"type": "m.login.password", "password": m.password, "identifier": map[string]string{"type": "m.id.user", "user": m.user}}
		if err := call(ctx, m, http.MethodPost, "/v3/login", "", login, &answer); err != nil {
			return "", err
		}
		tokens[m] = answer.AccessToken
	}
	var room struct {
		ID string `json:"room_id"`
	}
	creation := map[string]any{"name": roomName, "invite": []string{guest.userID()}}
	if err := call(ctx, host, http.MethodPost, "/v3/createRoom", tokens[host], creation, &room); err != nil {
		return "", err
	}
	if err := awaitInvite(ctx, guest, tokens[guest], room.ID); err != nil {
		return "", err
	}
	if err := call(ctx, guest, http.MethodPost, "/v3/join/"+url.PathEscape(room.ID), tokens[guest], struct{}{}, nil); err != nil {
		return "", err
	}
	path := "/v3/rooms/" + url.PathEscape(room.ID) + "/send/m.room.message/welcome"
	for _, m := range []*ministry{host, guest} {
		hello := map[string]string{"msgtype": "m.text", "body": "Greetings from the ministry of " + m.name}
		if err := call(ctx, m, http.MethodPut, path, tokens[m], hello, nil); err != nil {
			return "", err
		}
	}
	return room.ID, nil
}

// awaitInvite syncs until the invite has come from the other server.
func awaitInvite(ctx context.Context, m *ministry, token, room string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	since := ""
	for {
		var answer struct {
			NextBatch string `json:"next_batch"`
			Rooms     struct {
				Invite map[string]json.RawMessage `json:"invite"`
			} `json:"rooms"`
		}
		if err := call(ctx, m, http.MethodGet, "/v3/sync?timeout=5000"+since, token, nil, &answer); err != nil {
			return fmt.Errorf("waiting for the invite: %w", err)
		}
		if _, invited := answer.Rooms.Invite[room]; invited {
			return nil
		}
		since = "&since=" + url.QueryEscape(answer.NextBatch)
	}
}

// call asks a ministry's client API. Token, body and answer may be left out.
func call(ctx context.Context, m *ministry, method, path, token string, body, answer any) error {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, m.url()+"/_matrix/client"+path, content)
	if err != nil {
		return err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %s: %s %s", m.name, method, path, resp.Status, text)
	}
	if err != nil || answer == nil {
		return err
	}
	return json.Unmarshal(text, answer)
}

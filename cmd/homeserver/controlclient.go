package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"beep/account"
	"beep/matrix"
)

// controlAnswerMax bounds an answer of the control socket.
const controlAnswerMax = 16 << 20

// remoteUsers is the accounts of the server that runs, through its control socket.
type remoteUsers struct{ client *http.Client }

func newRemoteUsers(socket string) remoteUsers {
	return remoteUsers{&http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", socket)
		},
	}}}
}

// ServerName serves userAdmin.
func (u remoteUsers) ServerName(ctx context.Context) (string, error) {
	var answer controlServerResponse
	err := u.do(ctx, http.MethodGet, controlServer, nil, &answer)
	return answer.ServerName, err
}

// Create serves userAdmin.
func (u remoteUsers) Create(ctx context.Context, name, password string, admin bool) (string, error) {
	return u.change(ctx, controlCreate, controlUserBody{Name: name, Password: password, Admin: admin})
}

// ResetPassword serves userAdmin.
func (u remoteUsers) ResetPassword(ctx context.Context, name, password string, keepDevices bool) (string, error) {
	return u.change(ctx, controlReset, controlUserBody{Name: name, Password: password, KeepDevices: keepDevices})
}

// Deactivate serves userAdmin.
func (u remoteUsers) Deactivate(ctx context.Context, name string, erase bool) (string, error) {
	return u.change(ctx, controlDeactivate, controlUserBody{Name: name, Erase: erase})
}

// List serves userAdmin.
func (u remoteUsers) List(ctx context.Context, after string, limit int) ([]account.User, error) {
	query := url.Values{"after": {after}, "limit": {strconv.Itoa(limit)}}
	var answer controlListResponse
	err := u.do(ctx, http.MethodGet, controlUsers+"?"+query.Encode(), nil, &answer)
	return answer.Users, err
}

func (u remoteUsers) change(ctx context.Context, path string, body controlUserBody) (string, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return "", err
	}
	var answer controlUserResponse
	err = u.do(ctx, http.MethodPost, path, text, &answer)
	return answer.UserID, err
}

// do asks the server and decodes its answer. What it refuses is a [matrix.Error].
func (u remoteUsers) do(ctx context.Context, method, path string, body []byte, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://control"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := u.client.Do(req)
	if err != nil {
		return fmt.Errorf("the server runs and does not answer on its control socket: %w", errors.Unwrap(err))
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, controlAnswerMax))
	if err != nil {
		return fmt.Errorf("reading the server's answer: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return refusal(res.StatusCode, text)
	}
	return json.Unmarshal(text, answer)
}

func refusal(status int, text []byte) error {
	var e struct {
		Code    string `json:"errcode"`
		Message string `json:"error"`
	}
	if err := json.Unmarshal(text, &e); err != nil || e.Message == "" {
		return fmt.Errorf("the server answered with status %d", status)
	}
	return &matrix.Error{Status: status, Code: e.Code, Message: e.Message}
}

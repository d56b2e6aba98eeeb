// Package identitytest has an identity server for tests, over HTTPS.
package identitytest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"beep/matrix"
	"beep/outbound/outboundtest"
)

// Pepper is what addresses are hashed with.
const Pepper = "matrixrocks"

// Server is an identity server. Everybody's access token is their user id, in capitals.
type Server struct {
	// Name is what clients call it, a name of this machine with a port.
	Name string

	t      testing.TB
	signer *matrix.Signer

	mu      sync.Mutex
	users   map[string]string // by medium and address
	invites map[string][]Invite
	revoked bool
	altered map[string]Answer
	asked   []Request
}

// Invite is an invite that the server keeps.
type Invite struct {
	RoomID string `json:"room_id"`
	Sender string `json:"sender"`
	Name   string `json:"room_name"`
	Token  string `json:"-"`
}

// Answer is what the server says in the place of the right thing.
type Answer struct {
	Status int
	Body   string
}

// Request is what it was asked.
type Request struct{ Method, Path, Token, Body string }

// New starts a server with a certificate of the authority.
func New(t testing.TB, ca *outboundtest.CA) *Server {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, users: map[string]string{}, invites: map[string][]Invite{}, altered: map[string]Answer{}}
	listener := httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	listener.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Certificate(t, "localhost")}}
	listener.Config.ErrorLog = log.New(io.Discard, "", 0)
	listener.StartTLS()
	t.Cleanup(listener.Close)
	s.Name = strings.Replace(listener.Listener.Addr().String(), "127.0.0.1", "localhost", 1)
	s.signer = &matrix.Signer{ServerName: s.Name, KeyID: "ed25519:0", Key: key}
	return s
}

// Token is a user's access token.
func Token(userID string) string { return strings.ToUpper(userID) }

// Alter has the server answer wrongly at a path below /_matrix/identity/v2; an [Answer]
// without status takes that back.
func (s *Server) Alter(path string, a Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.altered[path] = a
}

// Revoke makes the server's keys invalid.
func (s *Server) Revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked = true
}

// Requests are those that have come.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.asked...)
}

// Has lets a user have a mail address, without telling anybody.
func (s *Server) Has(address, userID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users["email "+address] = userID
}

// Bind lets a user have a mail address, and gives what the user's server is told of it: the
// body of PUT /3pid/onbind.
func (s *Server) Bind(address, userID string) []byte {
	s.t.Helper()
	s.Has(address, userID)
	s.mu.Lock()
	defer s.mu.Unlock()
	invites := []any{}
	for _, i := range s.invites["email "+address] {
		invites = append(invites, map[string]any{"medium": "email", "address": address, "mxid": userID, "room_id": i.RoomID,
			"sender": i.Sender, "signed": s.Sign(fmt.Sprintf(`{"mxid":%q,"token":%q}`, userID, i.Token))})
	}
	text, err := json.Marshal(map[string]any{"medium": "email", "address": address, "mxid": userID, "invites": invites})
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

// Sign is an object with the server's signature.
func (s *Server) Sign(object string) json.RawMessage {
	s.t.Helper()
	text, err := s.signer.SignJSON([]byte(object))
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	path := strings.TrimPrefix(r.URL.Path, "/_matrix/identity/v2")
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, Request{r.Method, path, token, string(body)})
	status, answer := s.answer(r.Method+" "+path, token, body, r.URL.Query().Get("public_key"))
	if a := s.altered[path]; a.Status != 0 {
		status, answer = a.Status, json.RawMessage(a.Body)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if raw, ok := answer.(json.RawMessage); ok {
		w.Write(raw) // which need not be JSON
		return
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		s.t.Error(err)
	}
}

type object = map[string]any

func (s *Server) key() string {
	return base64.RawStdEncoding.EncodeToString(s.signer.Key.Public().(ed25519.PublicKey))
}

func (s *Server) answer(request, token string, body []byte, key string) (int, any) {
	switch request {
	case "GET /pubkey/ed25519:0":
		return http.StatusOK, object{"public_key": s.key()}
	case "GET /pubkey/isvalid":
		return http.StatusOK, object{"valid": key == s.key() && !s.revoked}
	}
	userID := strings.ToLower(token)
	if userID == "" || userID == token {
		return http.StatusUnauthorized, object{"errcode": "M_UNAUTHORIZED", "error": "no"}
	}
	switch request {
	case "GET /account":
		return http.StatusOK, object{"user_id": userID}
	case "GET /hash_details":
		return http.StatusOK, object{"lookup_pepper": Pepper, "algorithms": []string{"none", "sha256"}}
	case "POST /lookup":
		return s.lookup(body)
	case "POST /store-invite":
		return s.store(body)
	}
	return http.StatusNotFound, object{"errcode": "M_UNRECOGNIZED", "error": "no"}
}

func (s *Server) lookup(body []byte) (int, any) {
	var q struct {
		Algorithm, Pepper string
		Addresses         []string
	}
	if json.Unmarshal(body, &q) != nil || q.Algorithm != "sha256" {
		return http.StatusBadRequest, object{"errcode": "M_INVALID_PARAM", "error": "no"}
	}
	if q.Pepper != Pepper {
		return http.StatusBadRequest, object{"errcode": "M_INVALID_PEPPER", "error": "no"}
	}
	mappings := object{}
	for address, userID := range s.users {
		medium, address, _ := strings.Cut(address, " ")
		sum := sha256.Sum256([]byte(address + " " + medium + " " + Pepper))
		hash := base64.RawURLEncoding.EncodeToString(sum[:])
		if bytes.Contains(body, []byte(hash)) {
			mappings[hash] = userID
		}
	}
	return http.StatusOK, object{"mappings": mappings}
}

func (s *Server) store(body []byte) (int, any) {
	var q struct {
		Invite
		Medium  string `json:"medium"`
		Address string `json:"address"`
	}
	if err := json.Unmarshal(body, &q); err != nil || q.Medium != "email" {
		return http.StatusBadRequest, object{"errcode": "M_UNRECOGNIZED", "error": "no"}
	}
	if userID := s.users["email "+q.Address]; userID != "" {
		return http.StatusBadRequest, object{"errcode": "M_THREEPID_IN_USE", "error": "no", "mxid": userID}
	}
	kept := s.invites["email "+q.Address]
	q.Token = fmt.Sprintf("token.%d", len(s.asked))
	s.invites["email "+q.Address] = append(kept, q.Invite)
	keys := []object{{"public_key": s.key(), "key_validity_url": "https://" + s.Name + "/_matrix/identity/v2/pubkey/isvalid"}}
	return http.StatusOK, object{"token": q.Token, "display_name": q.Address[:1] + "…", "public_keys": keys}
}

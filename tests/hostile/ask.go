package hostile

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"beep/federation/xmatrix"
	"beep/matrix"
	"beep/tests/harness"
)

// The versions of the server-server API.
const (
	V1 = "/_matrix/federation/v1"
	V2 = "/_matrix/federation/v2"
)

// Answer is what the server under attack has answered.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
	harness.JSON
	s     *Server
	asked string
}

// OK ends the test unless the answer is 200.
func (a *Answer) OK() *Answer {
	a.s.t.Helper()
	if a.Status != http.StatusOK {
		a.s.t.Fatalf("%s: status %d, not 200\n%.500s", a.asked, a.Status, a.Body)
	}
	return a
}

// Refused fails the test unless the answer is an error with one of these statuses.
func (a *Answer) Refused(what string, statuses ...int) *Answer {
	a.s.t.Helper()
	if !slices.Contains(statuses, a.Status) || a.At("errcode").Str() == "" {
		a.s.t.Errorf("%s: %s: status %d, not an error of %v\n%.500s", what, a.asked, a.Status, statuses, a.Body)
	}
	return a
}

// Ask sends a request that is signed as it has to be. A nil body is none; text and bytes are
// sent as they are.
func (s *Server) Ask(method, uri string, body any) *Answer {
	s.t.Helper()
	var content []byte
	if body != nil {
		content = jsonOf(s.t, body)
	}
	return s.Request(method, uri, content, s.Authorization(method, uri, content))
}

// Get is [Server.Ask] for what has no body.
func (s *Server) Get(uri string) *Answer {
	s.t.Helper()
	return s.Ask(http.MethodGet, uri, nil)
}

// Put is [Server.Ask] for what is put.
func (s *Server) Put(uri string, body any) *Answer {
	s.t.Helper()
	return s.Ask(http.MethodPut, uri, body)
}

// Post is [Server.Ask] for what is posted.
func (s *Server) Post(uri string, body any) *Answer {
	s.t.Helper()
	return s.Ask(http.MethodPost, uri, body)
}

// Authorization is the header's value for a request. What has no canonical form is signed as
// it is.
func (s *Server) Authorization(method, uri string, content []byte) string {
	if canonical, err := matrix.CanonicalJSON(content, false); err == nil {
		content = canonical
	}
	return xmatrix.Sign(s.Signer, s.victim.Name, method, uri, content)
}

// Request sends a request with these Authorization headers, of whatever kind.
func (s *Server) Request(method, uri string, content []byte, authorization ...string) *Answer {
	s.t.Helper()
	var body io.Reader
	if content != nil {
		body = bytes.NewReader(content)
	}
	r, err := http.NewRequestWithContext(s.t.Context(), method, "https://"+s.victim.Name+uri, body)
	if err != nil {
		s.t.Fatal(err)
	}
	if content != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header["Authorization"] = authorization
	resp, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	a := &Answer{Status: resp.StatusCode, Header: resp.Header, s: s, asked: method + " " + uri}
	if a.Body, err = io.ReadAll(resp.Body); err != nil {
		s.t.Fatal(err)
	}
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "multipart/mixed") {
		a.JSON, err = harness.ParseJSON(a.Body)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// Transaction sends PDUs and EDUs, each a [*matrix.Event], a [*Forged], text that need be no
// JSON, or anything else that becomes JSON.
func (s *Server) Transaction(pdus, edus []any) *Answer {
	s.t.Helper()
	s.mu.Lock()
	s.txns++
	uri := fmt.Sprintf("%s/send/t%d", V1, s.txns)
	s.mu.Unlock()
	list := func(values []any) string {
		all := make([]string, len(values))
		for i, value := range values {
			all[i] = string(jsonOf(s.t, value))
		}
		return strings.Join(all, ",")
	}
	return s.Put(uri, fmt.Sprintf(`{"origin":%q,"origin_server_ts":1,"pdus":[%s],"edus":[%s]}`, s.Name, list(pdus), list(edus)))
}

// Send is a transaction with PDUs that the server under attack has to answer with 200. It
// gives the ids of those that it says it did not take, sorted, with the reasons.
func (s *Server) Send(pdus ...any) Refusals {
	s.t.Helper()
	refused := Refusals{}
	results := s.Transaction(pdus, nil).OK().At("pdus")
	for _, id := range results.Keys() {
		if reason := results.At(id, "error"); reason.Exists() {
			refused[id] = reason.Str()
		}
	}
	return refused
}

// SendEDU sends an EDU of a type, which the server under attack has to answer with 200.
func (s *Server) SendEDU(eduType string, content any) {
	s.t.Helper()
	s.Transaction(nil, []any{harness.Object{"edu_type": eduType, "content": content}}).OK()
}

// Refusals are the reasons for which PDUs were not taken, by event id.
type Refusals map[string]string

// IDs are those of the PDUs, sorted.
func (r Refusals) IDs() []string { return slices.Sorted(maps.Keys(r)) }

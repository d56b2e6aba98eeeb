package contract

import (
	"path"
	"slices"
	"strings"
)

// Erratum lets pass what the schemas refuse although the specification as a whole allows it.
type Erratum struct {
	Name       string   // unique
	Operations []string // beginnings of operation names; none means every operation
	Part       string   // beginning of Fault.Part; "" means every part
	Rule       string
	At         []string // ends of Fault.At, where * stands for one key; "" is the whole part; none means every place
	Reason     string
}

// The operations that carry one PDU of a membership event, of which their schemas name a few keys.
var (
	sendMembership = []string{"PUT /_matrix/federation/v1/send_", "PUT /_matrix/federation/v2/send_", "PUT /_matrix/federation/v1/invite/"}
	wrapMembership = []string{"PUT /_matrix/federation/v2/invite/", "PUT /_matrix/federation/v1/invite/", "GET /_matrix/federation/v1/make_"}
	pduKeys        = []string{"auth_events", "prev_events", "prev_state", "depth", "hashes", "signatures", "room_id", "event_id", "unsigned", "content/*"}
)

// errata holds what is known. Each entry is exercised by the tests of this package, so that one that a newer version of
// the specification has made superfluous is found.
var errata = []Erratum{{
	Name:       "sender of presence",
	Operations: []string{"GET /_matrix/client/v3/sync", "GET /_matrix/client/v3/initialSync", "PUT /_matrix/app/v1/transactions/"},
	Rule:       "undeclared", At: []string{"presence/events/*/sender", "presence/*/sender", "ephemeral/*/sender"},
	Reason: "the m.presence event has a sender: its schema requires it",
}, {
	Name:       "room of ephemeral event",
	Operations: []string{"PUT /_matrix/app/v1/transactions/"},
	Part:       "request", Rule: "undeclared", At: []string{"ephemeral/*/room_id"},
	Reason: "m.typing and m.receipt need their room where the place does not tell it (application service API: pushing ephemeral data)",
}, {
	Name:       "stream of more than room events",
	Operations: []string{"GET /_matrix/client/v3/events"},
	Part:       "response 200", Rule: "required", At: []string{"chunk/*/event_id", "chunk/*/sender", "chunk/*/origin_server_ts", "chunk/*/room_id"},
	Reason: "presence, typing, receipts and account data come in the stream too, as they always did",
}, {
	Name:       "stripped state of member event",
	Operations: []string{"GET /_matrix/client/v3/events", "GET /_matrix/client/v3/initialSync"},
	Part:       "response 200", Rule: "undeclared", At: []string{"unsigned/invite_room_state", "unsigned/knock_room_state"},
	Reason: "the m.room.member event has them: its schema describes them",
}, {
	Name:       "room of notification",
	Operations: []string{"GET /_matrix/client/v3/notifications"},
	Part:       "response 200", Rule: "undeclared", At: []string{"event/room_id"},
	Reason: "in the example; harmless beside the room_id of the notification",
}, {
	Name:       "unused fallback keys",
	Operations: []string{"GET /_matrix/client/v3/sync"},
	Part:       "response 200", Rule: "undeclared", At: []string{"/device_unused_fallback_key_types"},
	Reason: "described in the prose only (end-to-end encryption: extensions to /sync)",
}, {
	Name:       "fallback key",
	Operations: []string{"POST /_matrix/client/v3/keys/upload", "POST /_matrix/client/v3/keys/claim", "POST /_matrix/federation/v1/user/keys/claim"},
	Rule:       "undeclared", At: []string{"fallback_keys/*/fallback", "one_time_keys/*/*/*/fallback"},
	Reason: "a property of key objects (end-to-end encryption: key algorithms)",
}, {
	Name: "redacts beside content",
	Rule: "undeclared", At: []string{"redacts"},
	Reason: "where redactions name their event before room version 11, and servers copy it for older clients after (redactions)",
}, {
	Name: "redacted by",
	Rule: "undeclared", At: []string{"unsigned/redacted_by"},
	Reason: "servers add the id of the redaction beside redacted_because",
}, {
	Name:       "children of federated spaces",
	Operations: []string{"GET /_matrix/federation/v1/hierarchy/"},
	Part:       "response 200", Rule: "undeclared", At: []string{"children/*/children_state"},
	Reason: "in the example; servers send it",
}, {
	Name:       "keys of sent membership",
	Operations: sendMembership,
	Part:       "request", Rule: "undeclared", At: pduKeys,
	Reason: "the body is a full PDU",
}, {
	Name:       "keys of wrapped membership",
	Operations: wrapMembership,
	Rule:       "undeclared", At: prefixed("event/", pduKeys),
	Reason: "the event is a full PDU or a template of one",
}, {
	Name:       "origin of membership",
	Operations: slices.Concat(sendMembership, wrapMembership),
	Rule:       "required", At: []string{"origin"},
	Reason: "no event format has an origin",
}, {
	Name: "error of authentication stage",
	Part: "response 401", Rule: "undeclared", At: []string{"/errcode", "/error"},
	Reason: "a failed stage is told beside the flows (user-interactive authentication API in the REST API)",
}, {
	Name: "soft logout",
	Part: "response 401", Rule: "undeclared", At: []string{"/soft_logout"},
	Reason: "a parameter of M_UNKNOWN_TOKEN and M_USER_LOCKED (soft logout; account locking)",
}, {
	Name: "admin contact",
	Part: "response 4", Rule: "undeclared", At: []string{"/admin_contact"},
	Reason: "a required parameter of M_RESOURCE_LIMIT_EXCEEDED (common error codes)",
}, {
	Name: "page about a limit",
	Part: "response 403", Rule: "undeclared", At: []string{"/info_uri", "/can_upgrade"},
	Reason: "parameters of M_USER_LIMIT_EXCEEDED (common error codes)",
}, {
	Name:       "current backup version",
	Operations: []string{"PUT /_matrix/client/v3/room_keys/keys"},
	Part:       "response 403", Rule: "undeclared", At: []string{"/current_version"},
	Reason: "a parameter of M_WRONG_ROOM_KEYS_VERSION, described and in the examples",
}, {
	Name: "method of accepted verification",
	Rule: "required", At: []string{"content/method"},
	Reason: "required of m.key.verification.accept, and no property of it: the method stands in m.key.verification.start",
}}

func prefixed(prefix string, texts []string) []string {
	texts = slices.Clone(texts)
	for i := range texts {
		texts[i] = prefix + texts[i]
	}
	return texts
}

// forgive removes the faults that an erratum excuses, and returns the names of the errata used. op is nil for an
// exchange that belongs to no operation.
func forgive(op *Operation, faults []Fault) (left []Fault, used []string) {
	for _, f := range faults {
		i := slices.IndexFunc(errata, func(e Erratum) bool { return e.excuses(op, f) })
		if i < 0 {
			left = append(left, f)
			continue
		}
		used = append(used, errata[i].Name)
	}
	return left, used
}

func (e Erratum) excuses(op *Operation, f Fault) bool {
	begins := func(name string) bool { return op != nil && strings.HasPrefix(op.Name, name) }
	ends := func(pattern string) bool { return endsWith(f.At, pattern) }
	return e.Rule == f.Rule && strings.HasPrefix(f.Part, e.Part) &&
		(len(e.Operations) == 0 || slices.ContainsFunc(e.Operations, begins)) &&
		(len(e.At) == 0 || slices.ContainsFunc(e.At, ends))
}

// endsWith reports whether the last keys of a JSON pointer match a pattern. A pattern with a slash in front has to
// match the whole pointer.
func endsWith(pointer, pattern string) bool {
	keys := strings.Split(pointer, "/")
	n := strings.Count(pattern, "/") + 1
	if n > len(keys) || pattern == "" {
		return pointer == pattern
	}
	if strings.HasPrefix(pattern, "/") && n != len(keys) {
		return false
	}
	ok, err := path.Match(pattern, strings.Join(keys[len(keys)-n:], "/"))
	return ok && err == nil
}

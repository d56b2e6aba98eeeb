package contract

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// load returns the specification. A missing folder fails the test: nothing here can be skipped.
func load(t testing.TB) *Spec {
	t.Helper()
	dir, err := DefaultDir()
	if err != nil {
		t.Fatal(err)
	}
	s, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// place is a schema with the part of the exchange it is for.
type place struct {
	op     *Operation
	part   string
	media  node // holder of the schema: parameter or media type
	schema node
}

// places lists every schema of every operation.
func places(t testing.TB, s *Spec) (all []place) {
	t.Helper()
	for _, op := range s.Operations() {
		for _, p := range op.parameters {
			all = append(all, place{op, "request " + p.in, parent(t, s, p.schema), p.schema})
		}
		if op.body != nil {
			for _, mediaType := range slices.Sorted(maps.Keys(op.body.content)) {
				n := op.body.content[mediaType]
				all = append(all, place{op, "request", parent(t, s, n), n})
			}
		}
		for _, status := range slices.Sorted(maps.Keys(op.responses)) {
			r := op.responses[status]
			for _, mediaType := range slices.Sorted(maps.Keys(r.content)) {
				n := r.content[mediaType]
				all = append(all, place{op, fmt.Sprintf("response %d", status), parent(t, s, n), n})
			}
		}
	}
	return all
}

// parent returns the node that holds n.
func parent(t testing.TB, s *Spec, n node) node {
	t.Helper()
	doc, err := s.docs.open(n.file)
	if err != nil {
		t.Fatal(err)
	}
	keys := splitPointer(n.pointer)
	return doc.at(keys[:len(keys)-1]...)
}

// examples returns the examples for a place: those of the parameter or media type, and that of the schema.
func (p place) examples(t testing.TB, s *Spec) (examples []any) {
	t.Helper()
	add := func(n node) {
		if n.value != nil {
			examples = append(examples, resolve(t, s, n))
		}
	}
	add(p.media.at("example"))
	for _, name := range slices.Sorted(maps.Keys(p.media.at("examples").object())) {
		example, err := s.docs.deref(p.media.at("examples", name))
		if err != nil {
			t.Fatal(err)
		}
		add(example.at("value"))
	}
	schema, err := s.docs.deref(p.schema)
	if err != nil {
		t.Fatal(err)
	}
	add(schema.at("example"))
	return examples
}

// resolve replaces the references inside an example, an extension of the specification's own: the keys beside a
// reference are merged into what it leads to.
func resolve(t testing.TB, s *Spec, n node) any {
	t.Helper()
	switch value := n.value.(type) {
	case map[string]any:
		merged := map[string]any{}
		if _, ok := value["$ref"].(string); ok {
			target, err := s.docs.step(n)
			if err != nil {
				t.Fatal(err)
			}
			base, isObject := resolve(t, s, target).(map[string]any)
			if !isObject {
				return resolve(t, s, target)
			}
			merged = base
		}
		for key := range value {
			if key != "$ref" {
				merged[key] = resolve(t, s, n.at(key))
			}
		}
		return merged
	case []any:
		list := make([]any, len(value))
		for i := range value {
			list[i] = resolve(t, s, n.at(strconv.Itoa(i)))
		}
		return list
	}
	return n.value
}

// knownFaults are those of the specification's own examples.
var knownFaults = []string{
	"GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId} response 200 at /chunk/0/content/body: is missing",
	"GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId} response 200 at /chunk/0/content/msgtype: is missing",
	"GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}/{relType} response 200 at /chunk/0/content/body: is missing",
	"GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}/{relType} response 200 at /chunk/0/content/msgtype: is missing",
	"GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}/{relType}/{eventType} response 200 at /chunk/0/content/body: is missing",
	"GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}/{relType}/{eventType} response 200 at /chunk/0/content/msgtype: is missing",
	"GET /_matrix/client/v3/rooms/{roomId}/initialSync response 200 at /account_data/0/content/tags/work/order: got string, want number",
	"GET /_matrix/client/v3/thirdparty/protocols response 200 at /gitter/icon: is missing",

	"GET /_matrix/client/v3/initialSync response 200 at /presence/0/sender: is not declared",
	"GET /_matrix/client/v3/notifications response 200 at /notifications/0/event/room_id: is not declared",
	"GET /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey} response 200 at /name: is not declared",
	"GET /_matrix/client/v3/sync response 200 at /presence/events/0/sender: is not declared",
	"GET /_matrix/federation/v1/hierarchy/{roomId} response 200 at /children/0/children_state: is not declared",
	"GET /_matrix/federation/v1/make_join/{roomId}/{userId} response 200 at /event/room_id: is not declared",
	"GET /_matrix/federation/v1/make_knock/{roomId}/{userId} response 200 at /event/room_id: is not declared",
	"GET /_matrix/federation/v1/make_leave/{roomId}/{userId} response 200 at /event/room_id: is not declared",
	"POST /_matrix/client/v3/refresh response 401 at /soft_logout: is not declared",
	"PUT /_matrix/app/v1/transactions/{txnId} request at /ephemeral/0/room_id: is not declared",
	"PUT /_matrix/app/v1/transactions/{txnId} request at /ephemeral/1/sender: is not declared",
	"PUT /_matrix/client/v3/room_keys/keys response 403 at /current_version: is not declared",
	"PUT /_matrix/client/v3/room_keys/keys/{roomId} response 403 at /current_version: is not declared",
	"PUT /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId} response 403 at /current_version: is not declared",
	"PUT /_matrix/federation/v1/invite/{roomId}/{eventId} response 200 at /1/event/room_id: is not declared",
	"PUT /_matrix/federation/v1/invite/{roomId}/{eventId} response 200 at /1/event/signatures: is not declared",
	"PUT /_matrix/federation/v1/invite/{roomId}/{eventId} response 200 at /1/event/unsigned: is not declared",
	"PUT /_matrix/federation/v2/invite/{roomId}/{eventId} response 200 at /event/room_id: is not declared",
	"PUT /_matrix/federation/v2/invite/{roomId}/{eventId} response 200 at /event/signatures: is not declared",
	"PUT /_matrix/federation/v2/invite/{roomId}/{eventId} response 200 at /event/unsigned: is not declared",
}

// TestExamples checks every example of every operation: one fault more is one of the checker, one fault less means that
// the specification was mended and the list of errata may be shorter.
func TestExamples(t *testing.T) {
	s := load(t)
	all := places(t, s)
	examples := 0
	var faults []string
	for _, p := range all {
		if _, err := s.docs.schema(p.schema); err != nil {
			t.Errorf("%s %s: %v", p.op.Name, p.part, err)
		}
		for _, example := range p.examples(t, s) {
			examples++
			for _, f := range exampleFaults(s, p, example) {
				faults = append(faults, p.op.Name+" "+Fault{Part: f.Part, At: f.At, Message: f.Message}.String())
			}
		}
	}
	t.Logf("%d operations, %d schemas compiled for %d places, %d examples", len(s.Operations()), len(s.docs.compiled), len(all), examples)
	if len(s.Operations()) != 212 || examples != 720 {
		t.Errorf("%d operations and %d examples, want 212 and 720", len(s.Operations()), examples)
	}
	slices.Sort(faults)
	want := slices.Sorted(slices.Values(knownFaults))
	if diff := cmp.Diff(want, faults); diff != "" {
		t.Errorf("faults of the examples (-known +found):\n%s", diff)
	}
}

func exampleFaults(s *Spec, p place, example any) []Fault {
	faults := s.docs.validate(p.schema, example, p.part, "")
	faults = append(faults, s.docs.undeclared(p.schema, example, p.part, "")...)
	return append(faults, s.checkContents(example, p.part)...)
}

// TestEventExamples checks the examples of the event types against the schemas of whole events.
func TestEventExamples(t *testing.T) {
	s := load(t)
	folder := filepath.Join(s.docs.root, "event-schemas")
	files, err := filepath.Glob(filepath.Join(folder, "examples", "m.*.yaml"))
	if err != nil || len(files) != 83 {
		t.Fatalf("%d examples, want 83 (%v)", len(files), err)
	}
	for _, file := range files {
		example, err := s.docs.open(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		schema := filepath.Join(folder, "schema", name+".yaml")
		if !exists(schema) { // an example of a variant that has no schema of its own
			name, _, _ = strings.Cut(name, "$")
			schema = filepath.Join(folder, "schema", name+".yaml")
		}
		value := resolve(t, s, example)
		for _, f := range append(s.docs.validate(node{file: schema}, value, name, ""), s.checkContents(value, name)...) {
			t.Error(f)
		}
	}
}

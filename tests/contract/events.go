package contract

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// eventFile is a schema of an event type, or of the messages of one msgtype.
type eventFile struct{ path, msgtype string }

// eduPrefix tells EDU types from event types of the same name in Spec.events.
const eduPrefix = "edu "

func listEvents(dir string) (map[string][]eventFile, error) {
	events := map[string][]eventFile{}
	for folder, prefix := range map[string]string{
		filepath.Join(dir, "event-schemas", "schema"):                              "",
		filepath.Join(dir, "api", "server-server", "definitions", "event-schemas"): eduPrefix,
	} {
		files, err := filepath.Glob(filepath.Join(folder, "m.*.yaml"))
		if err != nil {
			return nil, err
		}
		for _, path := range files {
			eventType, variant, _ := strings.Cut(strings.TrimSuffix(filepath.Base(path), ".yaml"), "$")
			events[prefix+eventType] = append(events[prefix+eventType], eventFile{path, variant})
		}
	}
	return events, nil
}

// checkContents looks for events and EDUs anywhere in a body and checks their contents. Only the contents: the schemas
// of whole events demand keys that some places leave out, as /sync does with room_id.
func (s *Spec) checkContents(body any, part string) []Fault {
	var faults []Fault
	s.walkContents(body, part, "", &faults)
	return faults
}

func (s *Spec) walkContents(value any, part, at string, faults *[]Fault) {
	switch value := value.(type) {
	case map[string]any:
		content, isObject := value["content"].(map[string]any)
		if eventType, ok := value["type"].(string); ok && isObject && !redacted(value) {
			*faults = append(*faults, s.checkContent(eventType, content, part, at+"/content")...)
		}
		if eduType, ok := value["edu_type"].(string); ok && isObject {
			*faults = append(*faults, s.checkContent(eduPrefix+eduType, content, part, at+"/content")...)
		}
		for _, key := range slices.Sorted(maps.Keys(value)) {
			if deeper(value[key]) {
				s.walkContents(value[key], part, at+"/"+escapeKey(key), faults)
			}
		}
	case []any:
		for i, item := range value {
			if deeper(item) {
				s.walkContents(item, part, at+"/"+strconv.Itoa(i), faults)
			}
		}
	}
}

func deeper(value any) bool {
	switch value.(type) {
	case map[string]any, []any:
		return true
	}
	return false
}

// redacted reports whether an event may lack what its type requires.
func redacted(event map[string]any) bool {
	unsigned, _ := event["unsigned"].(map[string]any)
	_, because := unsigned["redacted_because"]
	return because
}

// checkContent checks the content of one event. An empty content is that of a redacted event.
func (s *Spec) checkContent(eventType string, content map[string]any, part, at string) []Fault {
	var faults []Fault
	if len(content) == 0 {
		return nil
	}
	for _, file := range s.events[eventType] {
		if file.msgtype != "" && content["msgtype"] != file.msgtype {
			continue
		}
		schema, err := s.contentSchema(file)
		if err != nil {
			faults = append(faults, Fault{Part: part, At: at, Rule: "schema", Message: err.Error()})
		}
		if schema.value != nil {
			faults = append(faults, s.docs.validate(schema, content, part, at)...)
		}
	}
	return faults
}

// contentSchema finds the schema of the content in the schema of an event.
func (s *Spec) contentSchema(file eventFile) (node, error) {
	doc, err := s.docs.open(file.path)
	if err != nil {
		return node{}, err
	}
	found := doc.at("properties", "content")
	for i := 0; found.value == nil && doc.at("allOf", strconv.Itoa(i)).value != nil; i++ {
		found = doc.at("allOf", strconv.Itoa(i), "properties", "content")
	}
	return found, nil
}

// checkBareContent checks the answers that are the content of the event type in the path.
func (s *Spec) checkBareContent(op *Operation, variables map[string]string, body any, part string, x *Exchange) []Fault {
	content, ok := body.(map[string]any)
	if !ok || op.Method != "GET" || x.URL.Query().Get("format") == "event" {
		return nil
	}
	switch {
	case strings.HasSuffix(op.Path, "/account_data/{type}"):
		return s.checkContent(variables["type"], content, part, "")
	case strings.HasSuffix(op.Path, "/state/{eventType}/{stateKey}"):
		return s.checkContent(variables["eventType"], content, part, "")
	}
	return nil
}

package contract

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// pduFiles gives the schema of the event format of each room version.
var pduFiles = map[string]string{
	"1": "pdu_v1.yaml", "2": "pdu_v1.yaml",
	"3": "pdu_v3.yaml",
	"4": "pdu_v4.yaml", "5": "pdu_v4.yaml",
	"6": "pdu_v6.yaml", "7": "pdu_v6.yaml", "8": "pdu_v6.yaml", "9": "pdu_v6.yaml", "10": "pdu_v6.yaml",
	"11": "pdu_v11.yaml",
	"12": "pdu_v12.yaml",
}

// checkPDUs checks the PDUs of a federation request or answer, which the operations describe as any object.
func (s *Spec) checkPDUs(op *Operation, variables map[string]string, body any, part string) []Fault {
	if !strings.HasPrefix(op.Path, "/_matrix/federation/") || strings.Contains(op.Path, "/make_") {
		return nil // make_join and its like answer with templates
	}
	at := ""
	if pair, ok := body.([]any); ok && len(pair) == 2 { // version 1 of the API: [200, {…}]
		body, at = pair[1], "/1"
	}
	object, _ := body.(map[string]any)
	var faults []Fault
	for _, key := range []string{"pdus", "auth_chain", "state", "events"} {
		list, _ := object[key].([]any)
		for i, pdu := range list {
			faults = append(faults, s.checkPDU(variables, pdu, part, at+"/"+key+"/"+strconv.Itoa(i))...)
		}
	}
	if event, ok := object["event"].(map[string]any); ok {
		faults = append(faults, s.checkPDU(variables, event, part, at+"/event")...)
	}
	if part == "request" && (strings.Contains(op.Path, "/send_") || strings.Contains(op.Path, "/v1/invite/")) {
		faults = append(faults, s.checkPDU(variables, object, part, at)...)
	}
	return faults
}

// checkPDU checks one PDU against the format of its room's version; if that is not known, any version's will do.
func (s *Spec) checkPDU(variables map[string]string, pdu any, part, at string) []Fault {
	event, _ := pdu.(map[string]any)
	room, ok := event["room_id"].(string)
	if !ok {
		room = variables["roomId"]
	}
	versions := slices.Sorted(maps.Keys(pduFiles))
	if version, ok := s.versions.Load(room); ok && pduFiles[version.(string)] != "" {
		versions = []string{version.(string)}
	}
	var fewest []Fault
	for i, version := range versions {
		schema := node{file: filepath.Join(s.docs.root, "api", "server-server", "definitions", pduFiles[version])}
		faults := s.docs.validate(schema, pdu, part, at)
		if version == "12" && event["type"] == "m.room.create" {
			// The description of room_id excepts the create event, the schema does not.
			faults = slices.DeleteFunc(faults, func(f Fault) bool { return f.Rule == "required" && f.At == at+"/room_id" })
		}
		if i == 0 || len(faults) < len(fewest) {
			fewest = faults
		}
	}
	return fewest
}

// learnVersion remembers the room versions that federation requests and answers tell, with the room in the path.
func (s *Spec) learnVersion(variables map[string]string, body any) {
	object, _ := body.(map[string]any)
	if version, ok := object["room_version"].(string); ok && variables["roomId"] != "" {
		s.versions.Store(variables["roomId"], version)
	}
	events, _ := object["state"].([]any)
	for _, event := range events {
		s.learnCreate(event)
	}
}

// learnCreate remembers the version that a create event states. Those of version 12 have no room_id among the PDUs.
func (s *Spec) learnCreate(event any) {
	create, _ := event.(map[string]any)
	room, ok := create["room_id"].(string)
	if !ok || create["type"] != "m.room.create" {
		return
	}
	content, _ := create["content"].(map[string]any)
	version, ok := content["room_version"].(string)
	if !ok {
		version = "1"
	}
	s.versions.Store(room, version)
}

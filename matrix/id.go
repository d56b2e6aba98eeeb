package matrix

import (
	"strings"
	"unicode/utf8"
)

// SplitID takes an identifier of the form <sigil>localpart:server apart. ok is
// false when it has not that form or more than 255 bytes (appendices,
// "Common identifier format").
func SplitID(sigil byte, id string) (localpart, server string, ok bool) {
	if len(id) < 2 || len(id) > maxIDSize || id[0] != sigil || !utf8.ValidString(id) || strings.IndexByte(id, 0) >= 0 {
		return "", "", false
	}
	localpart, server, ok = strings.Cut(id[1:], ":")
	return localpart, server, ok && ValidServerName(server)
}

// ServerOf is the server part of a user id, room alias or room id; "" without one.
func ServerOf(id string) string {
	_, server, _ := strings.Cut(id, ":")
	return server
}

// ValidUserID tells whether id is a user id, also one of the historical form.
func ValidUserID(id string) bool {
	_, _, ok := SplitID('@', id)
	return ok
}

// ValidRoomAlias tells whether alias is a room alias.
func ValidRoomAlias(alias string) bool {
	localpart, _, ok := SplitID('#', alias)
	return ok && localpart != ""
}

// ValidRoomID tells whether id may be a room's id, with a server part or, from
// room version 12 on, without.
func ValidRoomID(id string) bool {
	return len(id) > 1 && len(id) <= maxIDSize && id[0] == '!' && utf8.ValidString(id) && strings.IndexByte(id, 0) < 0
}

// ValidEventID tells whether id may be an event's id.
func ValidEventID(id string) bool {
	return len(id) > 1 && len(id) <= maxIDSize && id[0] == '$' && utf8.ValidString(id) && strings.IndexByte(id, 0) < 0
}

// ValidServerName checks the grammar of server names: a DNS name, an IPv4
// address or an IPv6 address in brackets, and optionally a port (appendices,
// "Server name").
func ValidServerName(name string) bool {
	if name == "" || len(name) > 230 {
		return false
	}
	host, port := name, ""
	if name[0] == '[' {
		end := strings.IndexByte(name, ']')
		if end < 3 || end > 46 {
			return false
		}
		host, port = name[1:end], name[end+1:]
		if !allOf(host, func(b byte) bool { return isHex(b) || b == ':' || b == '.' }) {
			return false
		}
	} else {
		if colon := strings.IndexByte(name, ':'); colon >= 0 {
			host, port = name[:colon], name[colon:]
		}
		if host == "" || !allOf(host, func(b byte) bool { return isAlphanumeric(b) || b == '-' || b == '.' }) {
			return false
		}
	}
	if port == "" {
		return true
	}
	return len(port) > 1 && len(port) <= 6 && port[0] == ':' &&
		allOf(port[1:], func(b byte) bool { return b >= '0' && b <= '9' })
}

func allOf(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}

func isHex(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'f' || b >= 'A' && b <= 'F'
}

func isAlphanumeric(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}

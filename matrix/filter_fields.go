package matrix

import "strings"

// Fields are parts of an event that a client asks for (event_fields). The zero
// value stands for the whole event.
type Fields struct{ root *fieldNode }

// fieldNode is a place in an event: all of it is wanted, or some members.
type fieldNode struct {
	all     bool
	members map[string]*fieldNode
}

// All tells whether the whole event is wanted.
func (f Fields) All() bool { return f.root == nil }

// Append appends what is wanted of an event, a JSON object without spaces.
func (f Fields) Append(dst, event []byte) []byte {
	if f.root == nil {
		return append(dst, event...)
	}
	return f.root.append(dst, event)
}

func (n *fieldNode) append(dst, object []byte) []byte {
	dst = append(dst, '{')
	start := len(dst)
	eachMember(object, func(name, value []byte) {
		key := string(name)
		next := n.members[key]
		if next == nil || !next.all && value[0] != '{' {
			return
		}
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(AppendString(dst, key), ':')
		if next.all {
			dst = append(dst, value...)
		} else {
			dst = next.append(dst, value)
		}
	})
	return append(dst, '}')
}

// parseFields reads dot-separated property paths (appendices, section
// "Dot-separated property paths"). An empty list asks for everything, as none
// does: nobody has a use for empty events.
func parseFields(paths []string) (Fields, error) {
	if len(paths) == 0 {
		return Fields{}, nil
	}
	if len(paths) > maxFilterFields {
		return Fields{}, InvalidParam.Withf("A filter may list at most %d event_fields", maxFilterFields)
	}
	root := &fieldNode{members: map[string]*fieldNode{}}
	for _, path := range paths {
		if len(path) > maxFilterText {
			return Fields{}, InvalidParam.Withf("A path in event_fields has at most %d bytes", maxFilterText)
		}
		n := root
		for _, name := range splitPath(path) {
			next := n.members[name]
			if next == nil {
				next = &fieldNode{members: map[string]*fieldNode{}}
				n.members[name] = next
			}
			n = next
		}
		n.all = true
	}
	return Fields{root}, nil
}

// splitPath parts a path at its dots. A backslash before a dot or a backslash
// takes away its meaning; before anything else it stands for itself.
func splitPath(path string) (parts []string) {
	var part strings.Builder
	for i := 0; i < len(path); i++ {
		switch b := path[i]; {
		case b == '\\' && i+1 < len(path) && (path[i+1] == '.' || path[i+1] == '\\'):
			i++
			part.WriteByte(path[i])
		case b == '.':
			parts = append(parts, part.String())
			part.Reset()
		default:
			part.WriteByte(b)
		}
	}
	return append(parts, part.String())
}

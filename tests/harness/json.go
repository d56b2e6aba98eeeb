package harness

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// Object is a JSON object to send.
type Object = map[string]any

// List is a JSON array to send.
type List = []any

// JSON is a received JSON value, or nothing.
type JSON struct {
	value  any
	exists bool
}

// ParseJSON reads a JSON value.
func ParseJSON(text []byte) (JSON, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		return JSON{}, fmt.Errorf("%w in %.200q", err, text)
	}
	return JSON{value, true}, nil
}

// At is the value at a path of keys and indexes; nothing where the path leads nowhere. A
// negative index counts from the end.
func (j JSON) At(path ...any) JSON {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			object, _ := j.value.(map[string]any)
			value, ok := object[step]
			j = JSON{value, ok}
		case int:
			list, _ := j.value.([]any)
			if step < 0 {
				step += len(list)
			}
			if step < 0 || step >= len(list) {
				return JSON{}
			}
			j = JSON{list[step], true}
		default: // a mistake in the test, which finds nothing
			return JSON{}
		}
	}
	return j
}

// Exists tells that there is a value; it may be null.
func (j JSON) Exists() bool { return j.exists }

// Value is the value as encoding/json decodes it, with numbers as [json.Number].
func (j JSON) Value() any { return j.value }

// Str is the value if it is a string, else "".
func (j JSON) Str() string {
	s, _ := j.value.(string)
	return s
}

// Int is the value if it is an integer, else 0.
func (j JSON) Int() int64 {
	number, _ := j.value.(json.Number)
	n, err := strconv.ParseInt(string(number), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Bool is the value if it is true or false, else false.
func (j JSON) Bool() bool {
	b, _ := j.value.(bool)
	return b
}

// List are the elements if the value is an array, else none.
func (j JSON) List() []JSON {
	list, _ := j.value.([]any)
	elements := make([]JSON, len(list))
	for i := range list {
		elements[i] = JSON{list[i], true}
	}
	return elements
}

// Keys are the sorted keys if the value is an object, else none.
func (j JSON) Keys() []string {
	object, _ := j.value.(map[string]any)
	return slices.Sorted(maps.Keys(object))
}

// Strings are the values at a path in each of the elements, as strings.
func (j JSON) Strings(path ...any) []string {
	var all []string
	for _, element := range j.List() {
		all = append(all, element.At(path...).Str())
	}
	return all
}

// Find is the first element whose values at the keys are these strings.
func (j JSON) Find(keysAndValues ...string) JSON {
	for _, element := range j.List() {
		found := true
		for i := 0; i < len(keysAndValues); i += 2 {
			found = found && element.At(keysAndValues[i]).Str() == keysAndValues[i+1] && element.At(keysAndValues[i]).Exists()
		}
		if found {
			return element
		}
	}
	return JSON{}
}

// String is the value as JSON.
func (j JSON) String() string {
	if !j.exists {
		return "(nothing)"
	}
	text, err := json.Marshal(j.value)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

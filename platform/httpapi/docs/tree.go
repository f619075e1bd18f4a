package docs

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
)

// node is a value of the document. What is not there is a node without a
// value, so that a chain of gets needs no checks.
type node struct{ value any }

type member struct {
	key   string
	value node
}

// parse keeps the order of members: it is the order in which people read.
func parse(document []byte) (node, error) {
	var value any
	if err := yaml.UnmarshalWithOptions(document, &value, yaml.UseOrderedMap()); err != nil {
		return node{}, fmt.Errorf("parse document: %w", err)
	}
	return node{value}, nil
}

func (n node) members() []member {
	all, _ := n.value.(yaml.MapSlice)
	out := make([]member, len(all))
	for i, m := range all {
		out[i] = member{fmt.Sprint(m.Key), node{m.Value}}
	}
	return out
}

func (n node) items() []node {
	all, _ := n.value.([]any)
	out := make([]node, len(all))
	for i, v := range all {
		out[i] = node{v}
	}
	return out
}

func (n node) get(path ...string) node {
	for _, key := range path {
		next := node{}
		for _, m := range n.members() {
			if m.key == key {
				next = m.value
			}
		}
		n = next
	}
	return n
}

// text is a scalar as it is written; null is "null".
func (n node) text() string {
	switch v := n.value.(type) {
	case string:
		return v
	case yaml.MapSlice, []any:
		return ""
	default:
		return fmt.Sprint(v)
	}
}

// str is text for what may be absent.
func (n node) str() string {
	s, _ := n.value.(string)
	return s
}

func (n node) isTrue() bool { return n.value == true }
func (n node) absent() bool { return n.value == nil }

// texts is the items, or the one value where there is no list.
func (n node) texts() []string {
	if _, isList := n.value.([]any); !isList {
		if n.absent() {
			return nil
		}
		return []string{n.text()}
	}
	var out []string
	for _, item := range n.items() {
		if text := item.text(); item.value == nil {
			out = append(out, "null")
		} else if text == "" {
			out = append(out, `""`)
		} else {
			out = append(out, text)
		}
	}
	return out
}

// resolve follows a reference, and says by what name it went.
func (n node) resolve(root node) (target node, name string) {
	ref := n.get("$ref").str()
	if ref == "" {
		return n, ""
	}
	path := strings.Split(strings.TrimPrefix(ref, "#/"), "/")
	return root.get(path...), path[len(path)-1]
}

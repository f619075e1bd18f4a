// Package jsondiff says which members of two JSON objects differ, without
// keeping either of them.
//
// A document becomes a map from JSON pointer (RFC 6901) to a digest of the
// leaf that stands there. Two documents are the same when their maps are, so a
// service that must recognise a repeated request stores the map and never the
// request: the map names what differs and holds no value.
//
// It promises that white space and the order of members never matter and that
// every digit does: 1.0 is not 1 and 9007199254740993 is not
// 9007199254740992, because no number passes through a float64. A member that
// is null is not one that is absent: where the two mean the same, the caller
// leaves it out. It never looks at what a document means.
package jsondiff

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// digestBytes of a SHA-256 are kept: 128 bits are past any chance of two
	// leaves that differ and look the same.
	digestBytes = 16
	// maxDepth bounds the recursion. Callers have their own, lower bounds.
	maxDepth = 1000
)

// Digests flattens the JSON object doc to pointer → digest. Leaves are
// scalars, arrays as a whole and objects without members; an empty document
// has none. A member given twice, invalid UTF-8, anything after the object and
// a document that is no object are errors.
func Digests(doc []byte) (map[string]string, error) {
	root, err := parse(doc)
	if err != nil {
		return nil, fmt.Errorf("digest JSON: %w", err)
	}
	if root.kind != kindObject {
		return nil, errors.New("digest JSON: the document is not an object")
	}
	out := make(map[string]string)
	for name, member := range root.members {
		member.flatten(pointer("", name), out)
	}
	return out, nil
}

// Diff returns the pointers whose digests differ or that only one of the two
// maps has, sorted.
func Diff(a, b map[string]string) []string {
	var out []string
	for p, digest := range a {
		if other, ok := b[p]; !ok || other != digest {
			out = append(out, p)
		}
	}
	for p := range b {
		if _, ok := a[p]; !ok {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

// kind is the first byte of what is digested, so that "1" and 1 differ.
type kind byte

const (
	kindNull   kind = '0'
	kindBool   kind = 'b'
	kindNumber kind = 'n'
	kindString kind = 's'
	kindArray  kind = 'a'
	kindObject kind = 'o'
)

type node struct {
	kind    kind
	text    string          // of a scalar; a number's is its literal
	items   []node          // of an array
	members map[string]node // of an object
}

func (n node) flatten(at string, out map[string]string) {
	if n.kind != kindObject || len(n.members) == 0 {
		out[at] = n.digest()
		return
	}
	for name, member := range n.members {
		member.flatten(pointer(at, name), out)
	}
}

func (n node) digest() string {
	sum := sha256.Sum256(n.canonical(nil))
	return base64.RawURLEncoding.EncodeToString(sum[:digestBytes])
}

// canonical appends a form that equal values share and different ones do not:
// each part is tagged with its kind and delimited, strings by their length.
// It must never change: stored digests outlive releases.
func (n node) canonical(b []byte) []byte {
	b = append(b, byte(n.kind))
	switch n.kind {
	case kindNull, kindBool, kindNumber:
		b = append(append(b, n.text...), ',')
	case kindString:
		b = appendString(b, n.text)
	case kindArray:
		for _, item := range n.items {
			b = item.canonical(b)
		}
		b = append(b, ']')
	case kindObject:
		for _, name := range slices.Sorted(maps.Keys(n.members)) {
			b = n.members[name].canonical(appendString(b, name))
		}
		b = append(b, '}')
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(append(strconv.AppendInt(b, int64(len(s)), 10), ':'), s...)
}

func pointer(at, name string) string {
	return at + "/" + strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}

func parse(doc []byte) (node, error) {
	if !utf8.Valid(doc) {
		return node{}, errors.New("invalid UTF-8")
	}
	if !json.Valid(doc) { // also refuses what follows the first value
		return node{}, errors.New("invalid JSON")
	}
	p := parser{dec: json.NewDecoder(bytes.NewReader(doc))}
	p.dec.UseNumber()
	return p.value(0)
}

type parser struct{ dec *json.Decoder }

func (p parser) value(depth int) (node, error) {
	if depth > maxDepth {
		return node{}, fmt.Errorf("nested deeper than %d", maxDepth)
	}
	token, err := p.dec.Token()
	if err != nil {
		return node{}, fmt.Errorf("read a token: %w", err)
	}
	switch t := token.(type) {
	case json.Delim:
		if t == '{' {
			return p.object(depth + 1)
		}
		return p.array(depth + 1)
	case string:
		return node{kind: kindString, text: t}, nil
	case json.Number:
		return node{kind: kindNumber, text: t.String()}, nil
	case bool:
		return node{kind: kindBool, text: strconv.FormatBool(t)}, nil
	default:
		return node{kind: kindNull}, nil
	}
}

func (p parser) array(depth int) (node, error) {
	n := node{kind: kindArray}
	for p.dec.More() {
		item, err := p.value(depth)
		if err != nil {
			return node{}, err
		}
		n.items = append(n.items, item)
	}
	_, err := p.dec.Token()
	return n, err
}

func (p parser) object(depth int) (node, error) {
	n := node{kind: kindObject, members: make(map[string]node)}
	seen := make(map[string]bool)
	for p.dec.More() {
		token, err := p.dec.Token()
		if err != nil {
			return node{}, fmt.Errorf("read a member's name: %w", err)
		}
		name, _ := token.(string) // JSON was valid: a name is a string
		member, err := p.value(depth)
		if err != nil {
			return node{}, err
		}
		if seen[name] {
			return node{}, errors.New("an object names a member twice")
		}
		seen[name] = true
		n.members[name] = member
	}
	_, err := p.dec.Token()
	return n, err
}

package jsondiff_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"roost/api/jsondiff"
)

func TestDiffNamesTheMembersThatDiffer(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, a, b string
		want       []string
	}{
		{"same", `{"a":1}`, `{"a":1}`, nil},
		{"order and white space", `{"a":1,"b":{"c":"x","d":[1,{"e":1,"f":2}]}}`, "{ \"b\":{\"d\":[1, {\"f\":2,\"e\":1}],\n\"c\":\"x\"},\t\"a\":1}", nil},
		{"escapes of one string", `{"a":"é/"}`, `{"a":"\u00e9\/"}`, nil},
		{"null is not absent", `{"a":null,"b":1}`, `{"b":1}`, []string{"/a"}},
		{"null is not absent inside arrays' objects", `{"a":[{"b":null}]}`, `{"a":[{}]}`, []string{"/a"}},
		{"null is not another value", `{"a":{"b":null}}`, `{"a":{"b":1}}`, []string{"/a/b"}},
		{"an empty object is not absent", `{"a":{}}`, `{}`, []string{"/a"}},
		{"an empty array is not absent", `{"a":[]}`, `{}`, []string{"/a"}},
		{"an empty array is not an empty object", `{"a":[]}`, `{"a":{}}`, []string{"/a"}},
		{"neighbours past 2^53", `{"a":9007199254740993}`, `{"a":9007199254740992}`, []string{"/a"}},
		{"digits", `{"a":1.0}`, `{"a":1}`, []string{"/a"}},
		{"exponents are digits", `{"a":1e2}`, `{"a":100}`, []string{"/a"}},
		{"digits in arrays", `{"a":[1.0]}`, `{"a":[1]}`, []string{"/a"}},
		{"kinds", `{"a":"1","b":"true","c":0}`, `{"a":1,"b":true,"c":false}`, []string{"/a", "/b", "/c"}},
		{"deep", `{"spec":{"instance_type":"s","x":1}}`, `{"spec":{"instance_type":"l","x":1}}`, []string{"/spec/instance_type"}},
		{"one side only, sorted", `{"b":1}`, `{"c":1,"a":1}`, []string{"/a", "/b", "/c"}},
		{"arrays are whole", `{"a":[1,2,3]}`, `{"a":[1,3,2]}`, []string{"/a"}},
		{"null in an array has its place", `{"a":[null,1]}`, `{"a":[1]}`, []string{"/a"}},
		{"nesting of arrays", `{"a":[[1],2]}`, `{"a":[[1,2]]}`, []string{"/a"}},
		{"strings do not run together", `{"a":["x","y"]}`, `{"a":["x\"s\"y"]}`, []string{"/a"}},
		{"numbers do not run together", `{"a":[1,2]}`, `{"a":[12]}`, []string{"/a"}},
		{"pointers are escaped", `{"a/b":1,"c~d":1,"":1}`, `{"a/b":2,"c~d":2,"":2}`, []string{"/", "/a~1b", "/c~0d"}},
		{"names that look like pointers", `{"a":{"b":1}}`, `{"a/b":1}`, []string{"/a/b", "/a~1b"}},
		{"a scalar becomes an object", `{"a":1}`, `{"a":{"b":1}}`, []string{"/a", "/a/b"}},
		{"NUL", `{"a":"\u0000"}`, `{"a":""}`, []string{"/a"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			a, b := digests(t, tc.a), digests(t, tc.b)
			if got := jsondiff.Diff(a, b); !slices.Equal(got, tc.want) {
				t.Errorf("Diff = %v, want %v", got, tc.want)
			}
			if got := jsondiff.Diff(b, a); !slices.Equal(got, tc.want) {
				t.Errorf("Diff the other way = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestDigestsRefuse(t *testing.T) {
	t.Parallel()
	for name, doc := range map[string]string{
		"nothing":            ``,
		"an array":           `[]`,
		"null":               `null`,
		"two documents":      `{} {}`,
		"a member twice":     `{"a":1,"a":1}`,
		"null and a value":   `{"a":null,"a":1}`,
		"twice in an array":  `{"a":[{"b":1,"b":2}]}`,
		"a trailing comma":   `{"a":1,}`,
		"invalid UTF-8":      "{\"a\":\"\xff\"}",
		"nesting past limit": `{"a":` + strings.Repeat(`[`, 2000) + strings.Repeat(`]`, 2000) + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := jsondiff.Digests([]byte(doc)); err == nil {
				t.Errorf("Digests = %v, want an error", got)
			}
		})
	}
}

func TestDigestsHoldNoValues(t *testing.T) {
	t.Parallel()
	const secret = "canary-5a1e"
	for p, digest := range digests(t, `{"a":"`+secret+`","b":["`+secret+`"]}`) {
		if strings.Contains(p+digest, secret) || len(digest) != 22 {
			t.Errorf("%s -> %s", p, digest)
		}
	}
}

// A digest that changed between releases would make every repeat of an older
// request a conflict, so the form is pinned.
func TestDigestsAreStable(t *testing.T) {
	t.Parallel()
	got := digests(t, `{"a":"x","b":[1,{"c":null,"d":true}],"e":{}}`)
	want := map[string]string{
		"/a": "uLlqPnOQYRG3zLgdS4F0dQ",
		"/b": "YbphrnsK7XCaKZZZ7P4K9w",
		"/e": "B1ynN_L8XZ4b7CL6u321eg",
	}
	if !maps.Equal(got, want) {
		t.Errorf("Digests = %v, want %v", got, want)
	}
}

func digests(t *testing.T, doc string) map[string]string {
	t.Helper()
	m, err := jsondiff.Digests([]byte(doc))
	if err != nil {
		t.Fatalf("Digests(%s): %v", doc, err)
	}
	return m
}

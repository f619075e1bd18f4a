package docs

import (
	"encoding/json"
	"strings"

	"github.com/goccy/go-yaml"
)

// jsonOf writes an example as a client would see it, members in their order.
func jsonOf(n node) string {
	var b strings.Builder
	writeJSON(&b, n, "\n")
	return b.String()
}

// writeJSON writes a value whose own line begins with indent.
func writeJSON(b *strings.Builder, n node, indent string) {
	inner := indent + "  "
	switch v := n.value.(type) {
	case yaml.MapSlice:
		b.WriteString("{")
		for i, m := range n.members() {
			b.WriteString(comma(i) + inner + scalar(m.key) + ": ")
			writeJSON(b, m.value, inner)
		}
		b.WriteString(closing(len(v), indent, "}"))
	case []any:
		b.WriteString("[")
		for i, item := range n.items() {
			b.WriteString(comma(i) + inner)
			writeJSON(b, item, inner)
		}
		b.WriteString(closing(len(v), indent, "]"))
	default:
		b.WriteString(scalar(v))
	}
}

func comma(i int) string {
	if i == 0 {
		return ""
	}
	return ","
}

func closing(n int, indent, bracket string) string {
	if n == 0 {
		return bracket
	}
	return indent + bracket
}

func scalar(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return "null" // cannot happen: a YAML scalar always encodes
	}
	return string(data)
}

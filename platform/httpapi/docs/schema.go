package docs

import "strings"

// schema is one of the document's named shapes.
type schema struct {
	Name        string
	Description []block
	Type        []span
	Members     []property
	Closed      bool // no other members are taken
	Example     string
}

type property struct {
	Name        string // of an inline object's, with the object's in front
	Required    bool
	Type        []span
	Description []block
}

func (d document) schemas() []schema {
	var out []schema
	for _, m := range d.root.get("components", "schemas").members() {
		s := schema{
			Name: m.key, Description: prose(m.value.get("description").str()), Type: d.typeOf(m.value),
			Members: d.properties("", m.value), Closed: m.value.get("additionalProperties").value == false,
		}
		if examples := m.value.get("examples").items(); len(examples) > 0 {
			s.Example = jsonOf(examples[0])
		}
		out = append(out, s)
	}
	return out
}

// properties lists an object's members, those of inline objects behind their own.
func (d document) properties(prefix string, object node) []property {
	required := map[string]bool{}
	for _, name := range object.get("required").texts() {
		required[name] = true
	}
	var out []property
	for _, m := range object.get("properties").members() {
		name := prefix + m.key
		out = append(out, property{
			Name: name, Required: required[m.key], Type: d.typeOf(m.value),
			Description: prose(m.value.get("description").str()),
		})
		out = append(out, d.properties(name+".", m.value)...)
		out = append(out, d.properties(name+"[].", m.value.get("items"))...)
	}
	return out
}

// typeOf says in words what a schema takes.
func (d document) typeOf(s node) []span {
	if _, name := s.resolve(d.root); name != "" {
		return []span{{Text: name, Schema: name}}
	}
	for _, word := range []string{"oneOf", "anyOf"} {
		if choices := s.get(word).items(); len(choices) > 0 {
			return d.choice(choices)
		}
	}
	if parts := s.get("allOf").items(); len(parts) > 0 {
		return d.refined(parts)
	}
	if !s.get("items").absent() && s.get("properties").absent() {
		return append([]span{{Text: strings.Join(s.get("type").texts(), " or ") + " of "}}, d.typeOf(s.get("items"))...)
	}
	if values := s.get("enum").texts(); len(values) > 0 {
		return codes(values)
	}
	words := strings.Join(s.get("type").texts(), " or ")
	if words == "" {
		words = "anything"
	}
	return []span{{Text: words + bounds(s)}}
}

func (d document) choice(choices []node) []span {
	var out []span
	for i, c := range choices {
		if i > 0 {
			out = append(out, span{Text: " or "})
		}
		out = append(out, d.typeOf(c)...)
	}
	return out
}

// refined is a problem with the codes that it can have here.
func (d document) refined(parts []node) []span {
	out := d.typeOf(parts[0])
	for _, part := range parts[1:] {
		if values := part.get("properties", "error_code", "enum").texts(); len(values) > 0 {
			out = append(append(out, span{Text: " with "}), codes(values)...)
		}
	}
	return out
}

func codes(values []string) []span {
	var out []span
	for i, v := range values {
		if i > 0 {
			out = append(out, span{Text: ", "})
		}
		out = append(out, span{Text: v, Code: true})
	}
	return out
}

// bounds is what a schema says about a value beyond its type.
func bounds(s node) string {
	var parts []string
	for _, word := range []string{"format", "pattern", "minimum", "maximum", "minLength", "maxItems", "default"} {
		if v := s.get(word); !v.absent() {
			parts = append(parts, word+" "+v.text())
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

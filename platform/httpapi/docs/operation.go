package docs

import "strings"

// group is the operations of one tag.
type group struct {
	Name        string
	Anchor      string
	Description []block
	Operations  []operation
}

type operation struct {
	ID          string
	Method      string
	Path        string
	Summary     string
	Description []block
	Open        bool // takes no token
	Parameters  []parameter
	Body        *body
	Responses   []response
}

type parameter struct {
	Name        string
	In          string
	Required    bool
	Type        []span
	Description []block
}

type body struct {
	Required bool
	Media    []media
}

type response struct {
	Status      string
	Description []block
	Headers     []parameter
	Media       []media
}

type media struct {
	Name     string
	Type     []span
	Examples []example
}

type example struct {
	Summary string
	JSON    string
}

// methods is the order in which a path's operations are shown.
func methods() []string { return []string{"get", "post", "put", "patch", "delete"} }

func (d document) groups() []group {
	var out []group
	for _, tag := range d.root.get("tags").items() {
		name := tag.get("name").str()
		out = append(out, group{
			Name: name, Anchor: "tag-" + strings.ReplaceAll(strings.ToLower(name), " ", "-"),
			Description: prose(tag.get("description").str()), Operations: d.tagged(name),
		})
	}
	return out
}

func (d document) tagged(tag string) []operation {
	var out []operation
	for _, path := range d.root.get("paths").members() {
		for _, method := range methods() {
			o := path.value.get(method)
			if tags := o.get("tags").texts(); len(tags) == 0 || tags[0] != tag {
				continue
			}
			out = append(out, d.operation(strings.ToUpper(method), path, o))
		}
	}
	return out
}

func (d document) operation(method string, path member, o node) operation {
	op := operation{
		ID: o.get("operationId").str(), Method: method, Path: path.key, Summary: o.get("summary").str(),
		Description: prose(o.get("description").str()),
		Open:        !o.get("security").absent() && len(o.get("security").items()) == 0,
	}
	for _, p := range append(path.value.get("parameters").items(), o.get("parameters").items()...) {
		p, _ := p.resolve(d.root)
		op.Parameters = append(op.Parameters, d.parameter(p.get("name").str(), p))
	}
	if b, _ := o.get("requestBody").resolve(d.root); !b.absent() {
		op.Body = &body{Required: b.get("required").isTrue(), Media: d.media(b.get("content"))}
	}
	for _, m := range o.get("responses").members() {
		r, _ := m.value.resolve(d.root)
		op.Responses = append(op.Responses, response{
			Status: m.key, Description: prose(r.get("description").str()),
			Headers: d.headers(r.get("headers")), Media: d.media(r.get("content")),
		})
	}
	return op
}

func (d document) parameter(name string, p node) parameter {
	return parameter{
		Name: name, In: p.get("in").str(), Required: p.get("required").isTrue(),
		Type: d.typeOf(p.get("schema")), Description: prose(p.get("description").str()),
	}
}

func (d document) headers(headers node) []parameter {
	var out []parameter
	for _, m := range headers.members() {
		h, _ := m.value.resolve(d.root)
		out = append(out, d.parameter(m.key, h))
	}
	return out
}

func (d document) media(content node) []media {
	var out []media
	for _, m := range content.members() {
		one := media{Name: m.key, Type: d.typeOf(m.value.get("schema"))}
		if e := m.value.get("example"); !e.absent() {
			one.Examples = append(one.Examples, example{JSON: jsonOf(e)})
		}
		for _, e := range m.value.get("examples").members() {
			one.Examples = append(one.Examples, example{Summary: e.value.get("summary").str(), JSON: jsonOf(e.value.get("value"))})
		}
		out = append(out, one)
	}
	return out
}

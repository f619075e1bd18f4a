// Package docs turns an OpenAPI document into one page of HTML for people.
//
// It promises a page that needs nothing from elsewhere, neither script nor
// style nor font, and in which everything that the document says is escaped.
// It understands as much of OpenAPI and of CommonMark as the document of this
// repository uses, and never fetches a reference.
package docs

import (
	"bytes"
	_ "embed" // the page's template
	"errors"
	"fmt"
	"html/template"
)

//go:embed page.html
var pageTemplate string

// document is one that was parsed.
type document struct{ root node }

// page is what the template shows.
type page struct {
	Title       string
	Summary     string
	Version     string
	Description []block
	Security    []parameter
	Groups      []group
	Schemas     []schema
}

// Render makes the page. Its errors are those of a document or template that
// is broken.
func Render(openAPI []byte) ([]byte, error) {
	root, err := parse(openAPI)
	if err != nil {
		return nil, err
	}
	d := document{root}
	if d.root.get("info", "title").str() == "" {
		return nil, errors.New("the document has no title, so it is none")
	}
	t, err := template.New("page").Parse(pageTemplate)
	if err != nil {
		return nil, fmt.Errorf("parse template: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, d.page()); err != nil {
		return nil, fmt.Errorf("render page: %w", err)
	}
	return b.Bytes(), nil
}

func (d document) page() page {
	info := d.root.get("info")
	p := page{
		Title: info.get("title").str(), Summary: info.get("summary").str(), Version: info.get("version").str(),
		Description: prose(info.get("description").str()), Groups: d.groups(), Schemas: d.schemas(),
	}
	for _, m := range d.root.get("components", "securitySchemes").members() {
		header := m.value.get("name").str()
		if header == "" {
			header = "Authorization: Bearer"
		}
		p.Security = append(p.Security, parameter{Name: header, Description: prose(m.value.get("description").str())})
	}
	return p
}

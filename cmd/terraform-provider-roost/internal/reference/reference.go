// Package reference makes the provider's documentation out of its schemas and
// the files in examples/.
//
// It promises the same pages for the same schemas, in the layout that the
// Terraform registry reads. It writes nothing by itself: its test holds docs/
// against the pages, and writes them with -update.
package reference

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
)

// Pages are the files of docs/, by path. examples holds provider/, resources/
// and data-sources/; each resource and data source must have one.
func Pages(ctx context.Context, p provider.Provider, examples fs.FS) (map[string]string, error) {
	schemas, err := providerserver.NewProtocol6(p)().GetProviderSchema(ctx, &tfprotov6.GetProviderSchemaRequest{})
	if err != nil {
		return nil, fmt.Errorf("read the schemas: %w", err)
	}
	pages := map[string]string{}
	add := func(file string, page page) error {
		text, err := page.render(examples)
		pages[file] = text
		return err
	}
	if err := add("index.md", page{title: "roost Provider", schema: schemas.Provider, example: "provider/provider.tf"}); err != nil {
		return nil, err
	}
	for _, group := range []struct {
		dir, file, kind string
		schemas         map[string]*tfprotov6.Schema
	}{
		{"resources", "resource.tf", "Resource", schemas.ResourceSchemas},
		{"data-sources", "data-source.tf", "Data Source", schemas.DataSourceSchemas},
	} {
		for name, schema := range group.schemas {
			page := page{title: name + " (" + group.kind + ")", schema: schema, example: path.Join(group.dir, name, group.file)}
			if group.dir == "resources" {
				page.imports = path.Join(group.dir, name, "import.sh")
			}
			if err := add(path.Join(group.dir, strings.TrimPrefix(name, "roost_")+".md"), page); err != nil {
				return nil, err
			}
		}
	}
	return pages, nil
}

// page is one page.
type page struct {
	title            string
	schema           *tfprotov6.Schema
	example, imports string // paths of examples; imports may be ""
}

func (p page) render(examples fs.FS) (string, error) {
	example, err := fs.ReadFile(examples, p.example)
	if err != nil {
		return "", fmt.Errorf("read the example of %s: %w", p.title, err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "---\npage_title: %q\n---\n\n# %s\n\n%s\n\n", p.title, p.title, p.schema.Block.Description)
	fmt.Fprintf(&b, "## Example Usage\n\n```terraform\n%s```\n\n## Schema\n", example)
	writeBlock(&b, p.schema.Block)
	if p.imports != "" {
		command, err := fs.ReadFile(examples, p.imports)
		if err != nil {
			return "", fmt.Errorf("read the import of %s: %w", p.title, err)
		}
		fmt.Fprintf(&b, "\n## Import\n\n```shell\n%s```\n", command)
	}
	return b.String(), nil
}

func writeBlock(b *strings.Builder, block *tfprotov6.SchemaBlock) {
	for _, group := range []struct {
		title string
		has   func(*tfprotov6.SchemaAttribute) bool
	}{
		{"Required", func(a *tfprotov6.SchemaAttribute) bool { return a.Required }},
		{"Optional", func(a *tfprotov6.SchemaAttribute) bool { return a.Optional }},
		{"Read-Only", func(a *tfprotov6.SchemaAttribute) bool { return a.Computed && !a.Optional }},
	} {
		attributes := slices.DeleteFunc(sorted(block.Attributes), func(a *tfprotov6.SchemaAttribute) bool { return !group.has(a) })
		if len(attributes) == 0 {
			continue
		}
		fmt.Fprintf(b, "\n### %s\n\n", group.title)
		writeAttributes(b, "", attributes)
	}
	for _, nested := range block.BlockTypes {
		fmt.Fprintf(b, "\n### Block `%s`\n\n", nested.TypeName)
		writeAttributes(b, "", sorted(nested.Block.Attributes))
	}
}

// writeAttributes writes one line for each, those of nested objects below it.
func writeAttributes(b *strings.Builder, indent string, attributes []*tfprotov6.SchemaAttribute) {
	for _, a := range attributes {
		fmt.Fprintf(b, "%s- `%s` (%s) %s\n", indent, a.Name, typeOf(a), strings.ReplaceAll(a.Description, "\n", " "))
		if a.NestedType != nil {
			writeAttributes(b, indent+"  ", sorted(a.NestedType.Attributes))
		}
	}
}

func sorted(attributes []*tfprotov6.SchemaAttribute) []*tfprotov6.SchemaAttribute {
	return slices.SortedFunc(slices.Values(attributes), func(a, b *tfprotov6.SchemaAttribute) int { return strings.Compare(a.Name, b.Name) })
}

// typeOf is an attribute's type in a user's words.
func typeOf(a *tfprotov6.SchemaAttribute) string {
	words := "List of objects"
	if a.NestedType == nil {
		words = strings.ReplaceAll(strings.NewReplacer("tftypes.", "", "[", " of ", "]", "").Replace(a.Type.String()), "Bool", "Boolean")
	}
	if a.Sensitive {
		words += ", Sensitive"
	}
	if a.WriteOnly {
		words += ", Write-only"
	}
	return words
}

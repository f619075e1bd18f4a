package docs_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"roost/api"
	"roost/api/openapitest"
	"roost/platform/httpapi/docs"
)

func render(t *testing.T, document string) string {
	t.Helper()
	page, err := docs.Render([]byte(document))
	require.NoError(t, err)
	return string(page)
}

func TestThePageShowsEveryOperationStatusAndSchema(t *testing.T) {
	t.Parallel()
	page := render(t, string(api.OpenAPI()))
	document, err := openapitest.Platform()
	require.NoError(t, err)
	require.Greater(t, len(document.Operations()), 25)
	for path, item := range document.Spec().Paths.Map() {
		for method, o := range item.Operations() {
			_, article, found := strings.Cut(page, `<article id="`+o.OperationID+`">`)
			require.True(t, found, "%s %s", method, path)
			article, _, _ = strings.Cut(article, "</article>")
			require.Contains(t, article, method+"</span>"+path+"<")
			for status := range o.Responses.Map() {
				require.Contains(t, article, "<strong>"+status+"</strong>", "%s %s", method, path)
			}
		}
	}
	for name := range document.Spec().Components.Schemas {
		require.Contains(t, page, `<article id="schema-`+name+`">`)
	}
	for _, code := range api.Codes() {
		if code := (&api.Error{Code: code}).Problem("").ErrorCode; code != "" {
			require.Contains(t, page, string(code))
		}
	}
	require.NotContains(t, page, "&lt;nil&gt;")
}

func TestThePageNeedsNothingFromElsewhere(t *testing.T) {
	t.Parallel()
	page := render(t, string(api.OpenAPI()))
	for _, word := range []string{"<script", "<link", "<img", "<iframe", "src=", "url(", "@import", "//cdn"} {
		require.NotContains(t, page, word)
	}
	ids := map[string]bool{}
	for _, m := range regexp.MustCompile(`id="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		require.False(t, ids[m[1]], "%s is there twice", m[1])
		ids[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`href="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if anchor, inside := strings.CutPrefix(m[1], "#"); inside {
			require.True(t, ids[anchor], "%s leads nowhere", m[1])
			continue
		}
		require.Equal(t, "/openapi.yaml", m[1])
	}
}

func TestWhatTheDocumentSaysIsEscaped(t *testing.T) {
	t.Parallel()
	const evil = `<script>alert(1)</script>" onload="x`
	quoted, err := json.Marshal(evil) // a JSON string is a YAML string
	require.NoError(t, err)
	page := render(t, strings.ReplaceAll(`
info: {title: EVIL, summary: EVIL, version: EVIL, description: EVIL}
tags: [{name: EVIL, description: EVIL}]
paths:
  EVIL:
    get:
      tags: [EVIL]
      operationId: EVIL
      summary: EVIL
      description: EVIL
      parameters: [{name: EVIL, in: EVIL, description: EVIL, schema: {type: EVIL, pattern: EVIL}}]
      requestBody: {content: {EVIL: {schema: {$ref: EVIL}, example: {EVIL: EVIL}}}}
      responses: {EVIL: {description: EVIL, headers: {EVIL: {description: EVIL}}, content: {EVIL: {examples: {a: {summary: EVIL, value: EVIL}}}}}}
components: {schemas: {EVIL: {description: EVIL, properties: {EVIL: {enum: [EVIL]}}, examples: [EVIL]}}, securitySchemes: {a: {name: EVIL, description: EVIL}}}
`, "EVIL", string(quoted)))
	require.NotContains(t, page, "<script")
	require.NotRegexp(t, `" onload="`, page)
	require.Greater(t, strings.Count(page, "alert"), 20)
}

func TestProse(t *testing.T) {
	t.Parallel()
	page := render(t, `
info:
  title: T
  description: |
    ## A heading
    
    Words that are **strong**, *soft* or `+"`code <b>`"+`,
    on two lines, 2 * 3 included.

    - one
      goes on
    - `+"`two`"+`
`)
	for _, want := range []string{
		"<h3>A heading</h3>", "<strong>strong</strong>", "<em>soft</em>", "<code>code &lt;b&gt;</code>, on two lines, 2 * 3 included.",
		"<li>one goes on</li><li><code>two</code></li>",
	} {
		require.Contains(t, page, want)
	}
}

func TestWhatIsNoDocumentIsRefused(t *testing.T) {
	t.Parallel()
	for _, document := range []string{"", "[", "a: b", "- a", "info: 7"} {
		_, err := docs.Render([]byte(document))
		require.Error(t, err, document)
	}
}

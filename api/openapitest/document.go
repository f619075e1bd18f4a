// Package openapitest holds what travels on the wire in tests against the
// OpenAPI documents: every request that was accepted, and every answer.
//
// It promises that an answer whose status, content type, headers or body is
// not in the document of its route is an error, and so is an accepted request
// that the document would not let pass. It reads copies: it changes nothing of
// what it is shown, sends nothing, and knows no resource.
package openapitest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"roost/api"
	"roost/api/owlapi"
)

// Document is one API's, parsed. It is safe for concurrent use.
type Document struct {
	spec *openapi3.T
}

// Platform is the document of the public API.
func Platform() (*Document, error) { return platform() }

// Owl is the document of the private API.
func Owl() (*Document, error) { return owl() }

//nolint:gochecknoglobals // parsed once for all tests of a process; nothing can change it
var (
	platform = sync.OnceValues(func() (*Document, error) { return Parse(api.OpenAPI()) })
	owl      = sync.OnceValues(func() (*Document, error) { return Parse(owlapi.OpenAPI()) })
)

// Parse reads a document and refuses one that is not valid OpenAPI 3.1, its
// examples included.
func Parse(data []byte) (*Document, error) {
	spec, err := openapi3.NewLoader().LoadFromData(data)
	if err != nil {
		return nil, fmt.Errorf("load document: %w", err)
	}
	if err := spec.Validate(context.Background(), openapi3.EnableExamplesValidation()); err != nil {
		return nil, fmt.Errorf("validate document: %w", err)
	}
	if words := beyondBuiltIn(data); len(words) > 0 {
		return nil, fmt.Errorf("the document uses %v, which builtIn would not check", words)
	}
	return &Document{spec: spec}, nil
}

// builtIn is what routes are given as their document. For 3.1 kin-openapi would
// compile a JSON Schema for each value that it looks at, 3 ms a time, only to
// fall back to its built-in validator wherever there is a $ref. That one knows
// all of 3.1 that our documents use, so it is asked at once.
func builtIn() *openapi3.T { return &openapi3.T{OpenAPI: "3.0.3"} }

// beyondBuiltIn returns the keywords of JSON Schema 2020-12 in a document that
// the built-in validator passes over.
func beyondBuiltIn(data []byte) []string {
	return regexp.MustCompile(`\b(const|prefixItems|contains|minContains|maxContains|patternProperties|dependentSchemas|`+
		`dependentRequired|propertyNames|unevaluatedItems|unevaluatedProperties|if|then|else|\$defs|contentSchema): `).
		FindAllString(string(data), -1)
}

// Spec is the parsed document, to be read only.
func (d *Document) Spec() *openapi3.T { return d.spec }

// Operations lists every operation as "GET /path".
func (d *Document) Operations() []string {
	var all []string
	for path, item := range d.spec.Paths.Map() {
		for method := range item.Operations() {
			all = append(all, method+" "+path)
		}
	}
	return all
}

// Exchange is one request and its answer.
type Exchange struct {
	Method string
	URL    string // absolute
	Header http.Header
	Body   []byte

	Status       int
	AnswerHeader http.Header
	Answer       []byte
}

// Check returns what of an exchange is not as the document says.
func (d *Document) Check(ctx context.Context, x Exchange) error {
	target, err := url.Parse(x.URL)
	if err != nil {
		return fmt.Errorf("parse URL: %w", err)
	}
	route, params, known := d.find(x.Method, target.EscapedPath())
	if route == nil {
		return x.fail(d.checkNowhere(ctx, x, known))
	}
	// One that was refused may be as wrong as can be.
	if x.Status/100 == 2 {
		if err := x.checkRequest(ctx, route, params); err != nil {
			return x.fail(err)
		}
	}
	return x.fail(errors.Join(x.checkAnswer(ctx, route, route.Operation.Responses.Status(x.Status)), x.checkKeyHeaders()))
}

// fail adds which exchange it was.
func (x Exchange) fail(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s answered %d, not as the OpenAPI document says: %w\n%.2000s", x.Method, x.URL, x.Status, err, x.Answer)
}

// checkNowhere is for what meets no operation: 404, or 405 on a known path.
func (d *Document) checkNowhere(ctx context.Context, x Exchange, known bool) error {
	name, want := "NotFound", http.StatusNotFound
	if known {
		name, want = "MethodNotAllowed", http.StatusMethodNotAllowed
	}
	if x.Status != want {
		return fmt.Errorf("the document has no such operation, so it must be %d", want)
	}
	nowhere := &routers.Route{Spec: builtIn(), Operation: &openapi3.Operation{}}
	return x.checkAnswer(ctx, nowhere, d.spec.Components.Responses[name])
}

func (x Exchange) input(
	ctx context.Context, route *routers.Route, params map[string]string,
) (*openapi3filter.RequestValidationInput, error) {
	req, err := http.NewRequestWithContext(ctx, x.Method, x.URL, bytes.NewReader(x.Body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header = x.Header.Clone()
	return &openapi3filter.RequestValidationInput{
		Request: req, PathParams: params, Route: route,
		Options: &openapi3filter.Options{
			AuthenticationFunc:                openapi3filter.NoopAuthenticationFunc, // the service has judged the token
			RejectWhenRequestBodyNotSpecified: true,
			SkipSettingDefaults:               true,
			IncludeResponseStatus:             true,
			SchemaValidationOptions:           formats(),
		},
	}, nil
}

// formats are those that kin-openapi knows by name and does not enforce.
func formats() []openapi3.SchemaValidationOption {
	uuid := openapi3.NewRegexpFormatValidator(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	return []openapi3.SchemaValidationOption{
		openapi3.WithStringFormatValidators(map[string]openapi3.StringFormatValidator{"uuid": uuid}),
	}
}

func (x Exchange) checkRequest(ctx context.Context, route *routers.Route, params map[string]string) error {
	input, err := x.input(ctx, route, params)
	if err != nil {
		return err
	}
	if body := route.Operation.RequestBody; body != nil && len(x.Body) > 0 && !strings.HasSuffix(mediaType(x.Header), "json") {
		// There is nothing to compare in a text but what it is called.
		if body.Value.Content.Get(x.Header.Get("Content-Type")) == nil {
			return fmt.Errorf("the request was accepted: Content-Type %q is not in the document", x.Header.Get("Content-Type"))
		}
		input.Options.ExcludeRequestBody = true
	}
	if err := openapi3filter.ValidateRequest(ctx, input); err != nil {
		return fmt.Errorf("the request was accepted: %w", err)
	}
	return nil
}

func (x Exchange) checkAnswer(ctx context.Context, route *routers.Route, want *openapi3.ResponseRef) error {
	if want == nil {
		return errors.New("the document has no such status for this operation")
	}
	content := want.Value.Content
	if len(content) == 0 {
		if len(x.Answer) > 0 || x.AnswerHeader.Get("Content-Type") != "" {
			return errors.New("the answer has a body, and the document has none")
		}
	} else if content.Get(x.AnswerHeader.Get("Content-Type")) == nil {
		return fmt.Errorf("Content-Type %q is not in the document", x.AnswerHeader.Get("Content-Type"))
	}
	input, err := x.input(ctx, route, nil)
	if err != nil {
		return err
	}
	// What is not JSON is described for people; there is nothing to compare.
	input.Options.ExcludeResponseBody = !strings.HasSuffix(mediaType(x.AnswerHeader), "json")
	only := *route.Operation
	only.Responses = openapi3.NewResponses(openapi3.WithStatus(x.Status, want))
	input.Route.Operation = &only
	err = openapi3filter.ValidateResponse(ctx, &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: x.Status, Header: x.AnswerHeader,
		Body: io.NopCloser(bytes.NewReader(x.Answer)), Options: input.Options,
	})
	if err != nil {
		return fmt.Errorf("the answer: %w", err)
	}
	return nil
}

func mediaType(h http.Header) string {
	name, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.TrimSpace(name)
}

// checkKeyHeaders is what OpenAPI cannot say of headers: which go together.
func (x Exchange) checkKeyHeaders() error {
	h := x.AnswerHeader
	replay, original := h.Get(api.HeaderIdempotentReplay), h.Get(api.HeaderOriginalRequestID)
	if (replay == "") != (original == "") {
		return fmt.Errorf("%s is %q and %s is %q", api.HeaderIdempotentReplay, replay, api.HeaderOriginalRequestID, original)
	}
	takesKey := x.Method == http.MethodPost || x.Method == http.MethodPut || x.Method == http.MethodPatch
	bound := takesKey && x.Header.Get(api.HeaderIdempotencyKey) != "" && x.Status/100 == 2
	if bound && h.Get(api.HeaderIdempotencyKeyExpiresAt) == "" {
		return fmt.Errorf("the request's key is bound, and %s is missing", api.HeaderIdempotencyKeyExpiresAt)
	}
	return nil
}

package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"roost/api"
)

// Validator is implemented by request bodies that check themselves. It
// returns every member that is wrong.
type Validator interface{ Validate() []api.FieldError }

// Limits bound a document.
type Limits struct {
	Bytes int64
	Depth int // of nested objects and arrays, the document itself included
}

// Public is the limits of the public API.
func Public() Limits { return Limits{Bytes: api.MaxBodyBytes, Depth: api.MaxJSONDepth} }

// Decode reads the JSON body of a request, strictly, and validates it if it
// is a Validator. An empty body is {} and needs no Content-Type. It returns an
// *api.Error: BODY_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE, or INVALID_REQUEST
// naming the members.
func Decode(c *gin.Context, limits Limits, into any) error {
	body, err := ReadBody(c, limits.Bytes, "application/json")
	if err != nil {
		return err
	}
	if len(body) == 0 {
		body = []byte("{}")
	}
	return DecodeBytes(body, limits.Depth, into)
}

// ReadBody reads a whole body of the given media type. An empty one needs no
// Content-Type.
func ReadBody(c *gin.Context, maxBytes int64, mediaType string) ([]byte, error) {
	tooLarge := api.Errorf(api.CodeBodyTooLarge,
		"the body is larger than %d bytes. Nothing was done; send a smaller one.", maxBytes)
	if c.Request.ContentLength > maxBytes {
		return nil, tooLarge
	}
	body, err := io.ReadAll(io.LimitReader(c.Request.Body, maxBytes+1))
	if err != nil {
		return nil, &api.Error{
			Code: api.CodeInvalidRequest, Err: err,
			Detail: "the body could not be read to its end. Nothing was done.",
			Fields: []api.FieldError{{Field: "body", Message: "ended early"}},
		}
	}
	if int64(len(body)) > maxBytes {
		return nil, tooLarge
	}
	if len(body) == 0 {
		return nil, nil
	}
	given, _, err := mime.ParseMediaType(c.GetHeader("Content-Type"))
	if err != nil || given != mediaType {
		return nil, &api.Error{
			Code:   api.CodeUnsupportedMediaType,
			Detail: "the body must have Content-Type: " + mediaType + ". Nothing was done.",
			Fields: []api.FieldError{{Field: "Content-Type", Message: "must be " + mediaType}},
		}
	}
	return body, nil
}

// ReadText reads a whole body of text, as it is. An empty one needs no
// Content-Type. Errors as for Decode.
func ReadText(c *gin.Context, limits Limits, mediaType string) (string, error) {
	body, err := ReadBody(c, limits.Bytes, mediaType)
	if err != nil {
		return "", err
	}
	if !utf8.Valid(body) || bytes.IndexByte(body, 0) >= 0 {
		return "", api.Invalid("body", "must be UTF-8 text without NUL")
	}
	return string(body), nil
}

// Validate returns what is wrong with a request that was not decoded from JSON.
func Validate(v Validator) error {
	if fields := v.Validate(); len(fields) > 0 {
		return api.InvalidFields(fields)
	}
	return nil
}

// DecodeBytes is Decode for a document that is already in memory: one JSON
// object, no more than depth deep.
func DecodeBytes(data []byte, depth int, into any) error {
	if err := checkDepth(data, depth); err != nil {
		return err
	}
	if first := bytes.TrimLeft(data, " \t\r\n"); len(first) > 0 && first[0] != '{' {
		return api.Invalid("body", "must be a JSON object")
	}
	if err := json.Unmarshal(data, into, json.RejectUnknownMembers(true)); err != nil {
		return explain(err)
	}
	if v, ok := into.(Validator); ok {
		return Validate(v)
	}
	return nil
}

// checkDepth stops at the first value that lies too deep, before the decoder
// builds anything. Syntax is the decoder's business: it explains it better.
func checkDepth(data []byte, depth int) error {
	dec := jsontext.NewDecoder(bytes.NewReader(data))
	for {
		if _, err := dec.ReadToken(); err != nil {
			return nil //nolint:nilerr // the decoder meets the same error and names the member
		}
		if dec.StackDepth() > depth {
			return api.Invalid(member(dec.StackPointer()), "is nested deeper than %d", depth)
		}
	}
}

// explain turns the decoder's error into one that a client can act on.
func explain(err error) error {
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return api.Invalid(member(syntax.JSONPointer), "is given twice")
		}
		return api.Invalid(member(syntax.JSONPointer), "is not valid JSON at byte %d", syntax.ByteOffset)
	}
	semantic, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return fmt.Errorf("decode body: %w", err)
	}
	field := member(semantic.JSONPointer)
	if errors.Is(err, json.ErrUnknownName) {
		return api.Invalid(field, "is not a known member")
	}
	if errors.Is(err, strconv.ErrRange) || errors.Is(err, strconv.ErrSyntax) {
		return api.Invalid(field, "must be %s of at most 64 bits, without a fraction or an exponent", describe(semantic.GoType))
	}
	if describe(semantic.GoType) == aUUID && semantic.JSONKind == jsontext.KindString {
		return api.Invalid(field, "must be %s", aUUID)
	}
	return api.Invalid(field, "must be %s, not %s", describe(semantic.GoType), kindName(semantic.JSONKind))
}

// maxMemberBytes is how much of a member's name an error repeats.
const maxMemberBytes = 200

func member(p jsontext.Pointer) string {
	if p == "" {
		return "body"
	}
	if len(p) > maxMemberBytes {
		return strings.ToValidUTF8(string(p[:maxMemberBytes]), "") + "…"
	}
	return string(p)
}

const aUUID = "a UUID"

// describe names the JSON that a Go type takes, in the words of an API.
func describe(t reflect.Type) string {
	if t == nil {
		return "another value"
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == reflect.TypeFor[api.ID]() {
		return aUUID
	}
	switch t.Kind() { //nolint:exhaustive // request types use no others
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Slice, reflect.Array:
		return "an array"
	default:
		return "an object"
	}
}

func kindName(k jsontext.Kind) string {
	switch k { //nolint:exhaustive // the others say it themselves: null, true, false
	case jsontext.KindBeginObject:
		return "an object"
	case jsontext.KindBeginArray:
		return "an array"
	case jsontext.KindString:
		return "a string"
	case jsontext.KindNumber:
		return "a number"
	default:
		return k.String()
	}
}

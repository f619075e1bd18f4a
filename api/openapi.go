package api

import _ "embed" // the document is part of the contract, and travels with it

//go:embed openapi.yaml
var openAPI []byte

// OpenAPI is the document of the public API, in YAML, as GET /openapi.yaml
// serves it. Owl's private one is owlapi.OpenAPI.
func OpenAPI() []byte { return append([]byte(nil), openAPI...) }

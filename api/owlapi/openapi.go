package owlapi

import _ "embed" // the document is part of the contract, and travels with it

//go:embed openapi.yaml
var openAPI []byte

// OpenAPI is the document of the private API, in YAML. It is served nowhere.
func OpenAPI() []byte { return append([]byte(nil), openAPI...) }

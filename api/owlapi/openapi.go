package owlapi

import _ "embed" // the document is part of the contract, and travels with it

//go:embed openapi.yaml
var openAPI []byte //nolint:gochecknoglobals // the way in which go:embed hands a file over

// OpenAPI is the document of the private API, in YAML. It is served nowhere.
func OpenAPI() []byte { return append([]byte(nil), openAPI...) }

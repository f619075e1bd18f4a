package idempotency

import (
	"encoding/json"
	"fmt"

	"roost/api/jsondiff"
)

// Members is the fingerprint of a typed request: JSON pointer → digest of
// every member that differs from its default. request has its defaults filled
// in; defaults holds nothing but them. A member that is added to the type
// later is absent from old maps and from new ones that do not use it, so a
// rolling deploy breaks no honest retry.
//
// Secrets that clients cannot repeat (ciphertexts) must be cleared before.
func Members(request, defaults any) (map[string]string, error) {
	given, err := digests(request)
	if err != nil {
		return nil, err
	}
	def, err := digests(defaults)
	if err != nil {
		return nil, err
	}
	for pointer, digest := range def {
		if given[pointer] == digest {
			delete(given, pointer)
		}
	}
	return given, nil
}

func digests(v any) (map[string]string, error) {
	doc, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode request for its fingerprint: %w", err)
	}
	return jsondiff.Digests(doc)
}

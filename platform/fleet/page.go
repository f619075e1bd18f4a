package fleet

import (
	"encoding/base64"

	"roost/api"
)

// Page is which part of a list is asked for. Limit is from 1 to
// api.MaxPageLimit; After is the Cursor of a page before it, or "".
type Page struct {
	Limit int
	After string
}

// afterID reads a cursor over resources. The zero ID comes before all.
func (p Page) afterID() (api.ID, error) {
	raw, err := p.after()
	if err != nil || raw == "" {
		return api.ID{}, err
	}
	id, err := api.ParseID(raw)
	if err != nil {
		return api.ID{}, badCursor()
	}
	return id, nil
}

// afterOperation reads a cursor over operations.
func (p Page) afterOperation() (string, error) {
	raw, err := p.after()
	if err != nil || raw != "" && !api.ValidOperationID(raw) {
		return "", badCursor()
	}
	return raw, nil
}

// after reads a cursor. It is opaque to clients: they are handed it back.
func (p Page) after() (string, error) {
	raw, err := base64.RawURLEncoding.DecodeString(p.After)
	if err != nil {
		return "", badCursor()
	}
	return string(raw), nil
}

func badCursor() *api.Error {
	return api.Invalid("cursor", "is none that a list of this kind has returned")
}

// cut makes a page out of up to limit+1 items.
func cut[T any](items []T, limit int, key func(T) string) api.Page[T] {
	page := api.Page[T]{Items: items}
	if len(items) > limit {
		page.Items = items[:limit]
		next := base64.RawURLEncoding.EncodeToString([]byte(key(items[limit-1])))
		page.NextCursor = &next
	}
	return page
}

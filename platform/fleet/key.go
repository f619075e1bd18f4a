package fleet

import (
	"context"

	"roost/api"
)

// Key says what a key is bound to: the answer to "did my lost request
// happen?". CodeNotFound means that it is not bound so far.
func (f *Fleet) Key(ctx context.Context, workspace api.ID, key string) (api.Key, error) {
	b, err := f.keys.Lookup(f.db.WithContext(ctx), workspace, key)
	if err != nil {
		return api.Key{}, err
	}
	k := api.Key{
		State: "bound", RequestID: b.RequestID,
		CreatedAt: api.NewTime(b.CreatedAt), ExpiresAt: api.NewTime(b.ExpiresAt),
	}
	if b.OperationID != "" {
		k.OperationID = &b.OperationID
	}
	if !b.ResourceID.IsZero() {
		k.ResourceID = &b.ResourceID
	}
	return k, nil
}

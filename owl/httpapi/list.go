package httpapi

import (
	"context"
	"log/slog"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"roost/api"
	"roost/api/owlapi"
	"roost/api/wire"
	"roost/owl/registry"
)

// defaultPage is how many records a page holds that does not say.
const defaultPage = 100

func list[T any](c *gin.Context, read func(context.Context, registry.List) ([]T, error)) error {
	query, err := parseList(c)
	if err != nil {
		return err
	}
	records, err := read(c.Request.Context(), query)
	wire.Note(c.Request.Context(), slog.Int("asked", len(query.IDs)), slog.Int("items", len(records)))
	return answer(c, owlapi.Items[T]{Items: records}, err)
}

// parseList reads ?ids=, or ?after= and ?limit=, and ?spec=false.
func parseList(c *gin.Context) (q registry.List, err error) {
	if q.OmitSpec, err = parseOmitSpec(c.Query("spec")); err != nil {
		return q, err
	}
	if ids, given := c.GetQuery("ids"); given {
		if c.Query("after") != "" || c.Query("limit") != "" {
			return q, api.Invalid("ids", "cannot be combined with after or limit")
		}
		q.IDs, err = parseIDs(ids)
		return q, err
	}
	if after := c.Query("after"); after != "" {
		if q.After, err = api.ParseID(after); err != nil {
			return q, api.Invalid("after", "must be a UUID")
		}
	}
	q.Limit = defaultPage
	if limit := c.Query("limit"); limit != "" {
		q.Limit, err = strconv.Atoi(limit)
		if err != nil || q.Limit < 1 || q.Limit > owlapi.MaxBatchItems {
			return q, api.Invalid("limit", "must be from 1 to %d", owlapi.MaxBatchItems)
		}
	}
	return q, nil
}

func parseOmitSpec(value string) (omit bool, err error) {
	switch value {
	case "", "true":
		return false, nil
	case "false":
		return true, nil
	}
	return false, api.Invalid("spec", "must be true or false")
}

func parseIDs(list string) ([]api.ID, error) {
	ids := []api.ID{}
	if list == "" {
		return ids, nil
	}
	if n := strings.Count(list, ",") + 1; n > owlapi.MaxBatchItems {
		return nil, api.Invalid("ids", "holds %d IDs; at most %d are taken", n, owlapi.MaxBatchItems)
	}
	for text := range strings.SplitSeq(list, ",") {
		id, err := api.ParseID(text)
		if err != nil {
			return nil, api.Invalid("ids", "must be UUIDs separated by commas")
		}
		ids = append(ids, id)
	}
	return ids, nil
}

package httpapi

import (
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"roost/api"
	"roost/api/wire"
	"roost/platform/fleet"
)

// mutation reads what every mutation has in common, then its body: the key's
// syntax is checked before the body's. into may be nil.
func (s *server) mutation(c *gin.Context, into any, path ...string) (fleet.Call, []api.ID, error) {
	return mutationOf(c, func() error { return wire.Decode(c, wire.Public(), into) }, path)
}

// textMutation is mutation for a body that is text of this media type, with
// check to look at it.
func (s *server) textMutation(
	c *gin.Context, mediaType string, check func(text string) error, path ...string,
) (fleet.Call, []api.ID, error) {
	return mutationOf(c, func() error {
		text, err := wire.ReadText(c, wire.Public(), mediaType)
		if err != nil {
			return err
		}
		return check(text)
	}, path)
}

func mutationOf(c *gin.Context, readBody func() error, path []string) (fleet.Call, []api.ID, error) {
	key, err := api.ParseIdempotencyKey(c.Request.Header.Values(api.HeaderIdempotencyKey))
	if err != nil {
		return fleet.Call{}, nil, err
	}
	if err := readBody(); err != nil {
		return fleet.Call{}, nil, err
	}
	return callOf(c, key, path)
}

func callOf(c *gin.Context, key string, path []string) (call fleet.Call, ids []api.ID, err error) {
	call = fleet.Call{
		Workspace: workspaceOf(c), RequestID: wire.RequestID(c.Request.Context()), Key: key,
		Method: c.Request.Method, Route: c.FullPath(), Path: map[string]string{},
	}
	ids = make([]api.ID, len(path))
	for i, name := range path {
		if ids[i], err = wire.Path(c, name); err != nil {
			return fleet.Call{}, nil, err
		}
		call.Path[name] = ids[i].String()
	}
	return call, ids, nil
}

// deletion reads a DELETE: its path says it all, and a key on it is ignored.
func (s *server) deletion(c *gin.Context, path ...string) (fleet.Call, []api.ID, error) {
	return callOf(c, "", path)
}

// goneAs404 is the contract's word to clients that send X-Phala-Version: the
// same body, with the one status that they know as gone.
func goneAs404(c *gin.Context, err error) error {
	coded, ok := errors.AsType[*api.Error](err)
	if !ok || coded.Code != api.CodeGone || c.GetHeader(api.HeaderPhalaVersion) == "" {
		return err
	}
	as404 := *coded
	as404.Code = api.CodeResourceDeleted
	return &as404
}

// answer writes what a mutation answers, and labels it for metrics.
func answer(c *gin.Context, a fleet.Answer, err error) error {
	ctx := c.Request.Context()
	if err != nil {
		wire.SetOutcome(ctx, outcomeOf(err))
		return err
	}
	wire.SetOutcome(ctx, "executed")
	if a.KeyExpiresAt != nil {
		c.Header(api.HeaderIdempotencyKeyExpiresAt, api.NewTime(*a.KeyExpiresAt).String())
	}
	if a.Replayed {
		wire.SetOutcome(ctx, "replayed")
		wire.Note(ctx, slog.String("original_request_id", a.OriginalRequestID))
		c.Header(api.HeaderIdempotentReplay, "true")
		c.Header(api.HeaderOriginalRequestID, a.OriginalRequestID)
	}
	if a.Status == http.StatusNoContent {
		c.Status(a.Status)
		c.Writer.WriteHeaderNow()
		return nil
	}
	if a.Body != nil {
		c.Data(a.Status, "application/json", a.Body)
		return nil
	}
	wire.WriteJSON(c, a.Status, a.Value)
	return nil
}

func outcomeOf(err error) string {
	coded, ok := errors.AsType[*api.Error](err)
	if !ok {
		return "error"
	}
	switch coded.Code { //nolint:exhaustive // the others are refusals
	case api.CodeKeyInProgress:
		return "in_progress"
	case api.CodeIdempotencyKeyReused:
		return "mismatch"
	case api.CodeUnavailable:
		return "unavailable"
	default:
		return "refused"
	}
}

// read writes what a read answers.
func read[T any](c *gin.Context, v T, err error) error {
	if err != nil {
		return err
	}
	wire.WriteJSON(c, http.StatusOK, v)
	return nil
}

// defaultPageLimit is how many items a list has when nobody says.
const defaultPageLimit = 50

func page(c *gin.Context) (fleet.Page, error) {
	p := fleet.Page{Limit: defaultPageLimit, After: c.Query("cursor")}
	if raw, given := c.GetQuery("limit"); given {
		limit, err := strconv.Atoi(raw)
		if err != nil || limit < 1 || limit > api.MaxPageLimit {
			return p, api.Invalid("limit", "must be from 1 to %d", api.MaxPageLimit)
		}
		p.Limit = limit
	}
	return p, nil
}

func waitOf(c *gin.Context) (time.Duration, error) {
	raw, given := c.GetQuery("wait")
	if !given {
		return 0, nil
	}
	wait, err := time.ParseDuration(raw)
	if err != nil || wait < 0 || wait > api.MaxWaitSecs*time.Second {
		return 0, api.Invalid("wait", "must be a duration from 0s to %ds", api.MaxWaitSecs)
	}
	return wait, nil
}

// text reads a path segment that is not a UUID. What no ID or key can hold,
// and Postgres would not take, reads as "", which names nothing.
func text(c *gin.Context, name string) string {
	s, err := url.PathUnescape(c.Param(name))
	if err != nil || strings.ContainsRune(s, 0) || !utf8.ValidString(s) {
		return ""
	}
	return s
}

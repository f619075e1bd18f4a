package httpapi

import (
	"log/slog"
	"math"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/time/rate"

	"roost/api"
	"roost/api/wire"
	"roost/platform/token"
)

const callerKey = "caller"

// authenticate checks token, scope and rate, in this order.
func (s *server) authenticate(c *gin.Context) error {
	ctx := c.Request.Context()
	caller, err := s.cfg.Authenticate(ctx, presentedToken(c.Request))
	if err != nil {
		return err
	}
	wire.Note(ctx, slog.String("workspace_id", caller.WorkspaceID.String()), slog.String("token_id", caller.TokenID))
	reads := c.Request.Method == http.MethodGet || c.Request.Method == http.MethodHead
	if caller.Scope != token.ScopeWrite && !reads {
		return api.Errorf(api.CodeForbidden, "this token has scope %s and may only GET. Nothing was done.", caller.Scope)
	}
	if err := s.limits.allow(caller.TokenID); err != nil {
		return err
	}
	c.Set(callerKey, caller)
	return nil
}

func presentedToken(r *http.Request) string {
	if key := r.Header.Get(api.HeaderAPIKey); key != "" {
		return key
	}
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return secret
}

func workspaceOf(c *gin.Context) api.ID {
	caller, _ := c.MustGet(callerKey).(token.Caller)
	return caller.WorkspaceID
}

// limits holds one bucket for each token that was seen. Only valid tokens
// reach it, so it grows no further than their number.
type limits struct {
	limit   rate.Limit
	mu      sync.Mutex
	buckets map[string]*rate.Limiter
}

func newLimits(limit rate.Limit) *limits {
	return &limits{limit: limit, buckets: map[string]*rate.Limiter{}}
}

func (l *limits) allow(tokenID string) error {
	if l.limit == 0 {
		return nil
	}
	l.mu.Lock()
	bucket, ok := l.buckets[tokenID]
	if !ok {
		bucket = rate.NewLimiter(l.limit, max(1, int(math.Ceil(float64(l.limit)))))
		l.buckets[tokenID] = bucket
	}
	l.mu.Unlock()
	if bucket.Allow() {
		return nil
	}
	return &api.Error{
		Code: api.CodeRateLimited, RetryAfter: time.Second,
		Detail: "this token has sent too many requests. Nothing was done: send the same request again in a second.",
	}
}

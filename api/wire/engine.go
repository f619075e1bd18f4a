package wire

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"

	"roost/api"
)

// Config says how an engine logs and counts.
type Config struct {
	Logger    *slog.Logger
	RequestID func() string // mints a request ID

	// TrustRequestID takes a caller's Request-Id over if it is a ULID. Only
	// for a service whose callers are our own.
	TrustRequestID bool

	// Transient reports whether an error without a code says that the database
	// is away, and nothing about the request: a 503 then, not a 500. May be nil.
	Transient func(error) bool

	// Repeatable says that every call of this API may be repeated, key or not.
	Repeatable bool

	// Observe is called once for each request, after its answer. May be nil.
	Observe func(Observation)
}

// Observation is what is known of a request when it is over.
type Observation struct {
	Method   string // a known one, or "other": callers may send what they like
	Route    string // the pattern, never the path: its cardinality is bounded
	Status   int
	Outcome  string
	Duration time.Duration
}

// NewEngine makes an engine that keeps this package's promises for every
// route, and for requests that meet none.
func NewEngine(cfg Config) *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.RedirectTrailingSlash = false
	engine.HandleMethodNotAllowed = true
	// Path segments keep their escapes: gin would turn %2B into a space's
	// neighbour and %2F into a boundary. Handlers unescape with url.PathUnescape.
	// (UseRawPath keeps them only in some paths: one with %25 alone would be
	// unescaped twice.)
	engine.UseEscapedPath = true
	engine.UnescapePathValues = false
	_ = engine.SetTrustedProxies(nil) // cannot fail for nil
	engine.Use(cfg.observe, cfg.recover)
	engine.NoRoute(Handle(func(c *gin.Context) error {
		return api.Errorf(api.CodeNotFound, "nothing lives at this path; see /openapi.yaml for those that exist.")
	}))
	engine.NoMethod(Handle(func(c *gin.Context) error {
		return api.Errorf(api.CodeMethodNotAllowed, "%s is not allowed here; the Allow header names what is.", c.Request.Method)
	}))
	return engine
}

// observe gives the request its ID and, when it is over, its one log line.
func (cfg Config) observe(c *gin.Context) {
	start := time.Now()
	r := &request{id: cfg.requestID(c), transient: cfg.Transient, repeatable: cfg.Repeatable || repeatable(c.Request)}
	c.Header(api.HeaderRequestID, r.id)
	c.Request = c.Request.WithContext(withRequest(c.Request.Context(), r))
	c.Next()

	outcome, attrs := r.finish()
	o := Observation{
		Method: knownMethod(c.Request.Method), Route: c.FullPath(), Status: c.Writer.Status(),
		Outcome: outcome, Duration: time.Since(start),
	}
	if cfg.Observe != nil {
		cfg.Observe(o)
	}
	line := append([]slog.Attr{
		slog.String("request_id", r.id),
		slog.String("method", o.Method),
		slog.String("route", o.Route),
		slog.Int("status", o.Status),
		slog.Float64("duration_ms", float64(o.Duration.Microseconds())/1000),
		slog.Int("bytes", max(c.Writer.Size(), 0)),
	}, attrs...)
	if outcome != "" {
		line = append(line, slog.String("outcome", outcome))
	}
	level := slog.LevelInfo
	if o.Status >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	cfg.Logger.LogAttrs(c.Request.Context(), level, "request", line...)
}

func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}

// repeatable reports whether a request may be sent again whatever became of it.
func repeatable(r *http.Request) bool {
	return r.Method != http.MethodPost && r.Method != http.MethodPut && r.Method != http.MethodPatch ||
		r.Header.Get(api.HeaderIdempotencyKey) != ""
}

func (cfg Config) requestID(c *gin.Context) string {
	if given := c.GetHeader(api.HeaderRequestID); cfg.TrustRequestID && api.ValidRequestID(given) {
		return given
	}
	return cfg.RequestID()
}

// recover turns a panic into a 500. Handlers write last, so there is nothing
// on the wire yet; where there is, the connection is cut instead of lying.
func (cfg Config) recover(c *gin.Context) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		Note(c.Request.Context(), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		if c.Writer.Written() {
			panic(http.ErrAbortHandler)
		}
		writeError(c, errors.New("panic"))
	}()
	c.Next()
}

// Handle adapts a handler that returns its error. The error becomes a problem
// document; a handler that returns one has written nothing.
func Handle(handler func(c *gin.Context) error) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := handler(c); err != nil {
			writeError(c, err)
			c.Abort()
		}
	}
}

// WriteJSON answers with a body. It is the last thing that a handler does.
func WriteJSON(c *gin.Context, status int, v any) {
	body, err := Encode(v)
	if err != nil {
		writeError(c, err)
		return
	}
	c.Data(status, "application/json", body)
}

// Encode is the JSON of an answer as this package writes it. Stored bodies
// are made with it, so that a replay is the same bytes.
func Encode(v any) ([]byte, error) { return json.Marshal(v) }

// Path reads the UUID in a path. What is no UUID was never a resource: 404.
func Path(c *gin.Context, name string) (api.ID, error) {
	parse := api.ParseID
	if name == "app_id" {
		parse = api.ParseAppID
	}
	raw, err := url.PathUnescape(c.Param(name))
	if err != nil {
		raw = ""
	}
	id, err := parse(raw)
	if err != nil {
		return api.ID{}, api.Errorf(api.CodeNotFound, "%s in the path is not a UUID, so it names nothing.", name)
	}
	return id, nil
}

// uncoded finds the code for an error that has none.
func uncoded(r *request, err error) *api.Error {
	if r != nil && r.transient != nil && r.transient(err) {
		return &api.Error{
			Code: api.CodeUnavailable, RetryAfter: time.Second,
			Detail: "the database cannot answer now. Nothing was done: send the same request again.",
		}
	}
	if r != nil && r.repeatable {
		return &api.Error{
			Code: api.CodeInternal, RetryAfter: time.Second,
			Detail: "the request met an error that is ours. It is safe to send it again; if it keeps happening, report the request ID.",
		}
	}
	return api.Errorf(api.CodeInternal, "the request met an error that is ours, and without an Idempotency-Key a repeat "+
		"could do it twice: look at the list first, and report the request ID.")
}

func writeError(c *gin.Context, err error) {
	ctx := c.Request.Context()
	problem, retryAfter := ProblemOf(ctx, err)
	Note(ctx, slog.String("error", err.Error()), slog.String("error_code", string(problem.ErrorCode)))
	if problem.Status == http.StatusUnauthorized {
		c.Header("WWW-Authenticate", "Bearer")
	}
	if retryAfter > 0 {
		c.Header("Retry-After", strconv.Itoa(retryAfter))
	}
	if coded, ok := errors.AsType[*api.Error](err); ok && coded.KeyExpiresAt != nil {
		c.Header(api.HeaderIdempotencyKeyExpiresAt, coded.KeyExpiresAt.String())
	}
	body, encodeErr := Encode(problem)
	if encodeErr != nil {
		body = []byte(`{}`) // cannot happen: a Problem holds only strings
	}
	c.Data(problem.Status, api.ProblemContentType, body)
}

// ProblemOf is the document for an error, and the Retry-After that goes with
// it in seconds (0: none). An error without a code is a 503 if the database is
// away, otherwise a 500 that says nothing.
func ProblemOf(ctx context.Context, err error) (problem api.Problem, retryAfter int) {
	coded, ok := errors.AsType[*api.Error](err)
	if !ok {
		coded = uncoded(fromContext(ctx), err)
	}
	problem = coded.Problem(RequestID(ctx))
	if coded.Code == api.CodeInternal {
		problem.Retryable = coded.RetryAfter > 0
	}
	if coded.Code.Retryable() || coded.RetryAfter > 0 {
		retryAfter = max(1, int(math.Ceil(coded.RetryAfter.Seconds())))
	}
	return problem, retryAfter
}

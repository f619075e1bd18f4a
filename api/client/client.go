package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"roost/api"
)

// basePath is where the public API lives on every endpoint.
const basePath = "/api/v1"

// agent names this package in the User-Agent of every request.
const agent = "roost-go/1"

// Config says where Platform is and how to talk to it. Endpoint and Token are
// required; everything else has a good zero value.
type Config struct {
	Endpoint string // such as https://roost.example.com, with or without /api/v1
	Token    string // shown to Platform and to nobody else: no log, no error has it

	// HTTPClient sends the requests; nil is NewHTTPClient(). It is copied, and
	// the copy follows no redirect: a token is shown to Endpoint alone. Its
	// Timeout, if there is one, bounds each attempt beside Retry.AttemptTimeout.
	HTTPClient *http.Client

	Logger    *slog.Logger // one debug line an attempt; nil: none
	UserAgent string       // stands before the SDK's own
	Retry     Retry
}

// LogValue implements slog.LogValuer: a Config in a log shows no token.
func (c Config) LogValue() slog.Value {
	return slog.GroupValue(slog.String("endpoint", c.Endpoint), slog.String("user_agent", c.UserAgent))
}

// Client calls Platform. It is safe for concurrent use, and one is enough for
// a process: the retry budget and the idle connections belong to it.
type Client struct {
	base      string        // the endpoint with /api/v1, without a slash at its end
	bearer    func() string // a closure, so that no %+v of a Client shows the token
	http      *http.Client
	log       *slog.Logger
	userAgent string
	retry     Retry
	budget    *rate.Limiter
	minter    *api.Minter
}

// New makes a Client. It makes no request: a wrong token shows at the first
// call.
func New(cfg Config) (*Client, error) {
	base, err := parseEndpoint(cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	if err := checkToken(cfg.Token); err != nil {
		return nil, err
	}
	if strings.ContainsFunc(cfg.UserAgent, func(r rune) bool { return r < ' ' || r > '~' }) {
		return nil, errors.New("user agent holds something else than printable ASCII characters")
	}
	retry, err := cfg.Retry.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Client{
		base: base, http: withoutRedirects(cfg.HTTPClient), log: cfg.Logger, retry: retry,
		bearer:    func() string { return "Bearer " + cfg.Token },
		userAgent: strings.TrimSpace(cfg.UserAgent + " " + agent),
		budget:    rate.NewLimiter(rate.Limit(retry.BudgetPerSecond), retry.BudgetBurst),
		minter:    api.NewMinter(),
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// CloseIdleConnections closes the connections that no call is using.
func (c *Client) CloseIdleConnections() { c.http.CloseIdleConnections() }

// Endpoint is the API's address as requests use it, with /api/v1.
func (c *Client) Endpoint() string { return c.base }

// parseEndpoint brings every spelling of an endpoint to the one that paths are
// appended to.
func parseEndpoint(endpoint string) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "", errors.New("endpoint is not a URL") // the parser's own error quotes what may hold a password
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return "", errors.New("endpoint must begin with http:// or https://")
	case u.Hostname() == "":
		return "", errors.New("endpoint names no host")
	case u.User != nil:
		return "", errors.New("endpoint must not hold a user or password; the token goes into Token")
	case u.RawQuery != "" || u.Fragment != "":
		return "", errors.New("endpoint must end with its path")
	}
	path := strings.TrimSuffix(strings.TrimRight(u.EscapedPath(), "/"), basePath)
	return (&url.URL{Scheme: u.Scheme, Host: u.Host}).String() + path + basePath, nil
}

func checkToken(token string) error {
	if token == "" {
		return errors.New("token is required")
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r < '!' || r > '~' }) {
		return errors.New("token holds something else than visible ASCII characters") // shown by no means: it is a secret
	}
	return nil
}

// Limits of the default HTTP client. A whole attempt is bounded by
// Retry.AttemptTimeout.
const (
	dialTimeout         = 5 * time.Second
	tlsHandshakeTimeout = 5 * time.Second
	idleConnTimeout     = 90 * time.Second
	maxIdleConns        = 64 // to the one host that there is
	keepAlive           = 15 * time.Second

	// A connection of HTTP/2 outlives the attempts that time out on it. Pings
	// find a dead one before the first of them is given up.
	pingAfter   = 10 * time.Second // without a frame
	pingTimeout = 5 * time.Second
)

// NewHTTPClient is the HTTP client that a Client makes for itself, for those
// who want to change something about it, such as its TLS configuration.
func NewHTTPClient() *http.Client {
	dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}
	return &http.Client{Transport: &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		ForceAttemptHTTP2:   true,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		TLSHandshakeTimeout: tlsHandshakeTimeout,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		IdleConnTimeout:     idleConnTimeout,
		MaxIdleConns:        maxIdleConns,
		MaxIdleConnsPerHost: maxIdleConns,
	}}
}

// withoutRedirects copies a client. Followed, a redirect would send the token
// to whoever is named there, and turn some POSTs into GETs.
func withoutRedirects(given *http.Client) *http.Client {
	if given == nil {
		given = NewHTTPClient()
	}
	c := *given
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// path fills a pattern of the contract with values, each escaped.
func path(pattern string, values ...string) string {
	escaped := make([]any, len(values))
	for i, v := range values {
		escaped[i] = escape(v)
	}
	return fmt.Sprintf(pattern, escaped...)
}

// escape percent-encodes all that a proxy on the way could take for structure:
// also the dots of "..", which url.PathEscape leaves alone.
func escape(segment string) string {
	return strings.ReplaceAll(url.PathEscape(segment), ".", "%2E")
}

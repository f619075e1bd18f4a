package api

import (
	"strings"
)

// Headers of the contract.
const (
	HeaderAPIKey                  = "X-API-Key" //nolint:gosec // a header's name, not a key
	HeaderIdempotencyKey          = "Idempotency-Key"
	HeaderIdempotencyKeyExpiresAt = "Idempotency-Key-Expires-At"
	HeaderIdempotentReplay        = "Idempotent-Replay"
	HeaderOriginalRequestID       = "Original-Request-Id"
	HeaderRequestID               = "Request-Id"
	HeaderPhalaVersion            = "X-Phala-Version"
)

// MaxKeyBytes is the longest Idempotency-Key, counted after unescaping.
const MaxKeyBytes = 255

// ParseIdempotencyKey reads the values of the Idempotency-Key header. No
// header at all is no key (""). A key is either bare (abc) or a structured
// header's string ("abc", RFC 9651 section 3.3.3, without spaces); both
// spellings of one key are one key. It returns an *Error with
// CodeInvalidIdempotencyKey.
func ParseIdempotencyKey(values []string) (string, error) {
	if len(values) == 0 {
		return "", nil
	}
	if len(values) > 1 {
		return "", badKey("was given more than once; send exactly one")
	}
	key, reason := values[0], checkKey(values[0], `"`)
	if strings.HasPrefix(key, `"`) {
		key, reason = unquoteKey(key)
	}
	if reason != "" {
		return "", badKey(reason)
	}
	return key, nil
}

// FormatIdempotencyKey is the header value that ParseIdempotencyKey reads
// back as key: bare where the grammar allows it, otherwise quoted.
func FormatIdempotencyKey(key string) string {
	if !strings.Contains(key, `"`) {
		return key
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) + `"`
}

func unquoteKey(s string) (key, reason string) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			if i != len(s)-1 {
				return "", "has something after its closing quote"
			}
			return b.String(), checkKey(b.String(), "")
		case '\\':
			i++
			if i == len(s) || (s[i] != '"' && s[i] != '\\') {
				return "", `may escape only \" and \\`
			}
		}
		if i < len(s) {
			b.WriteByte(s[i])
		}
	}
	return "", "has no closing quote"
}

// checkKey returns what is wrong with an unescaped key, or "".
func checkKey(key, forbidden string) string {
	if key == "" {
		return "is empty"
	}
	if len(key) > MaxKeyBytes {
		return "is longer than 255 characters"
	}
	for i := range len(key) {
		if key[i] < '!' || key[i] > '~' || strings.IndexByte(forbidden, key[i]) >= 0 {
			return "may hold only visible ASCII characters, without spaces, and quotes only inside a quoted key"
		}
	}
	return ""
}

func badKey(reason string) *Error {
	return &Error{
		Code:   CodeInvalidIdempotencyKey,
		Detail: HeaderIdempotencyKey + " " + reason + ". Nothing was done; a UUID is a good key.",
		Fields: []FieldError{{Field: HeaderIdempotencyKey, Message: reason}},
	}
}

package api_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"roost/api"
)

// quoted is the structured-header spelling of a key, written here a second
// time so that the test does not rest on what it tests.
func quoted(key string) string {
	return `"` + strings.ReplaceAll(strings.ReplaceAll(key, `\`, `\\`), `"`, `\"`) + `"`
}

// anyKey draws every key that the grammar allows.
func anyKey() *rapid.Generator[string] {
	return rapid.StringOfN(rapid.RuneFrom(visible()), 1, api.MaxKeyBytes, api.MaxKeyBytes)
}

func visible() []rune {
	var all []rune
	for r := '!'; r <= '~'; r++ {
		all = append(all, r)
	}
	return all
}

func TestNoHeaderIsNoKey(t *testing.T) {
	t.Parallel()
	for _, none := range [][]string{nil, {}} {
		key, err := api.ParseIdempotencyKey(none)
		require.NoError(t, err)
		require.Empty(t, key)
	}
}

func TestParseIdempotencyKeyReadsBothSpellings(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", api.MaxKeyBytes)
	escaped := strings.Repeat(`"`, api.MaxKeyBytes)
	for in, want := range map[string]string{
		`abc`:                                    `abc`,
		`"abc"`:                                  `abc`,
		`0`:                                      `0`,
		`0198c0de-1234-7abc-8def-0123456789ab`:   `0198c0de-1234-7abc-8def-0123456789ab`,
		`"0198c0de-1234-7abc-8def-0123456789ab"`: `0198c0de-1234-7abc-8def-0123456789ab`,
		`a\b`:                                    `a\b`,
		`"a\\b"`:                                 `a\b`,
		`\"`[:1]:                                 `\`,
		`"a\"b"`:                                 `a"b`,
		`"\""`:                                   `"`,
		`"\\"`:                                   `\`,
		`a/b%2F;p=1,c`:                           `a/b%2F;p=1,c`,
		`'abc'`:                                  `'abc'`,
		long:                                     long,
		`"` + long + `"`:                         long,
		quoted(escaped):                          escaped,
		string(visible()):                        "", // holds a quote
	} {
		key, err := api.ParseIdempotencyKey([]string{in})
		if want == "" {
			require.Error(t, err, "%q", in)
			continue
		}
		require.NoError(t, err, "%q", in)
		require.Equal(t, want, key, "%q", in)
	}
}

func TestParseIdempotencyKeyRefuses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", api.MaxKeyBytes+1)
	for name, values := range map[string][]string{
		"an empty value":             {``},
		"an empty string":            {`""`},
		"two headers":                {`abc`, `abd`},
		"the same header twice":      {`abc`, `abc`},
		"a value and an empty one":   {`abc`, ``},
		"a space":                    {`a b`},
		"a leading space":            {` abc`},
		"a trailing space":           {`abc `},
		"a space in quotes":          {`"a b"`},
		"a space before the quotes":  {` "abc"`},
		"a tab":                      {"a\tb"},
		"a line break":               {"a\r\nb"},
		"NUL":                        {"a\x00b"},
		"NUL in quotes":              {"\"a\x00b\""},
		"DEL":                        {"a\x7fb"},
		"non-ASCII":                  {`schlüssel`},
		"non-ASCII in quotes":        {`"schlüssel"`},
		"a lone high byte":           {"a\xff"},
		"a quote inside a bare key":  {`a"b`},
		"a quote after a bare key":   {`abc"`},
		"an open quote":              {`"abc`},
		"a quote alone":              {`"`},
		"an escaped closing quote":   {`"abc\"`},
		"an escape of nothing":       {`"abc\`},
		"an escape of a letter":      {`"a\bc"`},
		"an escape of non-ASCII":     {`"a\éc"`},
		"a parameter":                {`"abc";p=1`},
		"a list":                     {`"abc", "def"`},
		"text after the quotes":      {`"abc"d`},
		"two strings":                {`"abc""def"`},
		"256 characters":             {long},
		"256 characters in quotes":   {`"` + long + `"`},
		"256 escaped characters":     {quoted(strings.Repeat(`\`, api.MaxKeyBytes+1))},
		"a million characters":       {strings.Repeat("k", 1_000_000)},
		"a million escaped in quote": {quoted(strings.Repeat(`"`, 1_000_000))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, err := api.ParseIdempotencyKey(values)
			require.Empty(t, key)
			var coded *api.Error
			require.ErrorAs(t, err, &coded)
			require.Equal(t, api.CodeInvalidIdempotencyKey, coded.Code)
			require.Len(t, coded.Fields, 1)
			require.Equal(t, "Idempotency-Key", coded.Fields[0].Field)
			require.NotEmpty(t, coded.Fields[0].Message)
			require.Contains(t, coded.Detail, coded.Fields[0].Message)
			require.Less(t, len(coded.Detail), 300, "the key is not repeated")
		})
	}
}

func TestBareAndQuotedSpellingsOfAKeyAreOneKey(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		key := anyKey().Draw(t, "key")
		fromQuoted, err := api.ParseIdempotencyKey([]string{quoted(key)})
		require.NoError(t, err)
		require.Equal(t, key, fromQuoted)
		if strings.Contains(key, `"`) {
			return // has no bare spelling
		}
		fromBare, err := api.ParseIdempotencyKey([]string{key})
		require.NoError(t, err)
		require.Equal(t, key, fromBare)
	})
}

func TestFormatIdempotencyKeyIsReadBackAsTheSameKey(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		key := anyKey().Draw(t, "key")
		got, err := api.ParseIdempotencyKey([]string{api.FormatIdempotencyKey(key)})
		require.NoError(t, err)
		require.Equal(t, key, got)
	})
}

func TestWhateverParsesIsAKeyOfTheGrammar(t *testing.T) {
	t.Parallel()
	text := rapid.OneOf(rapid.String(), rapid.StringMatching(`"?[ -~]{0,8}"?`), rapid.StringMatching(`"([!-~]|\\["\\a])*"`))
	rapid.Check(t, func(t *rapid.T) {
		key, err := api.ParseIdempotencyKey([]string{text.Draw(t, "value")})
		if err != nil {
			require.Empty(t, key)
			return
		}
		require.NotEmpty(t, key)
		require.LessOrEqual(t, len(key), api.MaxKeyBytes)
		require.NotContains(t, key, " ")
		for _, b := range []byte(key) {
			require.True(t, b >= '!' && b <= '~')
		}
	})
}

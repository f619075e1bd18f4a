package api_test

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"roost/api"
	"roost/models/pgtest"
)

// anyID draws all 16 bytes: an ID that is read may be of any version.
func anyID() *rapid.Generator[api.ID] {
	return rapid.Custom(func(t *rapid.T) api.ID {
		return api.ID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "bytes"))
	})
}

func TestMintedIDsAreVersion7AndAscendAndNeverRepeat(t *testing.T) {
	t.Parallel()
	m := api.NewMinter()
	var previous api.ID
	for range 200_000 {
		id := m.ID()
		require.Equal(t, byte(0x70), id[6]&0xf0, "version of %s", id)
		require.Equal(t, byte(0x80), id[8]&0xc0, "variant of %s", id)
		// Strictly ascending is also: no duplicates.
		require.Positive(t, bytes.Compare(id[:], previous[:]), "%s then %s", previous, id)
		previous = id
	}
}

func TestMintingFromManyGoroutinesNeverRepeats(t *testing.T) {
	t.Parallel()
	const goroutines, each = 8, 5_000
	m, other := api.NewMinter(), api.NewMinter()
	minted := make([][]any, goroutines)
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for range each {
				minted[g] = append(minted[g], m.ID(), other.ID(), m.OperationID(), m.RequestID())
			}
		})
	}
	wg.Wait()
	seen := make(map[any]bool, goroutines*each*4)
	for _, ids := range minted {
		for _, id := range ids {
			require.False(t, seen[id], "%v was minted twice", id)
			seen[id] = true
		}
	}
}

func TestOperationAndRequestIDsAreULIDs(t *testing.T) {
	t.Parallel()
	m := api.NewMinter()
	require.Regexp(t, `^op_[0-7][0-9A-HJKMNP-TV-Z]{25}$`, m.OperationID())
	require.Regexp(t, `^[0-7][0-9A-HJKMNP-TV-Z]{25}$`, m.RequestID())
	require.True(t, api.ValidRequestID(m.RequestID()))
	for _, bad := range []string{
		"", "x", m.OperationID(), m.ID().String(), strings.Repeat("U", 26), strings.Repeat("Z", 26),
		m.RequestID() + "0", m.RequestID()[:25], "\n" + m.RequestID()[1:],
	} {
		require.False(t, api.ValidRequestID(bad), "%q", bad)
	}
}

func TestParseIDReadsWhatStringWritesInEitherCase(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := anyID().Draw(t, "id")
		for _, s := range []string{id.String(), strings.ToUpper(id.String())} {
			got, err := api.ParseID(s)
			require.NoError(t, err)
			require.Equal(t, id, got)
		}
		require.Equal(t, strings.ToLower(id.String()), id.String())
	})
}

func TestParseIDAcceptsThe36CharacterFormAlone(t *testing.T) {
	t.Parallel()
	const id = "0198c0de-1234-7abc-8def-0123456789ab"
	for _, bad := range []string{
		"", id[:35], id + "0", "{" + id + "}", "urn:uuid:" + id, strings.ReplaceAll(id, "-", ""),
		"app_" + id, " " + id[1:], id[:35] + " ", id[:35] + "g", "0198c0de_1234_7abc_8def_0123456789ab",
		"0198c0de1-234-7abc-8def-0123456789ab", "-198c0de-1234-7abc-8def-0123456789ab",
		"0198c0de-1234-7abc-8def-0123456789a\x00", strings.Repeat("-", 36), strings.Repeat("é", 18),
	} {
		_, err := api.ParseID(bad)
		require.Error(t, err, "%q", bad)
		require.Error(t, new(api.ID).UnmarshalText([]byte(bad)), "%q", bad)
	}
}

func TestParseIDAgreesWithTheGrammarOnAnyText(t *testing.T) {
	t.Parallel()
	grammar := regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	almost := rapid.Custom(func(t *rapid.T) string {
		s := []byte(anyID().Draw(t, "id").String())
		s[rapid.IntRange(0, 35).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
		return string(s)
	})
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), almost).Draw(t, "text")
		_, err := api.ParseID(s)
		require.Equal(t, grammar.MatchString(s), err == nil, "%q", s)
	})
}

func TestParseAppIDTakesBothSpellings(t *testing.T) {
	t.Parallel()
	want := api.NewMinter().ID()
	for _, s := range []string{want.String(), "app_" + want.String(), "app_" + strings.ToUpper(want.String())} {
		got, err := api.ParseAppID(s)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, bad := range []string{"app_", "app_app_" + want.String(), "APP_" + want.String(), want.String() + "app_"} {
		_, err := api.ParseAppID(bad)
		require.Error(t, err, "%q", bad)
	}
}

func TestIDRoundTripsThroughJSON(t *testing.T) {
	t.Parallel()
	type document struct {
		ID  api.ID         `json:"id"`
		Ref *api.ID        `json:"ref"`
		Map map[api.ID]int `json:"map"`
	}
	rapid.Check(t, func(t *rapid.T) {
		id := anyID().Draw(t, "id")
		want := document{ID: id, Ref: &id, Map: map[api.ID]int{id: 1}}
		doc, err := json.Marshal(want)
		require.NoError(t, err)
		require.Contains(t, string(doc), `"id":"`+id.String()+`"`)
		var got document
		require.NoError(t, json.Unmarshal(doc, &got))
		require.Equal(t, want, got)
	})
	for _, bad := range []string{`{"id":1}`, `{"id":""}`, `{"id":"0198c0de"}`, `{"id":[]}`} {
		require.Error(t, json.Unmarshal([]byte(bad), &document{}), bad)
	}
}

func TestIDScansEveryFormThatADriverGives(t *testing.T) {
	t.Parallel()
	want := api.NewMinter().ID()
	value, err := want.Value()
	require.NoError(t, err)
	for _, src := range []any{value, want.String(), []byte(want.String()), want[:], [16]byte(want)} {
		var got api.ID
		require.NoError(t, got.Scan(src))
		require.Equal(t, want, got)
	}
	for _, bad := range []any{nil, 1, "", []byte{}, want[:15], []byte("0198c0de"), true} {
		got := want
		require.Error(t, got.Scan(bad), "%v", bad)
		require.Equal(t, want, got, "a failed Scan must not change the ID")
	}
}

func TestIDRoundTripsThroughAUUIDColumn(t *testing.T) {
	t.Parallel()
	type Thing struct {
		ID    api.ID `gorm:"primaryKey"`
		Other *api.ID
	}
	db := pgtest.Platform(t)
	require.NoError(t, db.Exec(`CREATE TABLE things (id uuid PRIMARY KEY, other uuid)`).Error)
	m := api.NewMinter()
	for n := range 50 {
		want := Thing{ID: m.ID()}
		if n%2 == 0 {
			other := m.ID()
			want.Other = &other
		}
		require.NoError(t, db.Create(&want).Error)
		var got Thing
		require.NoError(t, db.Where("id = ?", want.ID).Take(&got).Error)
		require.Equal(t, want, got)
		var text string
		require.NoError(t, db.Raw(`SELECT id::text FROM things WHERE id = ?`, want.ID).Scan(&text).Error)
		require.Equal(t, want.ID.String(), text)
	}
	var ids []api.ID
	require.NoError(t, db.Raw(`SELECT id FROM things ORDER BY id`).Scan(&ids).Error)
	require.Len(t, ids, 50)
	for i := 1; i < len(ids); i++ {
		require.Negative(t, bytes.Compare(ids[i-1][:], ids[i][:]), "Postgres orders as bytes do")
	}
}

func TestOnlyTheNilUUIDIsZero(t *testing.T) {
	t.Parallel()
	require.True(t, api.ID{}.IsZero())
	require.False(t, api.NewMinter().ID().IsZero())
	for i := range 16 {
		var id api.ID
		id[i] = 1
		require.False(t, id.IsZero(), "byte %d", i)
	}
}

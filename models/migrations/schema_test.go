package migrations_test

import (
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"roost/api"
	"roost/models"
	"roost/models/migrations"
	"roost/models/pgtest"
)

func TestPlatformSchemaIsItsModels(t *testing.T) {
	t.Parallel()
	require.Empty(t, differences(t, pgtest.Platform(t), migrations.Platform(), models.PlatformTables()))
}

func TestOwlSchemaIsItsModels(t *testing.T) {
	t.Parallel()
	require.Empty(t, differences(t, pgtest.Owl(t), migrations.Owl(), models.OwlTables()))
}

// TestDifferencesAreSeen keeps the two tests above from passing in silence.
func TestDifferencesAreSeen(t *testing.T) {
	t.Parallel()
	type Sample struct {
		ID     api.ID `gorm:"primaryKey"`
		Size   string
		Note   string
		Due    *time.Time
		Absent bool
	}
	type Lost struct {
		ID api.ID `gorm:"primaryKey"`
	}
	db := pgtest.Owl(t)
	require.NoError(t, db.Exec(`CREATE TABLE samples
		(id uuid NOT NULL, size bigint NOT NULL, note text, due timestamptz NOT NULL, extra text)`).Error)
	require.NoError(t, db.Exec(`CREATE TABLE strays (id uuid PRIMARY KEY)`).Error)

	found := differences(t, db, migrations.Owl(), append(models.OwlTables(), &Sample{}, &Lost{}))
	require.ElementsMatch(t, []string{
		"samples: primary key is [] in the database, [id] in the model",
		"samples.size: bigint in the database, string in the model",
		"samples.note: nullable in the database, string in the model",
		"samples.due: NOT NULL in the database, *time.Time in the model",
		"samples.absent: no such column",
		"samples.extra: no such field",
		"losts: no such table",
		"strays: no such model",
	}, found)
}

// column is a row of information_schema.columns.
type column struct {
	TableName, ColumnName, DataType string
	Nullable                        bool
}

// table is columns by name, and the primary key.
type table struct {
	columns map[string]column
	primary []string
}

// differences compares the database's tables with the models, both ways.
func differences(t *testing.T, db *gorm.DB, set migrations.Set, rows []any) []string {
	t.Helper()
	tables := readTables(t, db)
	delete(tables, set.VersionTable())
	var found []string
	for _, row := range rows {
		model, err := schema.Parse(row, &sync.Map{}, db.NamingStrategy)
		require.NoError(t, err)
		if actual, ok := tables[model.Table]; ok {
			found = append(found, compareTable(model, actual)...)
		} else {
			found = append(found, model.Table+": no such table")
		}
		delete(tables, model.Table)
	}
	for name := range tables {
		found = append(found, name+": no such model")
	}
	return found
}

func readTables(t *testing.T, db *gorm.DB) map[string]table {
	t.Helper()
	var columns []column
	require.NoError(t, db.Raw(`
		SELECT table_name, column_name, data_type, is_nullable = 'YES' AS nullable
		FROM information_schema.columns WHERE table_schema = 'public'`).Scan(&columns).Error)
	tables := map[string]table{}
	for _, c := range columns {
		if _, ok := tables[c.TableName]; !ok {
			tables[c.TableName] = table{columns: map[string]column{}, primary: readPrimaryKey(t, db, c.TableName)}
		}
		tables[c.TableName].columns[c.ColumnName] = c
	}
	return tables
}

func readPrimaryKey(t *testing.T, db *gorm.DB, name string) []string {
	t.Helper()
	var columns []string
	require.NoError(t, db.Raw(`
		SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
		WHERE indisprimary AND indrelid = ?::regclass ORDER BY array_position(indkey::int[], attnum::int)`, name).Scan(&columns).Error)
	return columns
}

func compareTable(model *schema.Schema, actual table) []string {
	var found []string
	if !slices.Equal(actual.primary, model.PrimaryFieldDBNames) {
		found = append(found, fmt.Sprintf("%s: primary key is %v in the database, %v in the model",
			model.Table, actual.primary, model.PrimaryFieldDBNames))
	}
	for _, field := range model.Fields {
		if field.DBName == "" {
			continue
		}
		name := model.Table + "." + field.DBName
		if c, ok := actual.columns[field.DBName]; ok {
			found = append(found, compareColumn(name, c, field.FieldType)...)
		} else {
			found = append(found, name+": no such column")
		}
		delete(actual.columns, field.DBName)
	}
	for rest := range actual.columns {
		found = append(found, model.Table+"."+rest+": no such field")
	}
	return found
}

func compareColumn(name string, c column, field reflect.Type) []string {
	value := field
	if field.Kind() == reflect.Pointer {
		value = field.Elem()
	}
	if !slices.Contains(columnTypes(value), c.DataType) {
		return []string{fmt.Sprintf("%s: %s in the database, %s in the model", name, c.DataType, field)}
	}
	switch {
	case value.Kind() == reflect.Slice: // nil is NULL, and where the column is NOT NULL Postgres says so
		return nil
	case c.Nullable && field.Kind() != reflect.Pointer:
		return []string{fmt.Sprintf("%s: nullable in the database, %s in the model", name, field)}
	case !c.Nullable && field.Kind() == reflect.Pointer:
		return []string{fmt.Sprintf("%s: NOT NULL in the database, %s in the model", name, field)}
	}
	return nil
}

// columnTypes are those that hold every value of a Go type and nothing that the
// Go type cannot. A type that is missing here is a difference.
func columnTypes(value reflect.Type) []string {
	switch value {
	case reflect.TypeFor[api.ID]():
		return []string{"uuid"}
	case reflect.TypeFor[models.JSON]():
		return []string{"json"}
	case reflect.TypeFor[[]byte]():
		return []string{"bytea"}
	case reflect.TypeFor[time.Time]():
		return []string{"timestamp with time zone"}
	}
	byKind := map[reflect.Kind][]string{
		reflect.String: {"text"},
		reflect.Bool:   {"boolean"},
		reflect.Int64:  {"bigint"},
		reflect.Int:    {"bigint", "integer"},
		reflect.Int32:  {"integer"},
		reflect.Int16:  {"smallint"},
	}
	return byKind[value.Kind()]
}

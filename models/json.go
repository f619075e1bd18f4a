package models

import (
	"database/sql/driver"
	"fmt"
)

// JSON is a json column, byte for byte as it was written. Nil is NULL.
type JSON []byte

// Value implements driver.Valuer. It hands over a string: the driver would
// take bytes for bytea.
func (j JSON) Value() (driver.Value, error) {
	if j == nil {
		return nil, nil //nolint:nilnil // this is how a driver spells NULL
	}
	return string(j), nil
}

// Scan implements sql.Scanner.
func (j *JSON) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*j = nil
	case string:
		*j = JSON(v)
	case []byte:
		*j = append(JSON(nil), v...)
	default:
		return fmt.Errorf("scan %T into JSON", src)
	}
	return nil
}

// GormDataType tells gorm's schema parser what the column is.
func (JSON) GormDataType() string { return "json" }

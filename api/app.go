package api

// App is a name in a workspace and the CVMs that run under it.
type App struct {
	ID        ID     `json:"id"`
	AppID     ID     `json:"app_id"` // equals ID
	Name      string `json:"name"`
	CreatedAt Time   `json:"created_at"`
	UpdatedAt Time   `json:"updated_at"`
	CVMs      []CVM  `json:"cvms,omitzero"` // on GET of one
}

// CreateApp is the body of POST /apps.
type CreateApp struct {
	Name string `json:"name"`
}

// Validate names every member that is wrong.
func (r CreateApp) Validate() []FieldError {
	var v validation
	v.require(r.Name != "", "/name")
	if r.Name != "" {
		v.name("/name", r.Name)
	}
	return v
}

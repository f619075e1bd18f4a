package httpapi

import (
	"net/http"
	"sync"

	"github.com/gin-gonic/gin"

	"roost/api"
	"roost/platform/httpapi/docs"
)

// openAPI serves the document as it is in the repository.
func (s *server) openAPI(c *gin.Context) {
	c.Data(http.StatusOK, "application/yaml", api.OpenAPI())
}

// newDocsPage serves the document as a page, made when it is first asked for.
// The page brings its style and runs nothing, and the header says so.
func newDocsPage() func(c *gin.Context) error {
	render := sync.OnceValues(func() ([]byte, error) { return docs.Render(api.OpenAPI()) })
	return func(c *gin.Context) error {
		page, err := render()
		if err != nil {
			return err
		}
		c.Header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		c.Data(http.StatusOK, "text/html; charset=utf-8", page)
		return nil
	}
}

package httpapi

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"roost/api"
)

// health says that the process is up.
func (s *server) health(c *gin.Context) { c.String(http.StatusOK, "ok\n") }

// ready says that the service can serve: it stays ready while Owl is down.
func (s *server) ready(c *gin.Context) error {
	if err := s.cfg.Ready(c.Request.Context()); err != nil {
		return &api.Error{Code: api.CodeUnavailable, Err: err, Detail: "not ready: the log says why, with this request ID."}
	}
	c.String(http.StatusOK, "ready\n")
	return nil
}

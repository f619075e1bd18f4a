package httpapi

import (
	"strings"

	"github.com/gin-gonic/gin"

	"roost/api"
)

func (s *server) getOperation(c *gin.Context) error {
	wait, err := waitOf(c)
	if err != nil {
		return err
	}
	op, err := s.fleet.Operation(c.Request.Context(), workspaceOf(c), text(c, "id"), wait)
	return read(c, op, err)
}

func (s *server) listOperations(c *gin.Context) error {
	p, err := page(c)
	if err != nil {
		return err
	}
	ops, err := s.fleet.Operations(c.Request.Context(), workspaceOf(c), p)
	return read(c, ops, err)
}

func (s *server) getKey(c *gin.Context) error {
	spelled := text(c, "key")
	if !strings.HasPrefix(spelled, `"`) { // else it is quoted as in the header
		spelled = api.FormatIdempotencyKey(spelled)
	}
	key, err := api.ParseIdempotencyKey([]string{spelled})
	if err != nil {
		return err
	}
	bound, err := s.fleet.Key(c.Request.Context(), workspaceOf(c), key)
	return read(c, bound, err)
}

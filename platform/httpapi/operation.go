package httpapi

import (
	"github.com/gin-gonic/gin"
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
	key, err := s.fleet.Key(c.Request.Context(), workspaceOf(c), text(c, "key"))
	return read(c, key, err)
}

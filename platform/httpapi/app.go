package httpapi

import (
	"github.com/gin-gonic/gin"

	"roost/api"
	"roost/api/wire"
)

func (s *server) createApp(c *gin.Context) error {
	var req api.CreateApp
	call, _, err := s.mutation(c, &req)
	if err != nil {
		return err
	}
	a, err := s.fleet.CreateApp(c.Request.Context(), call, req)
	return answer(c, a, err)
}

func (s *server) listApps(c *gin.Context) error {
	p, err := page(c)
	if err != nil {
		return err
	}
	apps, err := s.fleet.Apps(c.Request.Context(), workspaceOf(c), p)
	return read(c, apps, err)
}

func (s *server) getApp(c *gin.Context) error {
	id, err := wire.Path(c, "app_id")
	if err != nil {
		return err
	}
	app, err := s.fleet.App(c.Request.Context(), workspaceOf(c), id)
	return read(c, app, err)
}

func (s *server) listAppCVMs(c *gin.Context) error {
	id, err := wire.Path(c, "app_id")
	if err != nil {
		return err
	}
	cvms, err := s.fleet.AppCVMs(c.Request.Context(), workspaceOf(c), id)
	return read(c, cvms, err)
}

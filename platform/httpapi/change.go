package httpapi

import (
	"context"

	"github.com/gin-gonic/gin"

	"roost/api"
	"roost/platform/fleet"
)

func (s *server) startCVM(c *gin.Context) error   { return s.power(c, s.fleet.Start) }
func (s *server) stopCVM(c *gin.Context) error    { return s.power(c, s.fleet.Stop) }
func (s *server) restartCVM(c *gin.Context) error { return s.power(c, s.fleet.Restart) }

func (s *server) power(c *gin.Context, ask func(context.Context, fleet.Call, api.ID) (fleet.Answer, error)) error {
	var req api.ChangePower
	call, ids, err := s.mutation(c, &req, "vm_uuid")
	if err != nil {
		return err
	}
	a, err := ask(c.Request.Context(), call, ids[0])
	return answer(c, a, err)
}

func (s *server) patchCVM(c *gin.Context) error {
	var req api.PatchCVM
	call, ids, err := s.mutation(c, &req, "vm_uuid")
	if err != nil {
		return err
	}
	a, err := s.fleet.Update(c.Request.Context(), call, ids[0], req)
	return answer(c, a, err)
}

func (s *server) scaleApp(c *gin.Context) error {
	var req api.ScaleApp
	call, ids, err := s.mutation(c, &req, "app_id")
	if err != nil {
		return err
	}
	a, err := s.fleet.Scale(c.Request.Context(), call, ids[0], req)
	return answer(c, a, err)
}

// deleteCVM answers 404 instead of 410 to Phala-shaped clients, which know
// only 404 as gone.
func (s *server) deleteCVM(c *gin.Context) error {
	call, ids, err := s.deletion(c, "vm_uuid")
	if err != nil {
		return err
	}
	a, err := s.fleet.Delete(c.Request.Context(), call, ids[0])
	return answer(c, a, goneAs404(c, err))
}

package httpapi

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"roost/api"
	"roost/api/wire"
)

func (s *server) provision(c *gin.Context) error {
	var spec api.Spec
	call, _, err := s.mutation(c, &spec)
	if err != nil {
		return err
	}
	a, err := s.fleet.Provision(c.Request.Context(), call, spec)
	return answer(c, a, err)
}

func (s *server) createCVM(c *gin.Context) error {
	var req api.CreateCVM
	call, _, err := s.mutation(c, &req)
	if err != nil {
		return err
	}
	a, err := s.fleet.CreateCVM(c.Request.Context(), call, req)
	return answer(c, a, err)
}

func (s *server) createReplicas(c *gin.Context) error {
	var req api.CreateReplicas
	call, ids, err := s.mutation(c, &req, "app_id", "vm_uuid")
	if err != nil {
		return err
	}
	a, err := s.fleet.CreateReplicas(c.Request.Context(), call, ids[0], ids[1], req)
	return answer(c, a, err)
}

func (s *server) listCVMs(c *gin.Context) error {
	p, err := page(c)
	if err != nil {
		return err
	}
	cvms, err := s.fleet.CVMs(c.Request.Context(), workspaceOf(c), p)
	return read(c, cvms, err)
}

func (s *server) getCVM(c *gin.Context) error {
	id, err := wire.Path(c, "vm_uuid")
	if err != nil {
		return err
	}
	cvm, err := s.fleet.CVM(c.Request.Context(), workspaceOf(c), id)
	return read(c, cvm, err)
}

func (s *server) getDockerCompose(c *gin.Context) error {
	return s.specText(c, "text/yaml", func(spec api.Spec) string { return spec.ComposeFile.DockerComposeFile })
}

// specText answers one text of a CVM's spec, byte for byte.
func (s *server) specText(c *gin.Context, mediaType string, of func(api.Spec) string) error {
	id, err := wire.Path(c, "vm_uuid")
	if err != nil {
		return err
	}
	spec, err := s.fleet.Spec(c.Request.Context(), workspaceOf(c), id)
	if err != nil {
		return err
	}
	c.Data(http.StatusOK, mediaType+"; charset=utf-8", []byte(of(spec)))
	return nil
}

package httpapi

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/gin-gonic/gin"

	"roost/api"
	"roost/api/owlapi"
	"roost/api/wire"
)

func (s *server) createCVM(c *gin.Context) error {
	var body owlapi.CreateCVMBody
	if err := wire.Decode(c, limits(), &body); err != nil {
		return err
	}
	note(c, "cvm_id", body.ID)

	ctx, cancel := work(c)
	defer cancel()
	made, err := s.resources.CreateCVMs(ctx, []owlapi.CreateCVM{body.Request()})
	if err != nil {
		return err
	}
	return answerInsertion(c, s, "cvm", made[0])
}

func (s *server) putCVM(c *gin.Context) error {
	id, err := wire.Path(c, "id")
	if err != nil {
		return err
	}
	var put owlapi.PutCVM
	if err := wire.Decode(c, limits(), &put); err != nil {
		return err
	}
	note(c, "cvm_id", id)

	ctx, cancel := work(c)
	defer cancel()
	record, err := s.resources.ApplyCVM(ctx, id, put)
	return answer(c, record, err)
}

func (s *server) getCVM(c *gin.Context) error {
	return get(c, "cvm_id", s.resources.CVM)
}

func (s *server) deleteCVM(c *gin.Context) error {
	return remove(c, "cvm_id", s.resources.DeleteCVM)
}

func (s *server) listCVMs(c *gin.Context) error {
	return list(c, s.resources.CVMs)
}

// get, remove and list are the same for every kind of resource.

func get[T any](c *gin.Context, name string, read func(context.Context, api.ID) (T, error)) error {
	id, err := wire.Path(c, "id")
	if err != nil {
		return err
	}
	note(c, name, id)
	record, err := read(c.Request.Context(), id)
	return answer(c, record, err)
}

func remove(c *gin.Context, name string, bury func(context.Context, api.ID) error) error {
	id, err := wire.Path(c, "id")
	if err != nil {
		return err
	}
	note(c, name, id)
	ctx, cancel := work(c)
	defer cancel()
	if err := bury(ctx, id); err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}

func answer[T any](c *gin.Context, record T, err error) error {
	if err != nil {
		return err
	}
	wire.WriteJSON(c, http.StatusOK, record)
	return nil
}

func note(c *gin.Context, name string, id api.ID) {
	wire.Note(c.Request.Context(), slog.String(name, id.String()))
}

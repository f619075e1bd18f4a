package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/gin-gonic/gin"

	"roost/api"
	"roost/api/owlapi"
	"roost/api/wire"
	"roost/owl/registry"
)

// answerInsertion answers a create of one resource.
func answerInsertion[T any](c *gin.Context, s *server, kind string, made registry.Insertion[T]) error {
	s.count(kind, made.Outcome)
	wire.SetOutcome(c.Request.Context(), string(made.Outcome))
	if made.Err != nil {
		return made.Err
	}
	wire.WriteJSON(c, statusOf(made.Outcome), made.Row)
	return nil
}

func statusOf(outcome registry.Outcome) int {
	if outcome == registry.Created {
		return http.StatusCreated
	}
	return http.StatusOK
}

// createCVMs answers a batch: each item as if it had come alone.
func (s *server) createCVMs(c *gin.Context) error {
	var body owlapi.Batch
	if err := wire.Decode(c, batchLimits(), &body); err != nil {
		return err
	}
	if body.Items == nil {
		return api.Invalid("/items", "is required")
	}
	if len(body.Items) > owlapi.MaxBatchItems {
		return api.Invalid("/items", "holds %d items; at most %d are taken", len(body.Items), owlapi.MaxBatchItems)
	}
	wire.Note(c.Request.Context(), slog.Int("items", len(body.Items)))

	ctx, cancel := work(c)
	defer cancel()
	items, err := s.createEach(ctx, body)
	return answer(c, owlapi.BatchResult{Items: items}, err)
}

// createEach creates the items that are well formed in one call.
func (s *server) createEach(ctx context.Context, body owlapi.Batch) ([]owlapi.BatchItem, error) {
	items := make([]owlapi.BatchItem, len(body.Items))
	var requests []owlapi.CreateCVM
	var places []int // of the requests among the items
	for i, raw := range body.Items {
		request, err := decodeItem(raw)
		if err != nil {
			items[i] = itemProblem(ctx, err)
			continue
		}
		requests, places = append(requests, request), append(places, i)
	}
	made, err := s.createWellFormed(ctx, requests)
	if err != nil {
		return nil, err
	}
	outcomes := map[registry.Outcome]int{}
	for n, m := range made {
		outcomes[m.Outcome]++
		s.count("cvm", m.Outcome)
		items[places[n]] = item(ctx, m)
	}
	wire.Note(ctx, slog.Any("outcomes", outcomes), slog.Int("malformed", len(items)-len(made)))
	return items, nil
}

func (s *server) createWellFormed(
	ctx context.Context, requests []owlapi.CreateCVM,
) ([]registry.Insertion[owlapi.CVM], error) {
	if len(requests) == 0 {
		return nil, nil
	}
	return s.resources.CreateCVMs(ctx, requests)
}

func decodeItem(raw []byte) (owlapi.CreateCVM, error) {
	if len(raw) > owlapi.MaxBodyBytes {
		return owlapi.CreateCVM{}, api.Errorf(api.CodeBodyTooLarge,
			"the item is larger than %d bytes. Nothing was done; send a smaller one.", owlapi.MaxBodyBytes)
	}
	var body owlapi.CreateCVMBody
	if err := wire.DecodeBytes(raw, owlapi.MaxJSONDepth, &body); err != nil {
		return owlapi.CreateCVM{}, err
	}
	return body.Request(), nil
}

func item(ctx context.Context, made registry.Insertion[owlapi.CVM]) owlapi.BatchItem {
	if made.Err != nil {
		return itemProblem(ctx, made.Err)
	}
	body, err := wire.Encode(made.Row)
	if err != nil {
		return itemProblem(ctx, fmt.Errorf("encode the record: %w", err))
	}
	return owlapi.BatchItem{Status: statusOf(made.Outcome), Body: body}
}

// itemProblem is the problem document that the item alone would have had. An
// error without a code is ours, and goes into the batch's log line.
func itemProblem(ctx context.Context, err error) owlapi.BatchItem {
	if coded := (*api.Error)(nil); !errors.As(err, &coded) {
		wire.Note(ctx, slog.String("item_error", err.Error()))
	}
	problem, _ := wire.ProblemOf(ctx, err)
	body, encodeErr := wire.Encode(problem)
	if encodeErr != nil {
		body = []byte(`{}`) // cannot happen: a problem holds only strings and our own records
	}
	return owlapi.BatchItem{Status: problem.Status, Body: body}
}

// limits is what a single request may be.
func limits() wire.Limits {
	return wire.Limits{Bytes: owlapi.MaxBodyBytes, Depth: owlapi.MaxJSONDepth}
}

// batchLimits leaves depth to the items, so that one too deep refuses itself
// and not its neighbours.
func batchLimits() wire.Limits {
	return wire.Limits{Bytes: owlapi.MaxBatchBytes, Depth: owlapi.MaxBatchJSONDepth}
}

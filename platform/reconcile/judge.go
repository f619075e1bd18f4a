package reconcile

import (
	"errors"
	"net/http"

	"roost/api"
	"roost/api/owlapi"
)

// verdict is what an answer of Owl's means for the row.
type verdict int

const (
	// unknown: it may or may not have happened. The same again, later.
	unknown verdict = iota
	// confirmed: Owl has it under our ID.
	confirmed
	// refused: it will never happen. The resource and its operation fail.
	refused
	// pushed: Owl has the change as we sent it.
	pushed
	// behind: Owl holds another change under this generation, or a newer one:
	// our row comes from an older backup. It moves on and is pushed again.
	behind
	// lost: Owl no longer knows the ID: it comes from an older backup.
	lost
	// deletionConfirmed: Owl has heard of the deletion; the machine may still
	// be there.
	deletionConfirmed
	// alarmed: as unknown, but no repetition helps until somebody acts.
	alarmed
)

func (v verdict) String() string {
	switch v {
	case confirmed:
		return "confirmed"
	case refused:
		return "refused"
	case pushed:
		return "pushed"
	case behind:
		return "behind"
	case lost:
		return "lost"
	case deletionConfirmed:
		return "deleted"
	case alarmed:
		return "alarmed"
	case unknown:
	}
	return "unknown"
}

// judgeCreate reads the status of an answer to a create. Whatever is not
// definite is unknown, and so is what this code has never heard of: to take an
// unknown for a refusal would lose a machine that somebody pays for.
func judgeCreate(status int) verdict {
	switch status {
	case http.StatusCreated, http.StatusOK:
		return confirmed
	case http.StatusConflict, http.StatusGone, http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		return refused
	case http.StatusUnauthorized, http.StatusForbidden:
		return alarmed
	default:
		return unknown
	}
}

// judgePut reads the status of an answer to a change; a 200 is judged by its
// record, see sameState.
func judgePut(status int) verdict {
	switch status {
	case http.StatusOK:
		return pushed
	case http.StatusNotFound:
		return lost
	case http.StatusGone, http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		return refused
	case http.StatusUnauthorized, http.StatusForbidden:
		return alarmed
	default:
		return unknown
	}
}

// judgeDelete reads the status of an answer to a deletion.
func judgeDelete(status int) verdict {
	switch status {
	case http.StatusNoContent, http.StatusOK, http.StatusGone:
		return deletionConfirmed
	case http.StatusUnauthorized, http.StatusForbidden:
		return alarmed
	default:
		return unknown
	}
}

// DeletionConfirmed reports whether the error of a call that deletes says
// that Owl has heard of the deletion all the same.
func DeletionConfirmed(err error) bool {
	answer, ok := errors.AsType[*owlapi.StatusError](err)
	return ok && judgeDelete(answer.Status) == deletionConfirmed
}

// refusal is the error that the resource shows. A create that Owl knows as
// deleted was deleted below us: it is never made again under another ID.
func refusal(status int, problem api.Problem) api.ResourceError {
	switch status {
	case http.StatusGone:
		return deletedBelow()
	case http.StatusConflict:
		return api.ResourceError{Code: string(api.CodeIDConflict), Message: "another machine has this ID: " + problem.Detail}
	}
	code := string(problem.ErrorCode)
	if code == "" {
		code = string(api.CodeInvalidRequest)
	}
	return api.ResourceError{Code: code, Message: problem.Detail}
}

// deletedBelow is the failure of a CVM that we want and Owl has deleted. It
// is never made again silently.
func deletedBelow() api.ResourceError {
	return api.ResourceError{
		Code:    string(api.CodeResourceDeleted),
		Message: "the machine was deleted below Platform; delete this CVM and create another",
	}
}

// ruleDeletedBelow is the failure of a rule that we want and Owl has deleted.
// Its CVM may well be alive.
func ruleDeletedBelow() api.ResourceError {
	return api.ResourceError{
		Code:    string(api.CodeResourceDeleted),
		Message: "the rule was deleted below Platform, by itself or with its machine; if the CVM is well, delete this rule and add it again",
	}
}

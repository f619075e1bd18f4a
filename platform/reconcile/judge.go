package reconcile

import (
	"net/http"

	"roost/api"
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
	// alarmed: as unknown, but no repetition helps until somebody acts.
	alarmed
)

func (v verdict) String() string {
	switch v {
	case confirmed:
		return "confirmed"
	case refused:
		return "refused"
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

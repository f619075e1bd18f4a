package api

// OperationKind is what an operation does.
type OperationKind string

// The kinds of operation.
const (
	KindCVMCreate    OperationKind = "cvm.create"
	KindCVMReplicate OperationKind = "cvm.replicate"
	KindAppScale     OperationKind = "app.scale"
	KindCVMStart     OperationKind = "cvm.start"
	KindCVMStop      OperationKind = "cvm.stop"
	KindCVMRestart   OperationKind = "cvm.restart"
	KindCVMUpdate    OperationKind = "cvm.update"
	KindCVMDelete    OperationKind = "cvm.delete"
)

// OperationStatus is how far an operation is.
type OperationStatus string

// The statuses of an operation; the last three are final.
const (
	OperationPending   OperationStatus = "pending" // accepted, IDs assigned, Owl has not confirmed
	OperationRunning   OperationStatus = "running"
	OperationSucceeded OperationStatus = "succeeded"
	OperationFailed    OperationStatus = "failed"
	OperationCanceled  OperationStatus = "canceled"
)

// Ended reports whether the status is final.
func (s OperationStatus) Ended() bool {
	switch s {
	case OperationSucceeded, OperationFailed, OperationCanceled:
		return true
	case OperationPending, OperationRunning:
	}
	return false
}

// OperationRef is the part of an operation that stands inside a CVM.
type OperationRef struct {
	ID     string          `json:"id"`
	Kind   OperationKind   `json:"kind"`
	Status OperationStatus `json:"status"`
}

// ErrorSuperseded is the error code of an operation that a later request
// ended.
const ErrorSuperseded = "SUPERSEDED"

// Operation is one accepted change and what became of it.
type Operation struct {
	ID         string          `json:"id"`
	Kind       OperationKind   `json:"kind"`
	Status     OperationStatus `json:"status"`
	AppID      ID              `json:"app_id"`
	VMUUID     *ID             `json:"vm_uuid"`     // null when it is over several CVMs
	ResourceID ID              `json:"resource_id"` // the CVM, or the app when it is over several
	Generation int64           `json:"generation"`
	RequestID  string          `json:"request_id"`
	Attempts   int64           `json:"attempts"` // pushes to Owl, answered or not
	Error      *ResourceError  `json:"error"`
	CreatedAt  Time            `json:"created_at"`
	UpdatedAt  Time            `json:"updated_at"`
	FinishedAt *Time           `json:"finished_at"`
}

// Page is one page of a list.
type Page[T any] struct {
	Items      []T     `json:"items"`
	NextCursor *string `json:"next_cursor"` // null on the last page
}

// Key is what GET /idempotency-keys/{key} knows of a key that is bound.
type Key struct {
	State       string  `json:"state"` // bound
	RequestID   string  `json:"request_id"`
	OperationID *string `json:"operation_id"` // null for calls that have none
	ResourceID  *ID     `json:"resource_id"`
	CreatedAt   Time    `json:"created_at"`
	ExpiresAt   Time    `json:"expires_at"`
}

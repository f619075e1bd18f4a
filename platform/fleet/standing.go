package fleet

import (
	"roost/api"
	"roost/models"
)

// standing is where a CVM is between what was asked for and what Owl sees.
type standing struct {
	status api.Status
	target *api.Status // what it is on its way to; nil at rest
}

// stand derives a CVM's status from its row. It is in progress from the
// transaction that accepts a change until Owl has shown that generation, so
// the answer that accepts a change shows it already.
func stand(c models.CVM) standing {
	switch {
	case c.DeletedAt != nil:
		return standing{status: api.StatusDeleted}
	case c.DeletingAt != nil:
		return toward(api.StatusDeleting, api.StatusDeleted)
	case c.ErrorCode != nil && c.ObservedGeneration >= c.Generation:
		return standing{status: api.StatusFailed}
	case c.ObservedGeneration >= c.Generation:
		return standing{status: atRest(c.Power)}
	default:
		return toward(underWay(c), atRest(c.Power))
	}
}

func toward(status, target api.Status) standing { return standing{status: status, target: &target} }

func atRest(p api.Power) api.Status {
	switch p {
	case api.PowerStopped:
		return api.StatusStopped
	case api.PowerRunning:
	}
	return api.StatusRunning
}

// underWay names a change by the newest operation; a CVM that has never been
// seen is being provisioned whatever came on top of it.
func underWay(c models.CVM) api.Status {
	if c.ObservedGeneration == 0 {
		return api.StatusProvisioning
	}
	switch c.OperationKind {
	case api.KindCVMStart:
		return api.StatusStarting
	case api.KindCVMStop:
		return api.StatusStopping
	case api.KindCVMRestart:
		return api.StatusRestarting
	case api.KindCVMDelete:
		return api.StatusDeleting
	case api.KindCVMUpdate, api.KindCVMCreate, api.KindCVMReplicate, api.KindAppScale:
	}
	return api.StatusUpdating
}

// actionable returns why a CVM takes no change but a delete, or nil: CodeGone
// when it is being deleted, CodeInvalidState when it failed before Owl had it.
func actionable(c models.CVM) error {
	if c.DeletingAt != nil {
		e := api.Errorf(api.CodeGone, "the CVM %s is deleted or being deleted. Nothing was done.", c.ID)
		e.DeletedAt = api.NewTimePtr(c.DeletedAt)
		return e
	}
	if !c.Confirmed && c.ErrorCode != nil {
		return api.Errorf(api.CodeInvalidState,
			"the CVM %s failed before it had a machine (%s), so it can only be deleted. Nothing was done.", c.ID, *c.ErrorCode)
	}
	return nil
}

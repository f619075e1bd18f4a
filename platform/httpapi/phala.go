package httpapi

import (
	"github.com/gin-gonic/gin"

	"roost/api"
	"roost/api/wire"
	"roost/platform/fleet"
	"roost/platform/token"
)

// The calls that only clients of the Phala API make. Those that change
// something act on every CVM of the app that the named one belongs to.

func (s *server) resizeApp(c *gin.Context) error {
	var req api.ResizeCVM
	call, ids, err := s.mutation(c, &req, "vm_uuid")
	return s.updateApp(c, call, ids, req, err)
}

func (s *server) changeOSImage(c *gin.Context) error {
	var req api.ChangeOSImage
	call, ids, err := s.mutation(c, &req, "vm_uuid")
	return s.updateApp(c, call, ids, req, err)
}

func (s *server) changeEnvs(c *gin.Context) error {
	var req api.ChangeEnvs
	call, ids, err := s.mutation(c, &req, "vm_uuid")
	return s.updateApp(c, call, ids, req, err)
}

func (s *server) changeDockerCompose(c *gin.Context) error {
	var req api.ChangeDockerCompose
	call, ids, err := s.textMutation(c, "text/yaml", func(text string) error {
		req.Text = text
		return wire.Validate(req)
	}, "vm_uuid")
	return s.updateApp(c, call, ids, req, err)
}

func (s *server) changePreLaunchScript(c *gin.Context) error {
	var req api.ChangePreLaunchScript
	call, ids, err := s.textMutation(c, "text/plain", func(text string) error {
		req.Text = text
		return nil
	}, "vm_uuid")
	return s.updateApp(c, call, ids, req, err)
}

// updateApp is the second half of a handler whose first half decoded patch.
func (s *server) updateApp(c *gin.Context, call fleet.Call, ids []api.ID, patch fleet.Patch, err error) error {
	if err != nil {
		return err
	}
	a, err := s.fleet.UpdateApp(c.Request.Context(), call, ids[0], patch)
	return answer(c, a, err)
}

func (s *server) provisionComposeFile(c *gin.Context) error {
	var req api.ProvisionComposeFile
	call, ids, err := s.mutation(c, &req, "vm_uuid")
	if err != nil {
		return err
	}
	a, err := s.fleet.ProvisionComposeFile(c.Request.Context(), call, ids[0], req)
	return answer(c, a, err)
}

func (s *server) commitComposeFile(c *gin.Context) error {
	var req api.CommitComposeFile
	call, ids, err := s.mutation(c, &req, "vm_uuid")
	if err != nil {
		return err
	}
	a, err := s.fleet.CommitComposeFile(c.Request.Context(), call, ids[0], req)
	return answer(c, a, err)
}

func (s *server) getPreLaunchScript(c *gin.Context) error {
	return s.specText(c, "text/plain", func(spec api.Spec) string {
		if spec.ComposeFile.PreLaunchScript == nil {
			return ""
		}
		return *spec.ComposeFile.PreLaunchScript
	})
}

func (s *server) getAccount(c *gin.Context) error {
	caller, _ := c.MustGet(callerKey).(token.Caller)
	usage, err := s.fleet.Usage(c.Request.Context(), caller.WorkspaceID)
	return read(c, api.Account{
		User:      api.AccountUser{Username: caller.TokenID, Role: caller.Scope},
		Workspace: api.AccountWorkspace{ID: usage.ID, Name: usage.Name, Slug: usage.Name, Tier: api.Tier, Role: caller.Scope},
		Credits:   api.AccountCredits{Balance: api.Charge, GrantedBalance: api.Charge},
	}, err)
}

func (s *server) getFilterOptions(c *gin.Context) error {
	return read(c, api.AllFilterOptions(), nil)
}

func (s *server) listAvailableNodes(c *gin.Context) error {
	usage, err := s.fleet.Usage(c.Request.Context(), workspaceOf(c))
	return read(c, api.NodesFor(usage.Quota, usage.CVMs), err)
}

func (s *server) listInstanceTypes(c *gin.Context) error {
	return read(c, api.ListInstanceTypes(), nil)
}

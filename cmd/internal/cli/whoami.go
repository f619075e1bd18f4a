package cli

import (
	"github.com/spf13/cobra"

	"roost/api"
	"roost/api/client"
)

// self is the answer of whoami: where commands go, and as whom.
type self struct {
	Endpoint  string         `json:"endpoint"`
	Context   string         `json:"context,omitempty"`
	Workspace *selfWorkspace `json:"workspace"` // null where the server cannot tell
	TokenID   string         `json:"token_id,omitempty"`
	Scope     string         `json:"scope,omitempty"` // read or write
}

type selfWorkspace struct {
	ID   api.ID `json:"id"`
	Name string `json:"name"`
}

func (t *tool) whoAmICommand() *cobra.Command {
	return &cobra.Command{
		Use: "whoami", Short: "Show where commands go, and as whom", Args: takes(),
		RunE: t.run(func(s *session) error {
			me := self{Endpoint: s.target.endpoint, Context: s.target.context}
			who, err := s.client.WhoAmI(s.ctx)
			switch {
			case err == nil:
				me.Workspace = &selfWorkspace{ID: who.Workspace.ID, Name: who.Workspace.Name}
				me.TokenID, me.Scope = who.TokenID, who.Scope
			case client.IsNotFound(err):
				s.notef("This server does not tell whose token it is.")
				if _, err := s.checkToken(s.ctx, s.target); err != nil {
					return reading("check the token", err)
				}
			default:
				return reading("ask whose token it is", err)
			}
			return s.print(showSelf(me))
		}),
	}
}

func showSelf(me self) rendering {
	rows := [][]cell{plain("Endpoint", me.Endpoint), plain("Context", dash(me.Context))}
	ids := []string{}
	if me.Workspace != nil {
		rows = append(rows,
			plain("Workspace", me.Workspace.Name+" ("+me.Workspace.ID.String()+")"),
			plain("Token", me.TokenID+", scope "+me.Scope))
		ids = append(ids, me.Workspace.ID.String())
	}
	return rendering{value: me, ids: ids, table: table{rows: rows}}
}

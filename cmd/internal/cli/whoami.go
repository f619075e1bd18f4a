package cli

import (
	"github.com/spf13/cobra"

	"roost/api/client"
)

// self is the answer of whoami: where commands go, and as whom.
type self struct {
	Endpoint string           `json:"endpoint"`
	Context  string           `json:"context,omitempty"`
	Identity *client.Identity `json:"identity"` // null where the server cannot tell
}

func (t *tool) whoAmICommand() *cobra.Command {
	return &cobra.Command{
		Use: "whoami", Short: "Show where commands go, and as whom", Args: takes(),
		RunE: t.run(func(s *session) error {
			me := self{Endpoint: s.target.endpoint, Context: s.target.context}
			who, err := s.client.WhoAmI(s.ctx)
			switch {
			case err == nil:
				me.Identity = &who
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
	if me.Identity != nil {
		rows = append(rows,
			plain("Workspace", me.Identity.Workspace.Name+" ("+me.Identity.Workspace.ID+")"),
			plain("Token", me.Identity.Token.ID+", scope "+me.Identity.Token.Scope))
		ids = append(ids, me.Identity.Workspace.ID)
	}
	return rendering{value: me, ids: ids, table: table{rows: rows}}
}

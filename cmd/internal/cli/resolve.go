package cli

import (
	"fmt"
	"slices"
	"strings"

	"roost/api"
)

// app finds the app that the first argument names, by ID or name, and keeps the ID for the command to
// repeat: what is repeated must not depend on what a name means then.
func (s *session) app() (api.ID, error) {
	arg := s.args[0]
	if id, err := api.ParseAppID(arg); err == nil {
		return id, nil
	}
	for app, err := range s.client.Apps(s.ctx) {
		if err != nil {
			return api.ID{}, reading("look for app "+arg, err)
		}
		if app.Name == arg {
			s.args[0] = app.AppID.String()
			return app.AppID, nil
		}
	}
	return api.ID{}, &notFoundError{fmt.Sprintf("there is no app %q in this workspace: it never was, or it was deleted; see: roost app list", arg)}
}

// cvm finds the CVM that the first argument names, by ID or by name.
func (s *session) cvm() (api.ID, error) {
	cvm, err := s.pick("CVM", meant)
	return cvm.VMUUID, err
}

// firstCVM is cvm for a deletion. Once the first CVM is gone its name is the copies'
// alone, and a deletion that is repeated must not take one of them.
func (s *session) firstCVM() (api.ID, error) {
	cvm, err := s.pick("first CVM", func(cvms []api.CVM) []api.CVM { return staying(slices.DeleteFunc(cvms, isCopy)) })
	return cvm.VMUUID, err
}

// copied is cvm for what must be a copy, if it is named.
func (s *session) copied() (api.ID, error) {
	cvm, err := s.pick("copy", func(cvms []api.CVM) []api.CVM {
		return staying(slices.DeleteFunc(cvms, func(cvm api.CVM) bool { return !isCopy(cvm) }))
	})
	return cvm.VMUUID, err
}

// source is cvm with its app.
func (s *session) source() (api.CVM, error) {
	cvm, err := s.pick("CVM", meant)
	if err == nil && cvm.AppID.IsZero() {
		cvm, err = s.client.CVM(s.ctx, cvm.VMUUID)
		err = reading("read CVM "+s.args[0], err)
	}
	return cvm, err
}

func isCopy(cvm api.CVM) bool { return cvm.ReplicaOf != nil }

// meant is, of the CVMs of a name, the only one that is no copy; all of them
// where there is no such one. A first CVM is named as its app, and copies as
// what they are copies of unless they were given a name: so an app's name does.
func meant(cvms []api.CVM) []api.CVM {
	cvms = staying(cvms)
	if firsts := slices.DeleteFunc(slices.Clone(cvms), isCopy); len(firsts) == 1 {
		return firsts
	}
	return cvms
}

// staying leaves out those that are on their way out, unless there are no others.
func staying(cvms []api.CVM) []api.CVM {
	stay := slices.DeleteFunc(slices.Clone(cvms), func(cvm api.CVM) bool {
		return cvm.Status == api.StatusDeleting || cvm.Status == api.StatusDeleted
	})
	if len(stay) == 0 {
		return cvms
	}
	return stay
}

// pick resolves an argument. Of an ID it knows no more than the ID.
func (s *session) pick(noun string, narrow func([]api.CVM) []api.CVM) (api.CVM, error) {
	arg := s.args[0]
	if id, err := api.ParseID(arg); err == nil {
		return api.CVM{VMUUID: id, ID: id}, nil
	}
	found, err := s.named(arg)
	if err != nil {
		return api.CVM{}, err
	}
	if len(found) == 0 {
		noun = "CVM" // of whichever kind
	}
	found = narrow(found)
	switch len(found) {
	case 0:
		return api.CVM{}, &notFoundError{fmt.Sprintf("there is no %s %q in this workspace: it never was, or it was deleted; see: roost cvm list", noun, arg)}
	case 1:
		s.args[0] = found[0].VMUUID.String()
		return found[0], nil
	}
	lines := make([]string, len(found))
	for i, cvm := range found {
		lines[i] = fmt.Sprintf("\n  %s  %s, %s", cvm.VMUUID, cvm.Status, relation(cvm))
	}
	return api.CVM{}, usagef("%q can be any of %d; give the ID of one:%s", arg, len(found), strings.Join(lines, ""))
}

func relation(cvm api.CVM) string {
	if !isCopy(cvm) {
		return "the first of app " + cvm.AppID.String()
	}
	return "a copy of " + cvm.ReplicaOf.String()
}

// named lists the CVMs of a name.
func (s *session) named(name string) (found []api.CVM, err error) {
	for cvm, err := range s.client.CVMs(s.ctx) {
		if err != nil {
			return nil, reading("look for CVM "+name, err)
		}
		if cvm.Name == name {
			found = append(found, cvm)
		}
	}
	return found, nil
}

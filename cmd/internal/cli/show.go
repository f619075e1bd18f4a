package cli

import (
	"iter"
	"strconv"
	"time"

	"roost/api"
)

// collect reads a list to its end.
func collect[T any](list iter.Seq2[T, error], doing string) ([]T, error) {
	items := []T{} // JSON shows no items as [], not as null
	for item, err := range list {
		if err != nil {
			return nil, reading(doing, err)
		}
		items = append(items, item)
	}
	return items, nil
}

func at(t api.Time) string { return t.UTC().Format(time.DateTime) + "Z" }

func number(n int64) string { return strconv.FormatInt(n, 10) }

func showCVM(cvm api.CVM) rendering {
	r := showCVMs([]api.CVM{cvm})
	r.value = cvm
	return r
}

func showCVMs(cvms []api.CVM) rendering {
	t := table{head: []string{"CVM", "NAME", "STATUS", "TYPE", "COPY", "OPERATION"}}
	ids := make([]string, len(cvms))
	for i, cvm := range cvms {
		ids[i] = cvm.VMUUID.String()
		t.rows = append(t.rows, []cell{
			{text: ids[i]},
			{text: dash(cvm.Name)},
			state(string(cvm.Status)),
			{text: dash(cvm.InstanceType)},
			{text: copyMark(cvm)},
			{text: dash(operationOf(cvm))},
		})
	}
	return rendering{value: cvms, ids: ids, table: t}
}

func copyMark(cvm api.CVM) string {
	if cvm.ReplicaOf == nil {
		return "-"
	}
	return "yes"
}

func idOrDash(id *api.ID) string {
	if id == nil || id.IsZero() {
		return "-"
	}
	return id.String()
}

// detailCVM is one CVM, a line for each thing.
func detailCVM(cvm api.CVM) rendering {
	r := showCVM(cvm)
	rows := [][]cell{
		plain("CVM", cvm.VMUUID.String()),
		plain("Name", dash(cvm.Name)),
		plain("App", idOrDash(&cvm.AppID)),
		plain("Copy of", idOrDash(cvm.ReplicaOf)),
		{{text: "Status"}, state(string(cvm.Status))},
	}
	if cvm.Progress.Target != nil {
		rows = append(rows, plain("On its way to", string(*cvm.Progress.Target)))
	}
	if cvm.Error != nil {
		rows = append(rows, []cell{{text: "Error"}, {reason(cvm.Error), toneBad}})
	}
	rows = append(rows,
		plain("Size", cvm.InstanceType+", "+number(cvm.VCPU)+" vCPU, "+number(cvm.Memory)+" MB, disk "+number(cvm.DiskSize)+" GB"),
		plain("Image", cvm.BaseImage),
		plain("Region", cvm.Region),
		plain("Compose hash", cvm.ComposeHash),
		plain("Generation", number(cvm.Generation)+", observed "+number(cvm.ObservedGeneration)),
	)
	if cvm.Operation != nil {
		rows = append(rows, plain("Operation", cvm.Operation.ID+" ("+string(cvm.Operation.Kind)+", "+string(cvm.Operation.Status)+")"))
	}
	rows = append(rows, plain("Created", at(cvm.CreatedAt)), plain("Updated", at(cvm.UpdatedAt)))
	r.table = table{rows: rows}
	return r
}

func showApps(apps []api.App) rendering {
	t := table{head: []string{"APP", "NAME", "CREATED"}}
	ids := make([]string, len(apps))
	for i, app := range apps {
		ids[i] = app.AppID.String()
		t.rows = append(t.rows, plain(ids[i], app.Name, at(app.CreatedAt)))
	}
	return rendering{value: apps, ids: ids, table: t}
}

func showApp(app api.App) rendering {
	r := showApps([]api.App{app})
	r.value = app
	return r
}

// detailApp is one app and, below it, its CVMs.
func detailApp(app api.App) rendering {
	r := showApp(app)
	r.table = table{rows: [][]cell{
		plain("App", app.AppID.String()), plain("Name", app.Name), plain("Created", at(app.CreatedAt)),
		plain("CVMs", strconv.Itoa(len(app.CVMs))),
	}}
	if len(app.CVMs) > 0 {
		below := showCVMs(app.CVMs).table
		r.below = &below
	}
	return r
}

func showScaled(scaled api.CVMs) rendering {
	r := showCVMs(scaled.Items)
	r.value = scaled
	return r
}

func showRules(rules []api.FirewallRule) rendering {
	t := table{head: []string{"RULE", "CIDR", "PROTOCOL", "PORT", "STATUS", "ERROR"}}
	ids := make([]string, len(rules))
	for i, rule := range rules {
		ids[i] = rule.ID.String()
		port := "all"
		if rule.Port != nil {
			port = number(*rule.Port)
		}
		t.rows = append(t.rows, []cell{
			{text: ids[i]},
			{text: rule.CIDR},
			{text: string(rule.Protocol)},
			{text: port},
			state(string(rule.Status)),
			{text: reason(rule.Error)},
		})
	}
	return rendering{value: rules, ids: ids, table: t}
}

func showRule(rule api.FirewallRule) rendering {
	r := showRules([]api.FirewallRule{rule})
	r.value = rule
	return r
}

func showOperations(ops []api.Operation) rendering {
	t := table{head: []string{"OPERATION", "KIND", "STATUS", "CVM", "CREATED"}}
	ids := make([]string, len(ops))
	for i, op := range ops {
		ids[i] = op.ID
		t.rows = append(t.rows, []cell{
			{text: op.ID},
			{text: string(op.Kind)},
			state(string(op.Status)),
			{text: idOrDash(op.VMUUID)},
			{text: at(op.CreatedAt)},
		})
	}
	return rendering{value: ops, ids: ids, table: t}
}

func detailOperation(op api.Operation) rendering {
	r := showOperations([]api.Operation{op})
	r.value = op
	rows := [][]cell{
		plain("Operation", op.ID),
		plain("Kind", string(op.Kind)),
		{{text: "Status"}, state(string(op.Status))},
		plain("App", idOrDash(&op.AppID)),
		plain("CVM", idOrDash(op.VMUUID)),
		plain("Attempts", number(op.Attempts)),
		plain("Request", op.RequestID),
		plain("Created", at(op.CreatedAt)),
	}
	if op.FinishedAt != nil {
		rows = append(rows, plain("Finished", at(*op.FinishedAt)))
	}
	if op.Error != nil {
		rows = append(rows, []cell{{text: "Error"}, {reason(op.Error), toneBad}})
	}
	r.table = table{rows: rows}
	return r
}

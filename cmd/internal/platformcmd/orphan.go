package platformcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"gorm.io/gorm"

	"roost/api"
	"roost/api/owlapi"
	"roost/cmd/internal/boot"
	"roost/models"
	"roost/platform/fleet"
	"roost/platform/maintenance"
)

func newOrphanCommand(settings func() boot.Settings) *cobra.Command {
	group := boot.Group("orphan", "List, adopt and delete what Owl has and Platform has never heard of",
		&cobra.Command{
			Use:   "list",
			Short: "List the orphans that the last sweep saw",
			RunE:  withOrphanage(settings, (*orphanage).list),
		},
		newOrphanAdoptCommand(settings),
		&cobra.Command{
			Use:   "delete ID",
			Short: "Delete an orphan and its machine, for good; safe to repeat",
			Long: "The decision is kept first, so a sweep finishes what this command does not get to the end of. What is deleted\n" +
				"already is no error for as long as Owl remembers it (OWL_TOMBSTONE_TTL).",
			Args: cobra.ExactArgs(1),
			RunE: withOrphanage(settings, (*orphanage).remove),
		},
	)
	group.Long = "An orphan is a CVM or a firewall rule that Owl has and Platform does not know, as after a restore of\n" +
		"Platform's database. Sweeps find them and leave them alone; what becomes of one is for people to decide."
	return group
}

func newOrphanAdoptCommand(settings func() boot.Settings) *cobra.Command {
	var home fleet.Home
	adopt := &cobra.Command{
		Use:   "adopt ID",
		Short: "Make an orphan a CVM or firewall rule like any other; safe to repeat",
		Long: "Platform's rows are made from Owl's record, and no machine notices anything. What Owl does not know is\n" +
			"lost: the app has a new key pair for encrypted_env, and the operations before.\n" +
			"A name is one app's for ever. Where another app has taken it since, give this app a new one with --name; its\n" +
			"CVMs keep their own names.",
		Args: cobra.ExactArgs(1),
		RunE: withOrphanage(settings, func(o *orphanage, ctx context.Context, args []string) error {
			return o.adopt(ctx, args[0], home)
		}),
	}
	adopt.Flags().StringVar(&home.Workspace, "workspace", "", "whose it is to be, where Platform does not know the app")
	adopt.Flags().StringVar(&home.AppName, "name", "", "what its app is to be named, where another app has taken the name")
	return adopt
}

// orphanage is what these commands work with.
type orphanage struct {
	maintenance *maintenance.Maintenance
	fleet       *fleet.Fleet
	owl         *owlapi.Client
	out, err    io.Writer
}

// withOrphanage runs a command on Platform's database and Owl.
func withOrphanage(
	settings func() boot.Settings, run func(o *orphanage, ctx context.Context, args []string) error,
) func(*cobra.Command, []string) error {
	return withDatabase(settings, func(command *cobra.Command, db *gorm.DB, args []string) error {
		o, err := newOrphanage(command, settings, db)
		if err != nil {
			return err
		}
		return run(o, command.Context(), args)
	})
}

func newOrphanage(command *cobra.Command, settings func() boot.Settings, db *gorm.DB) (*orphanage, error) {
	var cfg Config
	if err := settings().Decode(&cfg); err != nil {
		return nil, err
	}
	client, err := cfg.OwlClient()
	if err != nil {
		return nil, err
	}
	owl := owlapi.New(owlapi.Config{BaseURL: cfg.OwlURL, Token: cfg.OwlToken, HTTP: client})
	mint, log, nothing := api.NewMinter(), newLogger(command), func() {} // the services find due rows by themselves
	return &orphanage{
		maintenance: maintenance.New(maintenance.Config{
			DB: db, Owl: owl, Logger: log, Registry: prometheus.NewRegistry(), Minter: mint,
			KeyTTL: cfg.IdempotencyTTL, SweepInterval: cfg.SweepInterval, Due: nothing,
		}),
		fleet: fleet.New(fleet.Config{
			DB: db, Minter: mint, Logger: log, MaxCVMs: cfg.MaxCVMs,
			KeyTTL: cfg.IdempotencyTTL, KeyWait: cfg.KeyWait, ProvisionTTL: cfg.ProvisionTTL, Accepted: nothing,
		}),
		owl: owl, out: command.OutOrStdout(), err: command.ErrOrStderr(),
	}, nil
}

func (o *orphanage) list(ctx context.Context, _ []string) error {
	orphans, err := o.maintenance.Orphans(ctx)
	if err != nil {
		return err
	}
	if len(orphans) == 0 {
		_, err := fmt.Fprintln(o.err, "there are no orphans")
		return err
	}
	table := tabwriter.NewWriter(o.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "ID\tKIND\tNAME\tAPP\tCVM\tGENERATION\tFIRST SEEN\tDECISION") // Flush reports
	for _, one := range orphans {
		decision := "-"
		if one.Decision != nil {
			decision = string(*one.Decision)
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", one.ID, one.Kind, one.Name, optional(one.AppID), optional(one.CVMID),
			one.Generation, one.FirstSeenAt.UTC().Format(time.RFC3339), decision)
	}
	return table.Flush()
}

func optional(id *api.ID) string {
	if id == nil {
		return "-"
	}
	return id.String()
}

func (o *orphanage) adopt(ctx context.Context, text string, home fleet.Home) error {
	id, err := parseOrphanID(text)
	if err != nil {
		return err
	}
	word := "adopted"
	orphan, err := o.maintenance.Orphan(ctx, id)
	if hasCode(err, api.CodeNotFound) {
		word, err = o.adoptedBefore(ctx, id, err)
	} else if err == nil {
		var already bool
		if already, err = o.adoptKind(ctx, orphan, home); already {
			word = adoptedAlready
		}
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(o.out, word, id)
	return err
}

const adoptedAlready = "Platform has it already:"

// adoptedBefore says what Platform has instead of an orphan; none is the error
// if it is nothing.
func (o *orphanage) adoptedBefore(ctx context.Context, id api.ID, none error) (word string, err error) {
	has, deletedAt, err := o.fleet.Has(ctx, id)
	switch {
	case err != nil:
		return "", err
	case !has:
		return "", none
	case deletedAt != nil:
		return fmt.Sprintf("Platform had it already, and it was deleted there at %s:", api.NewTime(*deletedAt)), nil
	}
	return adoptedAlready, nil
}

func (o *orphanage) adoptKind(ctx context.Context, orphan models.Orphan, home fleet.Home) (already bool, err error) {
	switch orphan.Kind {
	case models.OrphanFirewallRule:
		record, err := o.owl.GetFirewallRule(ctx, orphan.ID)
		if err != nil {
			return false, unread(orphan.ID, err)
		}
		return o.fleet.AdoptFirewallRule(ctx, record)
	case models.OrphanCVM:
	}
	record, err := o.owl.GetCVM(ctx, orphan.ID)
	if err != nil {
		return false, unread(orphan.ID, err)
	}
	return o.fleet.AdoptCVM(ctx, record, home)
}

func (o *orphanage) remove(ctx context.Context, args []string) error {
	id, err := parseOrphanID(args[0])
	if err != nil {
		return err
	}
	already, err := o.maintenance.DeleteOrphan(ctx, id)
	if err != nil {
		return err
	}
	word := "deleted"
	if already {
		word = "it was deleted before:"
	}
	_, err = fmt.Fprintln(o.out, word, id)
	return err
}

func parseOrphanID(text string) (api.ID, error) {
	id, err := api.ParseID(text)
	if err != nil {
		return id, &boot.UsageError{Err: fmt.Errorf("%q is no ID: %w", text, err)}
	}
	return id, nil
}

// unread is an answer of Owl's without a record. Nothing was done by then.
func unread(id api.ID, err error) error {
	if answer, ok := errors.AsType[*owlapi.StatusError](err); ok && (answer.Status == http.StatusNotFound || answer.Status == http.StatusGone) {
		return fmt.Errorf("owl has no %s any more. Nothing was done; the next sweep forgets the orphan: %w", id, err)
	}
	return fmt.Errorf("cannot read %s at Owl. Nothing was done; it is safe to repeat: %w", id, err)
}

func hasCode(err error, code api.Code) bool {
	coded, ok := errors.AsType[*api.Error](err)
	return ok && coded.Code == code
}

package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"roost/cmd/internal/boot"
	"roost/cmd/internal/platformcmd"
	"roost/models/pg"
)

const (
	// devWorkspace is the workspace that the printed token belongs to.
	devWorkspace = "dev"

	tokenFile     = "dev-token"
	owlSecretFile = "owl-token"

	probeTimeout = 2 * time.Second
)

// stack is one run of everything.
type stack struct {
	dir      *dataDir
	screen   *screen
	lifeline *os.File // the end that our processes inherit

	mu       sync.Mutex
	settings boot.Settings // of the processes; the database URLs may change
	postgres postgresReady // zero with a server of the user's own

	databases map[string]string // by variable: those whose place we decide

	cfg     configs   // as the processes see it, once the databases are known
	keepers []*keeper // in the order of their start
	owl     *keeper
	token   string
}

// Run brings everything up, keeps it up until ctx ends, and takes it down. A
// part that does not come up the first time is an error.
func Run(ctx context.Context, settings boot.Settings, stdout io.Writer) (err error) {
	cfg, err := checkSettings(settings)
	if err != nil {
		return err
	}
	dir, err := openDataDir(ctx, cfg.dev.DataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.close()) }()
	// Nobody writes to the pipe; that we hold its other end is the message.
	lifeline, ours, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make the lifeline: %w", err)
	}
	defer func() { _ = errors.Join(ours.Close(), lifeline.Close()) }()

	s := &stack{
		dir: dir, screen: newScreen(stdout, cfg.dev.DataDir), lifeline: lifeline,
		settings: settings.Clone(), databases: map[string]string{},
	}
	defer s.stop()
	if err := s.start(ctx, cfg); err != nil {
		return err
	}
	return s.keep(ctx)
}

// checkSettings decodes everything before anything starts. The databases may
// be named later.
func checkSettings(settings boot.Settings) (configs, error) {
	settings = settings.Clone()
	for _, name := range []string{"PLATFORM_DATABASE_URL", "OWL_DATABASE_URL"} {
		if settings.Given(name) == "" {
			settings.Set(name, "postgres://127.0.0.1/")
		}
	}
	return decode(settings)
}

func (s *stack) start(ctx context.Context, cfg configs) error {
	for _, name := range []string{postgresName, owlName, platformName, "dev"} {
		if err := s.dir.rotateLog(name); err != nil {
			return err
		}
	}
	if err := s.complete(ctx, cfg); err != nil {
		return err
	}
	if err := s.startPostgres(ctx, cfg); err != nil {
		return err
	}
	var err error
	if s.cfg, err = decode(s.settings); err != nil {
		return err
	}
	s.screen.step("bringing the databases up to date")
	if err := s.prepareDatabases(ctx); err != nil {
		return err
	}
	return s.startServices(ctx)
}

func (s *stack) startServices(ctx context.Context) error {
	client, err := s.cfg.platform.OwlClient()
	if err != nil {
		return err
	}
	s.owl = s.service(owlName, "Owl", client, s.cfg.platform.OwlURL)
	s.screen.step("starting Owl")
	if err := s.startKeeper(ctx, s.owl); err != nil {
		return err
	}
	s.screen.step("starting Platform")
	return s.startKeeper(ctx, s.service(platformName, "Platform", http.DefaultClient, s.platformURL()))
}

// complete fills in what a run on one machine knows by itself.
func (s *stack) complete(ctx context.Context, cfg configs) error {
	err := reserveAddresses(ctx, s.settings, map[string]string{"PLATFORM_ADDR": cfg.platform.Addr, "OWL_ADDR": cfg.owl.Addr})
	if err != nil {
		return err
	}
	scheme := "http://"
	if cfg.owl.TLSCert != "" {
		scheme = "https://"
	}
	s.setDefault("PLATFORM_OWL_URL", scheme+reachable(s.settings.Given("OWL_ADDR")))
	s.setDefault("OWL_SIM_DIR", s.dir.path("sim"))
	return s.completeSecrets(cfg)
}

// completeSecrets gives both sides of the inner hop the same secret, and finds
// the API token.
func (s *stack) completeSecrets(cfg configs) error {
	secret := cfg.owl.AuthToken
	if secret == "" {
		secret = cfg.platform.OwlToken
	}
	var err error
	if secret == "" {
		if secret, err = s.dir.sharedSecret(owlSecretFile); err != nil {
			return err
		}
	}
	s.setDefault("OWL_AUTH_TOKEN", secret)
	s.setDefault("PLATFORM_OWL_TOKEN", secret)
	if s.token = cfg.dev.Token; s.token == "" {
		s.token, err = s.dir.secret(tokenFile)
	}
	return err
}

func (s *stack) setDefault(name, value string) {
	if s.settings.Given(name) == "" {
		s.settings.Set(name, value)
	}
}

// prepareDatabases brings both schemas up to date and makes sure of the token.
func (s *stack) prepareDatabases(ctx context.Context) error {
	file, err := s.dir.openLog("dev")
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	log := boot.NewLogger(file, "dev")
	if err := s.cfg.owl.Database().Migrate(ctx, log); err != nil {
		return err
	}
	return s.ensureToken(ctx, log)
}

func (s *stack) ensureToken(ctx context.Context, log *slog.Logger) (err error) {
	db, err := s.cfg.platform.Database().Open(ctx, true, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pg.Close(db)) }()
	if s.token, err = platformcmd.Token(ctx, db, devWorkspace, s.token); err != nil {
		return fmt.Errorf("make the token: %w", err)
	}
	return s.dir.keepSecret(tokenFile, s.token)
}

// service is the keeper of Owl or Platform, which are ready when they say so.
func (s *stack) service(name, title string, client *http.Client, base string) *keeper {
	return &keeper{
		title: title,
		where: func() string { return base },
		say:   s.screen.say,
		launch: func(ctx context.Context) (*process, error) {
			return launch(ctx, s.dir, s.lifeline, program{name: name, environ: s.environ(), killed: true})
		},
		ready: func(ctx context.Context) error { return awaitReady(ctx, client, base+"/readyz") },
	}
}

func (s *stack) environ() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settings.Environ(os.Environ())
}

func (s *stack) startKeeper(ctx context.Context, k *keeper) error {
	if err := k.start(ctx); err != nil {
		return err
	}
	s.keepers = append(s.keepers, k)
	return nil
}

// keep says that everything is ready and keeps it so until ctx ends.
func (s *stack) keep(ctx context.Context) error {
	if err := s.screen.ready(s.summary()); err != nil {
		return err
	}
	watch, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWatching()
	var watching sync.WaitGroup
	for _, k := range s.keepers {
		watching.Go(func() { k.watch(watch) })
	}
	<-ctx.Done()
	s.screen.step("stopping")
	stopWatching()
	watching.Wait()
	return nil
}

// stop ends what runs, the last started first: nobody loses what it stands on.
func (s *stack) stop() {
	for _, k := range slices.Backward(s.keepers) {
		k.current().stop()
	}
}

func (s *stack) platformURL() string { return "http://" + reachable(s.cfg.platform.Addr) }

// awaitReady asks until the answer is 200. The last answer is the reason of a
// timeout.
func awaitReady(ctx context.Context, client *http.Client, url string) error {
	for {
		err := probe(ctx, client, url)
		if err == nil {
			return nil
		}
		if waitErr := pause(ctx, pollInterval); waitErr != nil {
			return fmt.Errorf("%w (last: %w)", waitErr, err)
		}
	}
}

func probe(ctx context.Context, client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10)) // what came of it is enough
		return fmt.Errorf("%s answers %s: %s", url, response.Status, strings.TrimSpace(string(body)))
	}
	return nil
}

// summary is what a person needs to begin.
func (s *stack) summary() summary {
	sum := summary{
		dataDir:   s.cfg.dev.DataDir,
		token:     s.token,
		tokenFile: filepath.Join(s.cfg.dev.DataDir, tokenFile),
		platform:  s.platformURL(),
		owlPID:    s.owl.shownPID(),
	}
	for _, k := range slices.Backward(s.keepers) {
		sum.parts = append(sum.parts, part{title: k.title, where: k.where(), pid: k.shownPID()})
	}
	return sum
}

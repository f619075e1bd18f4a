package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/modules/postgres"
)

// startContainer runs Postgres in Docker. Without Docker, or without the image,
// it fails: a run that was asked for containers proves nothing without them.
func startContainer(ctx context.Context) (*Server, error) {
	image := os.Getenv(ImageEnv)
	if image == "" {
		image = defaultImage
	}
	container, err := postgres.Run(ctx, image,
		postgres.WithUsername("roost"),
		postgres.WithPassword("roost-test"),
		postgres.WithDatabase("postgres"),
		postgres.BasicWaitStrategies(),
		testcontainers.WithLogger(log.New(io.Discard, "", 0)),
		testcontainers.WithCmdArgs("-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=300"),
	)
	stop := func(ctx context.Context) error { return testcontainers.TerminateContainer(container) }
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s=%s needs Docker and the image %s (.ci/docker-postgres brings both): %w", BackendEnv, backendContainers, image, err), stop(ctx))
	}
	address, err := container.ConnectionString(ctx, "sslmode=disable")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("container of %s: %w", image, err), stop(ctx))
	}
	return newServer("PostgreSQL in container "+container.GetContainerID()[:12]+" of image "+image, address, stop)
}

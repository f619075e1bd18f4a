-- +goose Up

CREATE TABLE workspaces (
    id         uuid PRIMARY KEY,
    name       text NOT NULL UNIQUE,
    cvms       bigint NOT NULL DEFAULT 0 CHECK (cvms >= 0),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE tokens (
    id           text PRIMARY KEY,
    workspace_id uuid NOT NULL REFERENCES workspaces (id),
    secret_hash  bytea NOT NULL UNIQUE,
    scope        text NOT NULL CHECK (scope IN ('read', 'write')),
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz,
    revoked_at   timestamptz
);

CREATE TABLE apps (
    id           uuid PRIMARY KEY,
    workspace_id uuid NOT NULL REFERENCES workspaces (id),
    name         text NOT NULL,
    explicit     boolean NOT NULL,
    last_ordinal bigint NOT NULL DEFAULT 0,
    env_pubkey   text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (workspace_id, name)
);
CREATE INDEX apps_by_workspace ON apps (workspace_id, id);

CREATE TABLE specs (
    id           uuid PRIMARY KEY,
    workspace_id uuid NOT NULL,
    body         json NOT NULL,
    summary      json NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE provisions (
    app_id       uuid NOT NULL,
    compose_hash text NOT NULL,
    spec_id      uuid NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (app_id, compose_hash)
);
CREATE INDEX provisions_by_expiry ON provisions (expires_at);

CREATE TABLE cvms (
    id                  uuid PRIMARY KEY,
    workspace_id        uuid NOT NULL,
    app_id              uuid NOT NULL,
    ordinal             bigint NOT NULL,
    replica_of          uuid,
    name                text NOT NULL,
    create_spec_id      uuid NOT NULL,

    spec_id             uuid NOT NULL,
    compose_hash        text NOT NULL,
    power               text NOT NULL CHECK (power IN ('running', 'stopped')),
    restart_id          text,
    operation_id        text NOT NULL,
    operation_kind      text NOT NULL,
    create_operation_id text NOT NULL,
    generation          bigint NOT NULL CHECK (generation >= 1),
    deleting_at         timestamptz,

    confirmed           boolean NOT NULL DEFAULT false,
    pushed_generation   bigint NOT NULL DEFAULT 0,
    observed_generation bigint NOT NULL DEFAULT 0,
    owl_status          text,
    error_code          text,
    error_message       text,
    deleted_at          timestamptz,

    reconcile_after     timestamptz DEFAULT clock_timestamp(),
    fence               bigint NOT NULL DEFAULT 0,
    attempts            bigint NOT NULL DEFAULT 0,

    created_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (app_id, ordinal)
);
CREATE INDEX cvms_by_workspace ON cvms (workspace_id, id);
-- One app has at most one CVM that is no replica and is not being deleted.
-- The app's row lock says so already; this is the second pair of eyes.
CREATE UNIQUE INDEX cvms_one_primary ON cvms (app_id) WHERE replica_of IS NULL AND deleting_at IS NULL;
-- The queue: the rows that are due, oldest first.
CREATE INDEX cvms_due ON cvms (reconcile_after) WHERE reconcile_after IS NOT NULL;

CREATE TABLE operations (
    id            text PRIMARY KEY,
    workspace_id  uuid NOT NULL,
    kind          text NOT NULL,
    status        text NOT NULL,
    app_id        uuid NOT NULL,
    vm_uuid       uuid,
    generation    bigint NOT NULL,
    request_id    text NOT NULL,
    attempts      bigint NOT NULL DEFAULT 0,
    open_targets  bigint NOT NULL CHECK (open_targets >= 0),
    error_code    text,
    error_message text,
    superseded_by text,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at   timestamptz
);
CREATE INDEX operations_by_workspace ON operations (workspace_id, id);

CREATE TABLE operation_targets (
    operation_id text NOT NULL,
    cvm_id       uuid NOT NULL,
    generation   bigint NOT NULL,
    ended_at     timestamptz,
    PRIMARY KEY (operation_id, cvm_id)
);
CREATE INDEX operation_targets_open ON operation_targets (cvm_id) WHERE ended_at IS NULL;

CREATE TABLE idempotency_keys (
    workspace_id uuid NOT NULL,
    key          text NOT NULL,
    method       text NOT NULL,
    route        text NOT NULL,
    path_params  json NOT NULL,
    members      json NOT NULL,
    request_id   text NOT NULL,
    status       integer NOT NULL,
    operation_id text,
    resource_id  uuid,
    body         bytea,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, key)
);
CREATE INDEX idempotency_keys_by_expiry ON idempotency_keys (expires_at);

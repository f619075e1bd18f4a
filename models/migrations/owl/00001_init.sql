-- +goose Up

CREATE TABLE cvms (
    id                  uuid PRIMARY KEY,
    app_id              uuid NOT NULL,
    replica_of          uuid,
    name                text NOT NULL,
    create_digests      json NOT NULL,

    generation          bigint NOT NULL,
    power               text NOT NULL CHECK (power IN ('running', 'stopped')),
    restart             text,
    spec                json NOT NULL,

    observed_generation bigint NOT NULL DEFAULT 0,
    status              text NOT NULL,
    error_code          text,
    error_message       text,

    due_at              timestamptz,
    fence               bigint NOT NULL DEFAULT 0,
    attempts            bigint NOT NULL DEFAULT 0,

    created_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    delete_requested_at timestamptz,
    deleted_at          timestamptz,

    -- Only the tombstone of an ID that was never created has no generation.
    CONSTRAINT cvms_generation CHECK (generation >= 1 OR delete_requested_at IS NOT NULL),
    -- What was asked for and is not there yet stays due, whoever forgot it.
    CONSTRAINT cvms_unfinished_is_due CHECK (
        due_at IS NOT NULL OR deleted_at IS NOT NULL
        OR (observed_generation >= generation AND delete_requested_at IS NULL)),
    -- A tombstone is complete: gone only after it was to go, and then at rest.
    CONSTRAINT cvms_deleted CHECK (deleted_at IS NULL OR (delete_requested_at IS NOT NULL AND due_at IS NULL))
);
CREATE INDEX cvms_due ON cvms (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX cvms_deleted_at ON cvms (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE firewall_rules (
    id                  uuid PRIMARY KEY,
    cvm_id              uuid NOT NULL, -- no foreign key: its tombstone may outlive the CVM's
    cidr                text NOT NULL,
    protocol            text NOT NULL,
    port                bigint,
    create_digests      json NOT NULL,

    status              text NOT NULL,
    error_code          text,
    error_message       text,

    due_at              timestamptz,
    fence               bigint NOT NULL DEFAULT 0,
    attempts            bigint NOT NULL DEFAULT 0,

    created_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    delete_requested_at timestamptz,
    deleted_at          timestamptz,

    CONSTRAINT firewall_rules_deleted CHECK (deleted_at IS NULL OR (delete_requested_at IS NOT NULL AND due_at IS NULL))
);
CREATE INDEX firewall_rules_by_cvm ON firewall_rules (cvm_id);
CREATE INDEX firewall_rules_due ON firewall_rules (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX firewall_rules_deleted_at ON firewall_rules (deleted_at) WHERE deleted_at IS NOT NULL;

-- +goose Down

DROP TABLE firewall_rules;
DROP TABLE cvms;

-- +goose Up

ALTER TABLE cvms ADD COLUMN delete_confirmed boolean NOT NULL DEFAULT false;

CREATE TABLE firewall_rules (
    id              uuid PRIMARY KEY,
    workspace_id    uuid NOT NULL,
    cvm_id          uuid NOT NULL,
    cidr            text NOT NULL,
    protocol        text NOT NULL CHECK (protocol IN ('tcp', 'udp', 'any')),
    port            bigint CHECK (port BETWEEN 1 AND 65535),

    status          text NOT NULL CHECK (status IN ('pending', 'active', 'failed')),
    confirmed       boolean NOT NULL DEFAULT false,
    error_code      text,
    error_message   text,
    deleted_at      timestamptz,

    reconcile_after timestamptz DEFAULT clock_timestamp(),
    fence           bigint NOT NULL DEFAULT 0,
    attempts        bigint NOT NULL DEFAULT 0,

    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX firewall_rules_by_cvm ON firewall_rules (cvm_id, id);
CREATE INDEX firewall_rules_due ON firewall_rules (reconcile_after) WHERE reconcile_after IS NOT NULL;

-- +goose Up

-- What Owl has and Platform has never heard of. It holds no spec: that stays
-- with Owl until somebody adopts the orphan.
CREATE TABLE orphans (
    id            uuid PRIMARY KEY,
    kind          text NOT NULL CHECK (kind IN ('cvm', 'firewall_rule')),
    name          text NOT NULL,
    app_id        uuid,
    cvm_id        uuid,
    generation    bigint NOT NULL,
    decision      text CHECK (decision IN ('delete')),
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at  timestamptz NOT NULL DEFAULT now()
);

-- Background work that nodes share. rounds only grows: where it does not, the
-- database is an older one.
CREATE TABLE chores (
    name   text PRIMARY KEY,
    rounds bigint NOT NULL DEFAULT 1,
    due_at timestamptz NOT NULL DEFAULT now()
);

-- For the reapers. Rows that are not deleted are in neither, so that accepting
-- a create costs nothing more.
CREATE INDEX cvms_deleted ON cvms (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX firewall_rules_deleted ON firewall_rules (deleted_at) WHERE deleted_at IS NOT NULL;
-- For the sweeper's look at what changed last.
CREATE INDEX firewall_rules_by_update ON firewall_rules (updated_at);

-- +goose Up

-- Since when nothing refers to the spec, as far as the reaper has seen: who
-- read the reference before that has an hour to read the spec.
ALTER TABLE specs ADD COLUMN loose_at timestamptz;

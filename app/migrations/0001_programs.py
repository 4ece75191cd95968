"""Programs, and the API keys that open them."""

from tortoise.migrations.migration import Migration as Base
from tortoise.migrations.operations import RunSQL

FORWARD = """
CREATE TABLE program (
    id                  uuid PRIMARY KEY,
    slug                text COLLATE "C" NOT NULL CONSTRAINT program_slug_key UNIQUE
                        CONSTRAINT program_slug_form CHECK (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' AND length(slug) <= 64),
    name                text NOT NULL,
    currency            text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    timezone            text NOT NULL,
    rounding            text NOT NULL CHECK (rounding IN ('FLOOR', 'HALF_UP', 'CEILING')),
    multiplier_stacking text NOT NULL CHECK (multiplier_stacking IN ('MULTIPLY', 'ADD', 'BEST')),
    max_points_per_day  bigint CHECK (max_points_per_day > 0),
    pending_days        integer NOT NULL CHECK (pending_days BETWEEN 0 AND 3650),
    expiry_kind         text NOT NULL CHECK (expiry_kind IN ('NEVER', 'ROLLING_MONTHS', 'END_OF_YEAR', 'INACTIVITY_MONTHS')),
    expiry_months       integer CHECK (expiry_months BETWEEN 1 AND 1200),
    expiry_changed_at   timestamptz NOT NULL,
    debt_limit          bigint NOT NULL CHECK (debt_limit >= 0),
    point_cost          numeric NOT NULL CHECK (point_cost >= 0),
    rules_version       bigint NOT NULL DEFAULT 1,
    created_at          timestamptz NOT NULL,
    updated_at          timestamptz NOT NULL,
    CONSTRAINT program_expiry_form
        CHECK ((expiry_kind IN ('ROLLING_MONTHS', 'INACTIVITY_MONTHS')) = (expiry_months IS NOT NULL))
);
COMMENT ON COLUMN program.rules_version IS 'Goes up with every change of a rule, so that compiled rule sets know that they are old.';
COMMENT ON COLUMN program.expiry_changed_at IS 'Inactivity counts from here at the earliest: a new policy gives everybody one full period.';

CREATE TABLE api_key (
    id           uuid PRIMARY KEY,
    program_id   uuid NOT NULL REFERENCES program (id),
    name         text NOT NULL,
    scopes       text[] NOT NULL CHECK (cardinality(scopes) > 0),
    prefix       text NOT NULL,
    secret_hash  bytea NOT NULL CONSTRAINT api_key_secret_hash_key UNIQUE CHECK (length(secret_hash) = 32),
    created_at   timestamptz NOT NULL,
    last_used_at timestamptz,
    revoked_at   timestamptz
);
CREATE INDEX api_key_program ON api_key (program_id, id);

CREATE TABLE idempotency_key (
    program_id   uuid NOT NULL,
    operation    text NOT NULL,
    key          text COLLATE "C" NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    request_hash bigint NOT NULL,
    subject_id   uuid NOT NULL,
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (program_id, operation, key)
);
COMMENT ON TABLE idempotency_key IS 'Keys that callers chose, for good: a key is worth nothing if it is forgotten before the retry.';
"""

BACKWARD = "DROP TABLE idempotency_key, api_key, program"


class Migration(Base):
    initial = True
    operations = [RunSQL(FORWARD, BACKWARD)]  # noqa: RUF012

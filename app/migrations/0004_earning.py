"""Rules with their versions, events with what became of them, awards, counters, and waiting work."""

from tortoise.migrations.migration import Migration as Base
from tortoise.migrations.operations import RunSQL

FORWARD = """
CREATE TABLE earning_rule (
    id         uuid PRIMARY KEY,
    program_id uuid NOT NULL REFERENCES program (id),
    version    integer NOT NULL CHECK (version > 0),
    status     text NOT NULL CHECK (status IN ('DRAFT', 'ACTIVE', 'PAUSED', 'ARCHIVED')),
    trigger    text NOT NULL CHECK (trigger IN ('PURCHASE', 'ACTION', 'CHECK_IN', 'REFERRAL')),
    definition jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX earning_rule_program ON earning_rule (program_id, id);

CREATE TABLE earning_rule_version (
    rule_id    uuid NOT NULL REFERENCES earning_rule (id),
    version    integer NOT NULL,
    status     text NOT NULL,
    definition jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (rule_id, version)
);
COMMENT ON TABLE earning_rule_version IS 'Every state that a rule has had; awards name theirs.';

CREATE TABLE event (
    id           uuid PRIMARY KEY,
    program_id   uuid NOT NULL,
    member_id    uuid NOT NULL,
    external_id  text COLLATE "C" NOT NULL CHECK (length(external_id) BETWEEN 1 AND 255),
    kind         text NOT NULL CHECK (kind IN ('PURCHASE', 'ACTION', 'CHECK_IN', 'REFERRAL')),
    occurred_at  timestamptz NOT NULL,
    recorded_at  timestamptz NOT NULL,
    amount       numeric CHECK (amount >= 0),
    body         jsonb NOT NULL
);
COMMENT ON TABLE event IS 'What members did, as it was told to us; written once and never changed.';
CREATE UNIQUE INDEX event_external_id_key ON event (program_id, external_id);
CREATE INDEX event_member ON event (member_id, occurred_at, id);

CREATE TABLE event_queue (
    member_id   uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    event_id    uuid NOT NULL,
    PRIMARY KEY (member_id, occurred_at, event_id)
);
COMMENT ON TABLE event_queue IS 'Events that no worker has earned yet, in each member''s order of occurrence.';

CREATE TABLE event_outcome (
    event_id     uuid PRIMARY KEY,
    points       bigint NOT NULL CHECK (points >= 0),
    rejection    text,
    processed_at timestamptz NOT NULL
);
COMMENT ON TABLE event_outcome IS 'What became of an event. None yet: it waits in event_queue.';

CREATE TABLE award (
    event_id       uuid NOT NULL,
    rule_id        uuid NOT NULL,
    rule_version   integer NOT NULL,
    desired        bigint NOT NULL CHECK (desired >= 0),
    points         bigint NOT NULL CHECK (points BETWEEN 0 AND desired),
    available_at   timestamptz NOT NULL,
    expires_at     timestamptz,
    entry_sequence bigint,
    steps          jsonb NOT NULL,
    PRIMARY KEY (event_id, rule_id),
    CONSTRAINT award_entry CHECK ((points > 0) = (entry_sequence IS NOT NULL))
);
COMMENT ON COLUMN award.entry_sequence IS 'The EARN entry in the member''s account; none where limits left no points.';

CREATE TABLE earning_counter (
    member_id uuid NOT NULL,
    subject   uuid NOT NULL,
    day       date NOT NULL,
    points    bigint NOT NULL CHECK (points >= 0),
    PRIMARY KEY (member_id, subject, day)
);
COMMENT ON TABLE earning_counter IS 'Points that a member earned on a local day, by what limits them: the program or a rule.';

CREATE TABLE outbox (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue      text NOT NULL,
    program_id uuid NOT NULL,
    members    uuid[] NOT NULL CHECK (cardinality(members) > 0),
    items      integer NOT NULL CHECK (items > 0),
    created_at timestamptz NOT NULL,
    batch      uuid,
    sent_at    timestamptz,
    attempts   integer NOT NULL DEFAULT 0
);
COMMENT ON TABLE outbox IS 'Work that a transaction left behind: these members have events waiting. Deleted with its effect.';
CREATE INDEX outbox_unsent ON outbox (queue, id) WHERE batch IS NULL;
CREATE INDEX outbox_batch ON outbox (batch) WHERE batch IS NOT NULL;
"""

BACKWARD = """
DROP TABLE outbox, earning_counter, award, event_outcome, event_queue, event, earning_rule_version, earning_rule
"""


class Migration(Base):
    dependencies = [("app", "0003_ledger")]  # noqa: RUF012
    operations = [RunSQL(FORWARD, BACKWARD)]  # noqa: RUF012

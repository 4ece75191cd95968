"""What workers do: messages and webhooks, tiers that are earned, referrals, transfers, jobs, and what failed.

`ledger_settle_2` takes the place of `ledger_settle`, which stays for processes of the version before. They differ
in one thing: what matures or expires leaves a message. `ledger_apply_3` is `ledger_apply_2`, and calls it.
"""

from tortoise.migrations.migration import Migration as Base
from tortoise.migrations.operations import RunSQL

OUTBOX = """
ALTER TABLE outbox ADD COLUMN not_before timestamptz, ADD COLUMN failures integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    ADD COLUMN first_failed_at timestamptz;
COMMENT ON COLUMN outbox.members IS 'Whose work it is; on the queue of jobs: which jobs.';
COMMENT ON COLUMN outbox.not_before IS 'What failed waits so long until it is sent again.';
COMMENT ON COLUMN outbox.failures IS 'How often the work failed by itself; attempts that were lost on the way do not count.';

CREATE TABLE job (
    id         uuid PRIMARY KEY,
    program_id uuid NOT NULL REFERENCES program (id),
    name       text NOT NULL,
    status     text NOT NULL CHECK (status IN ('QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED')),
    done       integer NOT NULL DEFAULT 0 CHECK (done >= 0),
    total      integer CHECK (total >= 0),
    subject    uuid,
    state      jsonb NOT NULL DEFAULT '{}',
    error      text,
    created_at timestamptz NOT NULL,
    started_at timestamptz,
    ended_at   timestamptz,
    CONSTRAINT job_started CHECK (status NOT IN ('RUNNING', 'SUCCEEDED') OR started_at IS NOT NULL),
    CONSTRAINT job_ended CHECK ((ended_at IS NOT NULL) = (status IN ('SUCCEEDED', 'FAILED')))
) WITH (fillfactor = 50);
COMMENT ON TABLE job IS 'Work that is done in slices, and can be watched.';
COMMENT ON COLUMN job.subject IS 'What it is about, where that is one thing: of a retry the failed job.';
COMMENT ON COLUMN job.state IS 'Where the next slice goes on.';
CREATE INDEX job_program ON job (program_id, id);
CREATE UNIQUE INDEX job_queued ON job (program_id, name, coalesce(subject, program_id)) WHERE status = 'QUEUED';

CREATE TABLE failed_job (
    id              uuid PRIMARY KEY,
    program_id      uuid NOT NULL REFERENCES program (id),
    queue           text NOT NULL,
    subject         uuid NOT NULL,
    payload         jsonb NOT NULL,
    error           text NOT NULL,
    attempts        integer NOT NULL CHECK (attempts > 0),
    first_failed_at timestamptz NOT NULL,
    last_failed_at  timestamptz NOT NULL,
    CONSTRAINT failed_job_key UNIQUE (program_id, queue, subject)
);
COMMENT ON TABLE failed_job IS 'Work that failed for good, and waits for a person: one row for each thing that it is about.';
CREATE INDEX failed_job_program ON failed_job (program_id, id);

CREATE TABLE worker (
    id         uuid PRIMARY KEY,
    host       text NOT NULL,
    queues     text[] NOT NULL,
    started_at timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL
);
COMMENT ON TABLE worker IS 'Worker processes; whoever was not seen for long is gone.';
"""

MESSAGES = """
DROP INDEX message_program;
ALTER TABLE message DROP CONSTRAINT message_pkey;
ALTER TABLE message ADD COLUMN n bigint GENERATED ALWAYS AS IDENTITY;
ALTER TABLE message ADD PRIMARY KEY (program_id, n);
COMMENT ON TABLE message IS 'What others care to hear of: one row in the transaction that it tells of, until it has its number in the feed.';
COMMENT ON COLUMN message.n IS 'The order of writing: that of a member''s messages, because whoever writes them holds the member''s lock.';

CREATE TABLE feed (
    program_id uuid NOT NULL,
    position   bigint NOT NULL CHECK (position > 0),
    id         uuid NOT NULL,
    topic      text COLLATE "C" NOT NULL,
    member_id  uuid,
    payload    jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (program_id, position)
);
COMMENT ON TABLE feed IS 'All messages of a program, numbered 1, 2, 3 without a gap; a number is given once what is below it can be read.';
CREATE UNIQUE INDEX feed_id ON feed (id);
CREATE INDEX feed_member ON feed (member_id, position) WHERE member_id IS NOT NULL;
CREATE INDEX feed_topic ON feed (program_id, topic, position);

CREATE TABLE feed_head (
    program_id uuid PRIMARY KEY,
    position   bigint NOT NULL CHECK (position >= 0)
) WITH (fillfactor = 50);
COMMENT ON TABLE feed_head IS 'The last number of a feed, and the lock under which numbers are given.';

CREATE TABLE webhook (
    id            uuid PRIMARY KEY,
    program_id    uuid NOT NULL REFERENCES program (id),
    url           text NOT NULL,
    topics        text[] NOT NULL,
    secret        bytea NOT NULL,
    position      bigint NOT NULL CHECK (position >= 0),
    created_at    timestamptz NOT NULL,
    failures      integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    failing_since timestamptz,
    last_error    text,
    paused_until  timestamptz,
    disabled_at   timestamptz,
    due_at        timestamptz,
    backed_up     boolean NOT NULL DEFAULT false,
    lease         uuid,
    leased_until  timestamptz
) WITH (fillfactor = 70);
COMMENT ON COLUMN webhook.topics IS 'What it hears of; empty for everything.';
COMMENT ON COLUMN webhook.secret IS 'Sealed with the key of the settings.';
COMMENT ON COLUMN webhook.position IS 'Up to this number of the feed its deliveries have been written.';
COMMENT ON COLUMN webhook.failures IS 'Messages that failed one after the other, with none that was taken.';
COMMENT ON COLUMN webhook.due_at IS 'When one of its deliveries is due; NULL: none waits. What is new in the feed comes besides.';
COMMENT ON COLUMN webhook.backed_up IS 'So many deliveries wait that no more are written.';
COMMENT ON COLUMN webhook.lease IS 'Whoever delivers it now: one worker at a time.';
CREATE INDEX webhook_program ON webhook (program_id, id);

CREATE TABLE webhook_delivery (
    webhook_id      uuid NOT NULL REFERENCES webhook (id) ON DELETE CASCADE,
    position        bigint NOT NULL,
    program_id      uuid NOT NULL,
    member_id       uuid,
    attempts        integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_at         timestamptz NOT NULL,
    first_failed_at timestamptz,
    error           text,
    PRIMARY KEY (webhook_id, position)
) WITH (fillfactor = 80);
COMMENT ON TABLE webhook_delivery IS 'Messages that a receiver has not acknowledged; deleted when it has.';
CREATE INDEX webhook_delivery_late ON webhook_delivery (webhook_id, next_at) WHERE attempts > 0;

CREATE TABLE expiry_notice (
    program_id uuid NOT NULL REFERENCES program (id),
    days       smallint NOT NULL,
    done_until date NOT NULL,
    after      uuid,
    PRIMARY KEY (program_id, days)
);
COMMENT ON TABLE expiry_notice IS 'Up to which day of expiry members were told so many days ahead; `after` is the account where the next day''s turn has come.';
CREATE INDEX lot_expires ON lot (expires_on, account_id) WHERE expires_on < 'infinity';
"""

LEDGER = """
DO $do$
DECLARE
    settle text := pg_get_functiondef('ledger_settle'::regproc);
    after_entry text := E'\\n            INSERT INTO message (id, program_id, topic, member_id, payload, created_at)'
        || E'\\n            VALUES (gen_random_uuid(), a.program_id, %L, a.member_id, jsonb_build_object(''points'', moved,'
        || E'\\n                ''available'', a.available, ''pending'', a.pending, ''day'', due), p_recorded_at);';
    released text := $t$'RELEASE', moved, moved, -moved, 0, a.available, a.pending, a.reserved, instant, p_recorded_at);$t$;
    expired text := $t$'EXPIRE', moved, -moved, 0, 0, a.available, a.pending, a.reserved, instant, p_recorded_at);$t$;
BEGIN
    IF strpos(settle, released) = 0 OR strpos(settle, expired) = 0 THEN
        RAISE EXCEPTION 'ledger_settle is not what it was';
    END IF;
    settle := replace(settle, 'ledger_settle(', 'ledger_settle_2(');
    settle := replace(settle, released, released || format(after_entry, 'points.matured'));
    settle := replace(settle, expired, expired || format(after_entry, 'points.expired'));
    EXECUTE settle;
    EXECUTE replace(replace(pg_get_functiondef('ledger_apply_2'::regproc),
        'ledger_apply_2(', 'ledger_apply_3('), 'ledger_settle(', 'ledger_settle_2(');
END $do$;

CREATE TABLE transfer (
    id          uuid PRIMARY KEY,
    program_id  uuid NOT NULL,
    sender_id   uuid NOT NULL,
    receiver_id uuid NOT NULL CHECK (receiver_id <> sender_id),
    points      bigint NOT NULL CHECK (points > 0),
    expires_on  date[] NOT NULL,
    amounts     bigint[] NOT NULL CHECK (cardinality(amounts) = cardinality(expires_on)),
    entry       bigint NOT NULL,
    status      text NOT NULL CHECK (status IN ('IN_TRANSIT', 'ARRIVED', 'RETURNED')),
    expired     bigint NOT NULL DEFAULT 0 CHECK (expired BETWEEN 0 AND points),
    source      text NOT NULL,
    created_at  timestamptz NOT NULL,
    ended_at    timestamptz,
    CONSTRAINT transfer_entry_key UNIQUE (sender_id, entry),
    CONSTRAINT transfer_ended CHECK ((ended_at IS NULL) = (status = 'IN_TRANSIT'))
) WITH (fillfactor = 80);
COMMENT ON TABLE transfer IS 'Points on their way from one member to another: neither''s while they are in transit.';
COMMENT ON COLUMN transfer.expires_on IS 'The last days of use of its points, soonest first; amounts has how many of each.';
COMMENT ON COLUMN transfer.entry IS 'The REDEEM entry in the sender''s account.';
COMMENT ON COLUMN transfer.expired IS 'Points that expired on the way.';
CREATE INDEX transfer_to ON transfer (receiver_id) WHERE status = 'IN_TRANSIT';
CREATE INDEX transfer_program ON transfer (program_id, id);
"""

TIERS = """
ALTER TABLE program
    ADD COLUMN tier_basis text NOT NULL DEFAULT 'POINTS_EARNED' CHECK (tier_basis IN ('POINTS_EARNED', 'AMOUNT_SPENT', 'PURCHASES')),
    ADD COLUMN tier_window text NOT NULL DEFAULT 'LIFETIME' CHECK (tier_window IN ('LIFETIME', 'ROLLING_MONTHS', 'CALENDAR_YEAR')),
    ADD COLUMN tier_months integer CHECK (tier_months BETWEEN 1 AND 120),
    ADD COLUMN tier_downgrade text NOT NULL DEFAULT 'TO_QUALIFIED' CHECK (tier_downgrade IN ('NEVER', 'ONE_STEP', 'TO_QUALIFIED')),
    ADD COLUMN tier_grace_days integer NOT NULL DEFAULT 0 CHECK (tier_grace_days BETWEEN 0 AND 3650),
    ADD CONSTRAINT program_tier_months CHECK ((tier_window = 'ROLLING_MONTHS') = (tier_months IS NOT NULL));

CREATE TABLE tier_threshold (
    tier_id   uuid NOT NULL REFERENCES tier (id),
    since     timestamptz NOT NULL,
    threshold numeric NOT NULL CHECK (threshold >= 0),
    PRIMARY KEY (tier_id, since)
);
COMMENT ON TABLE tier_threshold IS 'The threshold that a tier had from a time on; the first one counts for all time before it, too.';
INSERT INTO tier_threshold (tier_id, since, threshold) SELECT id, created_at, threshold FROM tier;

ALTER TABLE member_tier ADD COLUMN automatic boolean NOT NULL DEFAULT false, ADD COLUMN earned_tier_id uuid REFERENCES tier (id);
COMMENT ON COLUMN member_tier.automatic IS 'Found out by Laurel; otherwise given by hand.';
COMMENT ON COLUMN member_tier.earned_tier_id IS 'Given by hand: what the member had earned then. What lies above it comes by itself all the same.';

CREATE TABLE tier_standing (
    member_id    uuid PRIMARY KEY,
    program_id   uuid NOT NULL,
    tier_id      uuid,
    due_at       timestamptz,
    evaluated_at timestamptz NOT NULL
) WITH (fillfactor = 70);
COMMENT ON TABLE tier_standing IS 'The tier that a member was last told of, and the lock under which it changes. No row: nothing was looked at yet.';
COMMENT ON COLUMN tier_standing.due_at IS 'Time alone changes nothing before; it may be early, never late.';
CREATE INDEX tier_standing_due ON tier_standing (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX tier_standing_program ON tier_standing (program_id, member_id);

-- What counts towards tiers is read from indexes alone.
DROP INDEX event_member;
CREATE INDEX event_member ON event (member_id, occurred_at, id) INCLUDE (amount, points_amount, kind);
CREATE INDEX event_outcome_rejected ON event_outcome (event_id) WHERE rejection IS NOT NULL;
"""

# Ten letters of Crockford's alphabet, 50 random bits: short enough to hand to friends. A default, so that
# processes of the version before enrol as well.
REFERRALS = """
CREATE FUNCTION new_referral_code() RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT string_agg(substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', get_byte(b, i) % 32 + 1, 1), '')
    FROM (SELECT uuid_send(gen_random_uuid()) AS b) x, unnest(ARRAY[0, 1, 2, 3, 4, 5, 9, 10, 11, 12]) AS i
$$;
ALTER TABLE member ADD COLUMN referral_code text COLLATE "C" NOT NULL DEFAULT new_referral_code();
CREATE UNIQUE INDEX member_referral_code_key ON member (program_id, referral_code);

CREATE TABLE referral (
    id             uuid PRIMARY KEY,
    program_id     uuid NOT NULL,
    referrer_id    uuid NOT NULL,
    referred_id    uuid NOT NULL,
    status         text NOT NULL CHECK (status IN ('PENDING', 'CREDITED', 'REJECTED')),
    rejection      text CHECK (rejection IN ('SELF_REFERRAL', 'SAME_IDENTITY', 'LIMIT_REACHED', 'NO_ACTIVE_RULE', 'REFERRER_NOT_ACTIVE')),
    created_at     timestamptz NOT NULL,
    credited_at    timestamptz,
    updated_at     timestamptz NOT NULL,
    CONSTRAINT referral_rejection CHECK ((rejection IS NOT NULL) = (status = 'REJECTED')),
    CONSTRAINT referral_self CHECK (referrer_id <> referred_id OR rejection IS NOT DISTINCT FROM 'SELF_REFERRAL')
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX referral_referred_key ON referral (referred_id, (referrer_id = referred_id));
CREATE INDEX referral_program ON referral (program_id, id);
CREATE INDEX referral_referrer ON referral (referrer_id, id);

CREATE TABLE referral_credit (
    referral_id       uuid NOT NULL REFERENCES referral (id),
    trigger           text NOT NULL CHECK (trigger IN ('REGISTRATION', 'FIRST_PURCHASE')),
    round             integer NOT NULL CHECK (round >= 0),
    program_id        uuid NOT NULL,
    referrer_id       uuid NOT NULL,
    referred_id       uuid NOT NULL,
    purchase_id       uuid,
    rule_ids          uuid[] NOT NULL,
    occurred_at       timestamptz NOT NULL,
    referrer_event_id uuid,
    referred_event_id uuid,
    credited_at       timestamptz,
    taken_back_at     timestamptz,
    written_off       bigint NOT NULL DEFAULT 0 CHECK (written_off >= 0),
    PRIMARY KEY (referral_id, trigger, round),
    CONSTRAINT referral_credit_purchase CHECK ((purchase_id IS NOT NULL) = (trigger = 'FIRST_PURCHASE'))
) WITH (fillfactor = 80);
COMMENT ON TABLE referral_credit IS 'What brought a referral its points, and the two events that gave them; a new round after a refund took them back.';
COMMENT ON COLUMN referral_credit.rule_ids IS 'The rules that paid the referrer, and pay the friend.';
COMMENT ON COLUMN referral_credit.written_off IS 'The part that could not be taken back from the two; with any the credit holds.';
CREATE INDEX referral_credit_referrer ON referral_credit (referrer_id, occurred_at);
CREATE INDEX referral_credit_purchase_id ON referral_credit (purchase_id) WHERE purchase_id IS NOT NULL;

ALTER TABLE refund_request DROP CONSTRAINT refund_request_kind_check,
    ADD CONSTRAINT refund_request_kind_check CHECK (kind IN ('PURCHASE', 'ITEMS', 'REFERRAL'));
"""

# What refunds had to write off was not taken back: it frees no room under limits, and did until now.
ROOM = """
UPDATE earning_budget b SET spent = greatest(0, b.spent {sign} x.points)
FROM (SELECT rule_id, sum(written_off)::bigint AS points FROM refund_award WHERE written_off > 0 GROUP BY 1) x
WHERE x.rule_id = b.rule_id;
UPDATE earning_counter c SET points = c.points {sign} x.points
FROM (SELECT v.member_id, v.program_id, coalesce(a.day, (v.occurred_at AT TIME ZONE p.timezone)::date) AS day,
        sum(m.written_off)::bigint AS points
    FROM refund_award m JOIN award a ON (a.event_id, a.rule_id) = (m.event_id, m.rule_id)
    JOIN event v ON v.id = m.event_id JOIN program p ON p.id = v.program_id
    WHERE m.written_off > 0 GROUP BY 1, 2, 3) x
WHERE (c.member_id, c.subject, c.day) = (x.member_id, x.program_id, x.day);
"""

# Keys that could do everything still can.
SCOPES = """
UPDATE api_key SET scopes = scopes || ARRAY['messages:read', 'webhooks:admin', 'jobs:admin']
WHERE scopes @> ARRAY['program:read', 'program:write', 'members:read', 'members:write', 'rules:read', 'rules:write',
    'events:write', 'catalog:read', 'catalog:write', 'redemptions:read', 'redemptions:write', 'ledger:adjust', 'keys:admin'];
"""

FORWARD = OUTBOX + MESSAGES + LEDGER + TIERS + REFERRALS + ROOM.format(sign="+") + SCOPES

BACKWARD = (
    ROOM.format(sign="-")
    + """
ALTER TABLE refund_request DROP CONSTRAINT refund_request_kind_check,
    ADD CONSTRAINT refund_request_kind_check CHECK (kind IN ('PURCHASE', 'ITEMS'));
DROP TABLE referral_credit, referral, tier_standing, tier_threshold, transfer, expiry_notice, webhook_delivery, webhook,
    feed_head, feed, worker, failed_job, job;
DROP INDEX event_member, event_outcome_rejected;
CREATE INDEX event_member ON event (member_id, occurred_at, id);
ALTER TABLE member DROP COLUMN referral_code;
DROP FUNCTION new_referral_code, ledger_apply_3, ledger_settle_2;
ALTER TABLE member_tier DROP COLUMN automatic, DROP COLUMN earned_tier_id;
ALTER TABLE program DROP COLUMN tier_basis, DROP COLUMN tier_window, DROP COLUMN tier_months, DROP COLUMN tier_downgrade,
    DROP COLUMN tier_grace_days;
DROP INDEX lot_expires;
ALTER TABLE message DROP CONSTRAINT message_pkey, DROP COLUMN n, ADD PRIMARY KEY (id);
CREATE INDEX message_program ON message (program_id, id);
ALTER TABLE outbox DROP COLUMN not_before, DROP COLUMN failures, DROP COLUMN first_failed_at
"""
)


class Migration(Base):
    dependencies = [("app", "0006_burning")]  # noqa: RUF012
    operations = [RunSQL(FORWARD, BACKWARD)]  # noqa: RUF012

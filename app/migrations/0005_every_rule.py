"""Stores, tiers and campaigns with their histories, refunds, budgets, and what a refund needs of a receipt."""

from tortoise.migrations.migration import Migration as Base
from tortoise.migrations.operations import RunSQL

AROUND = """
CREATE TABLE store (
    id            uuid PRIMARY KEY,
    program_id    uuid NOT NULL REFERENCES program (id),
    external_id   text COLLATE "C" NOT NULL CHECK (length(external_id) BETWEEN 1 AND 255),
    name          text NOT NULL,
    timezone      text NOT NULL,
    latitude      double precision CHECK (latitude BETWEEN -90 AND 90),
    longitude     double precision CHECK (longitude BETWEEN -180 AND 180),
    radius_meters integer CHECK (radius_meters > 0),
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    CONSTRAINT store_position CHECK ((latitude IS NULL) = (longitude IS NULL)),
    CONSTRAINT store_radius CHECK (radius_meters IS NULL OR latitude IS NOT NULL)
);
CREATE UNIQUE INDEX store_external_id_key ON store (program_id, external_id);
CREATE INDEX store_program ON store (program_id, id);

CREATE TABLE tier (
    id         uuid PRIMARY KEY,
    program_id uuid NOT NULL REFERENCES program (id),
    name       text NOT NULL,
    threshold  numeric NOT NULL CHECK (threshold >= 0),
    multiplier numeric NOT NULL CHECK (multiplier > 0),
    benefits   text[] NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT tier_threshold_key UNIQUE (program_id, threshold)
);

CREATE TABLE tier_factor (
    tier_id    uuid NOT NULL REFERENCES tier (id),
    since      timestamptz NOT NULL,
    name       text NOT NULL,
    multiplier numeric NOT NULL,
    PRIMARY KEY (tier_id, since)
);
COMMENT ON TABLE tier_factor IS 'The factor that a tier had from a time on; the first one counts for all time before it, too.';

CREATE TABLE campaign (
    id         uuid PRIMARY KEY,
    program_id uuid NOT NULL REFERENCES program (id),
    name       text NOT NULL,
    starts_at  timestamptz NOT NULL,
    ends_at    timestamptz NOT NULL CHECK (ends_at >= starts_at),
    multiplier numeric NOT NULL CHECK (multiplier > 0),
    applies_to text[] NOT NULL CHECK (cardinality(applies_to) > 0),
    tier_ids   uuid[] NOT NULL,
    store_ids  uuid[] NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
COMMENT ON COLUMN campaign.ends_at IS 'It counts for what happens before; where it was ended early, that time.';
CREATE INDEX campaign_program ON campaign (program_id, id);

CREATE TABLE campaign_factor (
    campaign_id uuid NOT NULL REFERENCES campaign (id),
    since       timestamptz NOT NULL,
    name        text NOT NULL,
    multiplier  numeric NOT NULL,
    PRIMARY KEY (campaign_id, since)
);
COMMENT ON TABLE campaign_factor IS 'The factor that a campaign had from a time on; the first one counts for all time before it, too.';

CREATE TABLE member_tier (
    id          uuid PRIMARY KEY,
    program_id  uuid NOT NULL,
    member_id   uuid NOT NULL,
    tier_id     uuid REFERENCES tier (id),
    since       timestamptz NOT NULL,
    until       timestamptz CHECK (until > since),
    reason      text NOT NULL,
    source      text NOT NULL,
    recorded_at timestamptz NOT NULL
);
COMMENT ON TABLE member_tier IS 'Who was given which tier, for what time. Of those that cover a moment the one recorded last counts.';
CREATE INDEX member_tier_member ON member_tier (member_id, recorded_at);

CREATE INDEX member_birthday ON member (program_id, (extract(month FROM birthday) * 100 + extract(day FROM birthday)))
    WHERE birthday IS NOT NULL;
CREATE INDEX member_anniversary ON member
    (program_id, (extract(month FROM joined_at AT TIME ZONE 'UTC') * 100 + extract(day FROM joined_at AT TIME ZONE 'UTC')));

CREATE TABLE calendar_sweep (
    program_id uuid PRIMARY KEY REFERENCES program (id),
    done_until date NOT NULL
);
COMMENT ON TABLE calendar_sweep IS 'The last local day whose birthdays and anniversaries are all recorded.';
"""

EARNING = """
ALTER TABLE event ADD COLUMN store_id uuid;

ALTER TABLE event_outcome ADD COLUMN rules_version bigint, ADD COLUMN context jsonb;
UPDATE event_outcome o SET context = jsonb_build_object('rounding', p.rounding)
FROM event e JOIN program p ON p.id = e.program_id WHERE e.id = o.event_id AND o.rejection IS NULL;
COMMENT ON COLUMN event_outcome.rules_version IS 'The rules that were considered: those of this version of the program''s rule set.';
COMMENT ON COLUMN event_outcome.context IS 'What else decided: factors, and the room that limits left. With it the outcome can be told again.';

ALTER TABLE award ADD COLUMN remaining bigint, ADD COLUMN day date,
    ADD CONSTRAINT award_remaining CHECK (remaining BETWEEN 0 AND points);
UPDATE award SET remaining = points;
ALTER TABLE award ALTER COLUMN remaining SET NOT NULL;
COMMENT ON COLUMN award.remaining IS 'Points that refunds have not taken back.';
COMMENT ON COLUMN award.day IS 'The day of the event in the zone in which its limits are counted; older awards: the program''s zone.';

ALTER TABLE earning_rule_version ADD COLUMN rules_version bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN earning_rule_version.rules_version IS 'The version of the program''s rule set that it came with.';

CREATE TABLE earning_budget (
    rule_id uuid PRIMARY KEY REFERENCES earning_rule (id),
    spent   bigint NOT NULL CHECK (spent >= 0)
);
COMMENT ON TABLE earning_budget IS 'Points that a rule has given to all members together, counted from its first budget on for good.';

CREATE TABLE refund_request (
    id           uuid PRIMARY KEY,
    program_id   uuid NOT NULL,
    external_id  text COLLATE "C" NOT NULL CHECK (length(external_id) BETWEEN 1 AND 255),
    member_id    uuid NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('PURCHASE', 'ITEMS')),
    request_hash bigint NOT NULL,
    occurred_at  timestamptz NOT NULL,
    recorded_at  timestamptz NOT NULL,
    unmatched    jsonb NOT NULL
);
COMMENT ON TABLE refund_request IS 'A refund as it was told to us: of one purchase, or of goods without their receipt.';
CREATE UNIQUE INDEX refund_request_external_id_key ON refund_request (program_id, external_id);
CREATE INDEX refund_request_member ON refund_request (member_id);

CREATE TABLE refund (
    id          uuid PRIMARY KEY,
    request_id  uuid NOT NULL REFERENCES refund_request (id),
    program_id  uuid NOT NULL,
    event_id    uuid NOT NULL,
    amount      numeric NOT NULL CHECK (amount >= 0),
    lines       jsonb NOT NULL,
    whole       boolean NOT NULL,
    points      bigint NOT NULL,
    debt        bigint NOT NULL CHECK (debt >= 0),
    written_off bigint NOT NULL CHECK (written_off >= 0),
    CONSTRAINT refund_event_key UNIQUE (event_id, request_id)
);
COMMENT ON TABLE refund IS 'What was given back of one purchase, and the points that went with it.';
COMMENT ON COLUMN refund.whole IS 'All that was left of the purchase was given back.';
CREATE INDEX refund_request_id ON refund (request_id);

CREATE TABLE refund_award (
    refund_id uuid NOT NULL REFERENCES refund (id),
    event_id  uuid NOT NULL,
    rule_id   uuid NOT NULL,
    reference bigint NOT NULL,
    points    bigint NOT NULL CHECK (points <> 0),
    written_off bigint NOT NULL CHECK (written_off BETWEEN 0 AND greatest(points, 0)),
    PRIMARY KEY (refund_id, rule_id, reference)
);
COMMENT ON TABLE refund_award IS 'By how much a refund made an award smaller; negative where it gave points again.';
COMMENT ON COLUMN refund_award.written_off IS 'The part of the points that the member neither had nor could owe.';
COMMENT ON COLUMN refund_award.reference IS 'The EARN entry that was taken back from, or by which points were given again.';
CREATE INDEX refund_award_award ON refund_award (event_id, rule_id);
"""

FORWARD = AROUND + EARNING

BACKWARD = """
DROP TABLE refund_award, refund, refund_request, earning_budget, calendar_sweep, member_tier, campaign_factor, campaign,
    tier_factor, tier, store;
DROP INDEX member_birthday, member_anniversary;
ALTER TABLE earning_rule_version DROP COLUMN rules_version;
ALTER TABLE award DROP COLUMN remaining, DROP COLUMN day;
ALTER TABLE event_outcome DROP COLUMN rules_version, DROP COLUMN context;
ALTER TABLE event DROP COLUMN store_id
"""


class Migration(Base):
    dependencies = [("app", "0004_earning")]  # noqa: RUF012
    operations = [RunSQL(FORWARD, BACKWARD)]  # noqa: RUF012

"""The catalog with its stock and codes, redemptions, and what purchases and refunds know of points payments."""

from tortoise.migrations.migration import Migration as Base
from tortoise.migrations.operations import RunSQL

CATALOG = """
CREATE TABLE reward (
    id                       uuid PRIMARY KEY,
    program_id               uuid NOT NULL REFERENCES program (id),
    version                  integer NOT NULL CHECK (version > 0),
    kind                     text NOT NULL CHECK (kind IN ('VOUCHER', 'GIFT_CARD', 'PRODUCT', 'DISCOUNT', 'SERVICE', 'DONATION', 'GIVEAWAY')),
    status                   text NOT NULL CHECK (status IN ('DRAFT', 'ACTIVE', 'PAUSED', 'ARCHIVED')),
    name                     text NOT NULL,
    description              text,
    image_url                text,
    search                   text NOT NULL,
    points                   bigint CHECK (points > 0),
    points_per_currency_unit numeric CHECK (points_per_currency_unit > 0),
    face_value               numeric CHECK (face_value > 0),
    generate_codes           boolean NOT NULL,
    max_per_member           integer CHECK (max_per_member > 0),
    max_per_member_per_month integer CHECK (max_per_member_per_month > 0),
    max_total                integer CHECK (max_total > 0),
    max_share_of_order       numeric CHECK (max_share_of_order > 0 AND max_share_of_order <= 1),
    min_points               bigint CHECK (min_points > 0),
    starts_at                timestamptz,
    ends_at                  timestamptz CHECK (ends_at > starts_at),
    tier_ids                 uuid[] NOT NULL,
    draw_seed                bytea,
    draw_seed_hash           bytea CHECK (length(draw_seed_hash) = 32),
    created_at               timestamptz NOT NULL,
    updated_at               timestamptz NOT NULL,
    CONSTRAINT reward_price CHECK ((points IS NULL) = (kind = 'DISCOUNT') AND (points_per_currency_unit IS NOT NULL) = (kind = 'DISCOUNT')),
    CONSTRAINT reward_draw CHECK ((draw_seed IS NOT NULL) = (kind = 'GIVEAWAY') AND (draw_seed_hash IS NOT NULL) = (kind = 'GIVEAWAY'))
);
COMMENT ON COLUMN reward.version IS 'Goes up with every change, here and in reward_stock: who holds the stock knows whether what was read is old.';
COMMENT ON COLUMN reward.search IS 'Name and description in the form in which a search compares them.';
COMMENT ON COLUMN reward.draw_seed IS 'Sealed until the draw; its SHA-256 is public from the start.';
CREATE INDEX reward_program ON reward (program_id, id);

CREATE TABLE reward_stock (
    reward_id uuid PRIMARY KEY REFERENCES reward (id),
    version   integer NOT NULL,
    taken     bigint NOT NULL CHECK (taken >= 0),
    capacity  bigint,
    codes     bigint CHECK (codes >= 0),
    low_stock bigint NOT NULL DEFAULT 0,
    low_codes bigint NOT NULL DEFAULT 0,
    drawn_at  timestamptz,
    winner_id uuid,
    CONSTRAINT reward_stock_left CHECK (taken <= capacity),
    CONSTRAINT reward_stock_drawn CHECK ((drawn_at IS NULL) = (winner_id IS NULL))
) WITH (fillfactor = 50);
COMMENT ON TABLE reward_stock IS 'What is left of a reward: the one row that all its redemptions share, held for as short as possible.';
COMMENT ON COLUMN reward_stock.taken IS 'Pieces of redemptions that are neither cancelled nor expired.';
COMMENT ON COLUMN reward_stock.capacity IS 'Stock is capacity less taken; null is without end.';
COMMENT ON COLUMN reward_stock.codes IS 'Codes of the pool that nobody has; null where codes are made, or none are needed.';
COMMENT ON COLUMN reward_stock.low_stock IS 'When so few are left a message says so.';

CREATE TABLE reward_code (
    id            uuid PRIMARY KEY,
    program_id    uuid NOT NULL,
    reward_id     uuid NOT NULL,
    digest        bytea NOT NULL CHECK (length(digest) = 32),
    sealed        bytea NOT NULL,
    redemption_id uuid,
    used_at       timestamptz,
    made          boolean NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL,
    CONSTRAINT reward_code_digest_key UNIQUE (program_id, digest),
    CONSTRAINT reward_code_used CHECK (used_at IS NULL OR redemption_id IS NOT NULL)
);
COMMENT ON COLUMN reward_code.digest IS 'Keyed hash, by which a till''s code is found; the code itself is sealed with the key of the settings.';
COMMENT ON COLUMN reward_code.made IS 'Made for its redemption; otherwise it was loaded, and belongs to the pool.';
CREATE INDEX reward_code_free ON reward_code (reward_id, id) WHERE redemption_id IS NULL;
CREATE INDEX reward_code_redemption ON reward_code (redemption_id) WHERE redemption_id IS NOT NULL;
"""

REDEMPTIONS = """
CREATE TABLE redemption (
    id             uuid PRIMARY KEY,
    program_id     uuid NOT NULL,
    member_id      uuid NOT NULL,
    reward_id      uuid NOT NULL,
    reward_name    text NOT NULL,
    status         text NOT NULL CHECK (status IN ('RESERVED', 'CONFIRMED', 'FULFILLED', 'USED', 'CANCELLED', 'EXPIRED')),
    quantity       integer NOT NULL CHECK (quantity > 0),
    points         bigint NOT NULL CHECK (points > 0),
    restored       bigint NOT NULL DEFAULT 0,
    rate           numeric CHECK (rate > 0),
    face_value     numeric CHECK (face_value > 0),
    amount         numeric CHECK (amount >= 0),
    order_amount   numeric CHECK (order_amount >= 0),
    order_id       text,
    reserve_entry  bigint,
    redeem_entry   bigint,
    reserved_until timestamptz,
    confirmed_at   timestamptz,
    fulfilled_at   timestamptz,
    used_at        timestamptz,
    ended_at       timestamptz,
    note           text,
    reason         text,
    source         text NOT NULL,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    CONSTRAINT redemption_restored CHECK (restored BETWEEN 0 AND points),
    CONSTRAINT redemption_entry CHECK (coalesce(reserve_entry, redeem_entry) IS NOT NULL),
    CONSTRAINT redemption_confirmed CHECK ((confirmed_at IS NULL) = (redeem_entry IS NULL)
        AND (status NOT IN ('CONFIRMED', 'FULFILLED', 'USED') OR confirmed_at IS NOT NULL)
        AND (status NOT IN ('RESERVED', 'EXPIRED') OR confirmed_at IS NULL)),
    CONSTRAINT redemption_reserved CHECK ((reserve_entry IS NULL) = (reserved_until IS NULL)),
    CONSTRAINT redemption_ended CHECK ((ended_at IS NOT NULL) = (status IN ('CANCELLED', 'EXPIRED')))
) WITH (fillfactor = 80);
COMMENT ON COLUMN redemption.points IS 'Reserved or spent; of a captured reservation, what was captured.';
COMMENT ON COLUMN redemption.restored IS 'Points given back after they were spent.';
COMMENT ON COLUMN redemption.rate IS 'DISCOUNT: points for one unit of the currency, as it was.';
COMMENT ON COLUMN redemption.face_value IS 'Of one piece, as it was: what it is billed at.';
COMMENT ON COLUMN redemption.ended_at IS 'When it was cancelled, or ran out.';
CREATE INDEX redemption_program ON redemption (program_id, id);
CREATE INDEX redemption_member ON redemption (member_id, id);
CREATE INDEX redemption_member_reward ON redemption (member_id, reward_id);
CREATE INDEX redemption_reward ON redemption (reward_id, id);
CREATE INDEX redemption_due ON redemption (reserved_until) WHERE status = 'RESERVED';
CREATE INDEX redemption_billed ON redemption (program_id, confirmed_at) WHERE face_value IS NOT NULL AND confirmed_at IS NOT NULL;
CREATE INDEX redemption_credited ON redemption (program_id, ended_at) WHERE face_value IS NOT NULL AND confirmed_at IS NOT NULL AND ended_at IS NOT NULL;

CREATE TABLE message (
    id         uuid PRIMARY KEY,
    program_id uuid NOT NULL,
    topic      text NOT NULL,
    member_id  uuid,
    payload    jsonb NOT NULL,
    created_at timestamptz NOT NULL
);
COMMENT ON TABLE message IS 'What others care to hear of: one row in the transaction that it tells of.';
CREATE INDEX message_program ON message (program_id, id);
"""

PAYMENTS = """
ALTER TABLE program ADD COLUMN earn_on_points_payments boolean NOT NULL DEFAULT false;

ALTER TABLE event ADD COLUMN redemption_id uuid, ADD COLUMN points_amount numeric CHECK (points_amount >= 0 AND points_amount <= amount),
    ADD CONSTRAINT event_payment CHECK ((redemption_id IS NULL) = (points_amount IS NULL));
COMMENT ON COLUMN event.points_amount IS 'The part of the amount that was paid with points.';
CREATE UNIQUE INDEX event_redemption_key ON event (redemption_id) WHERE redemption_id IS NOT NULL;

ALTER TABLE refund ADD COLUMN restored_points bigint NOT NULL DEFAULT 0 CHECK (restored_points >= 0);
COMMENT ON COLUMN refund.restored_points IS 'Points of the points payment that went back to the member.';
"""

# Keys that could do everything still can.
SCOPES = """
UPDATE api_key SET scopes = scopes || ARRAY['catalog:read', 'catalog:write', 'redemptions:read', 'redemptions:write']
WHERE scopes @> ARRAY['program:read', 'program:write', 'members:read', 'members:write', 'rules:read', 'rules:write',
    'events:write', 'ledger:adjust', 'keys:admin'];
"""

FORWARD = CATALOG + REDEMPTIONS + PAYMENTS + SCOPES

BACKWARD = """
ALTER TABLE refund DROP COLUMN restored_points;
ALTER TABLE event DROP COLUMN redemption_id, DROP COLUMN points_amount;
ALTER TABLE program DROP COLUMN earn_on_points_payments;
DROP TABLE message, redemption, reward_code, reward_stock, reward
"""


class Migration(Base):
    dependencies = [("app", "0005_every_rule")]  # noqa: RUF012
    operations = [RunSQL(FORWARD, BACKWARD)]  # noqa: RUF012

"""The catalog with its stock and codes, redemptions, and what purchases and refunds know of points payments.

`ledger_apply_2` takes the place of `ledger_apply`, which stays for processes of the version before. They differ
in RESTORE alone: points that expired meanwhile pay no debt, and what has paid one does not come back again.
"""

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

APPLY = """
CREATE FUNCTION ledger_apply_2(
    p_account uuid, p_kind text, p_amount bigint, p_reference bigint, p_matures_on date, p_expires_on date,
    p_key uuid, p_request_hash bigint, p_occurred_at timestamptz, p_source text, p_source_id uuid, p_reason text,
    p_recorded_at timestamptz, p_today date, p_zone text, p_inactive_months integer, p_inactive_since date, p_debt_limit bigint,
    OUT o_status text, OUT o_sequence bigint, OUT o_available bigint, OUT o_pending bigint, OUT o_reserved bigint,
    OUT o_taken bigint, OUT o_debt bigint
) LANGUAGE plpgsql AS $$
DECLARE
    a account%ROWTYPE; e ledger_entry%ROWTYPE;
    d_available bigint := 0; d_pending bigint := 0; d_reserved bigint := 0;
    owed bigint; unresolved bigint; root bigint; undone bigint; got record;
BEGIN
    -- The only lock. Each statement below it sees what the holder before us has committed.
    SELECT * INTO a FROM account WHERE id = p_account FOR NO KEY UPDATE;
    IF NOT FOUND THEN o_status := 'NO_ACCOUNT'; RETURN; END IF;

    IF p_kind <> 'SETTLE' THEN
        SELECT * INTO e FROM ledger_entry WHERE account_id = p_account AND key = p_key;
        IF FOUND THEN
            o_status := CASE WHEN e.request_hash = p_request_hash THEN 'REPLAYED' ELSE 'KEY_REUSED' END;
            o_sequence := e.sequence; o_available := e.available_after; o_pending := e.pending_after; o_reserved := e.reserved_after;
            IF e.kind = 'CLAWBACK' THEN
                o_taken := -(e.available_change + e.pending_change);
                SELECT o_taken - coalesce(sum(amount), 0) INTO o_debt FROM allocation WHERE account_id = p_account AND sequence = e.sequence;
            END IF;
            RETURN;
        END IF;
    END IF;

    -- What is due is done first, so that a late sweep can never let a dead point be spent.
    IF a.next_due <= p_today OR (p_inactive_months IS NOT NULL AND a.available > 0 AND
            (greatest(a.active_on, p_inactive_since) + make_interval(months => p_inactive_months))::date < p_today) THEN
        a := ledger_settle(a, p_today, p_zone, p_inactive_months, p_inactive_since, p_recorded_at, '-infinity');
        UPDATE account SET available = a.available, pending = a.pending, sequence = a.sequence, next_due = a.next_due,
            active_on = a.active_on, lifetime_expired = a.lifetime_expired WHERE id = p_account;
    END IF;
    o_sequence := a.sequence; o_available := a.available; o_pending := a.pending; o_reserved := a.reserved;
    IF p_kind = 'SETTLE' THEN o_status := 'APPLIED'; RETURN; END IF;
    IF p_amount IS NULL OR p_amount = 0 OR (p_amount < 0 AND p_kind <> 'ADJUST') OR abs(p_amount) > 9007199254740991 THEN
        o_status := 'INVALID'; RETURN;
    END IF;
    o_status := 'APPLIED';

    IF p_kind = 'EARN' OR (p_kind = 'ADJUST' AND p_amount > 0) THEN
        IF p_expires_on < greatest(p_matures_on, p_today) THEN o_status := 'INVALID'; RETURN; END IF;
        IF greatest(a.lifetime_earned, a.available + a.pending + a.reserved) + p_amount > 9007199254740991 THEN
            o_status := 'TOO_MANY'; RETURN;
        END IF;
        IF p_matures_on > p_today THEN
            d_pending := p_amount;
            INSERT INTO lot VALUES (p_account, p_expires_on, a.sequence + 1, p_matures_on, p_amount, p_amount, true, true);
            a.next_due := least(a.next_due, p_matures_on);
        ELSE
            d_available := p_amount;
            owed := least(p_amount, greatest(0, -a.available));
            INSERT INTO lot VALUES (p_account, p_expires_on, a.sequence + 1, p_today, p_amount, p_amount - owed, false, p_amount > owed);
            IF owed > 0 THEN INSERT INTO allocation VALUES (p_account, a.sequence + 1, a.sequence + 1, p_expires_on, owed); END IF;
            a.next_due := least(a.next_due, p_expires_on + 1);
        END IF;
        a.lifetime_earned := a.lifetime_earned + p_amount;
        a.active_on := greatest(a.active_on, p_today);

    ELSIF p_kind IN ('RESERVE', 'ADJUST') OR (p_kind = 'REDEEM' AND p_reference IS NULL) THEN
        IF a.available < abs(p_amount) THEN o_status := 'INSUFFICIENT'; RETURN; END IF;
        got := ledger_take(p_account, a.sequence + 1, abs(p_amount), NULL, false);
        IF got.o_available <> abs(p_amount) THEN
            RAISE EXCEPTION 'account %: lots and balance disagree', p_account USING ERRCODE = 'LP500';
        END IF;
        d_available := -abs(p_amount);
        IF p_kind = 'RESERVE' THEN d_reserved := p_amount; a.active_on := greatest(a.active_on, p_today);
        ELSIF p_kind = 'REDEEM' THEN a.lifetime_spent := a.lifetime_spent + p_amount; a.active_on := greatest(a.active_on, p_today);
        ELSE a.lifetime_earned := a.lifetime_earned + p_amount;
        END IF;

    ELSIF p_kind IN ('REDEEM', 'RESTORE', 'CLAWBACK') THEN
        SELECT * INTO e FROM ledger_entry WHERE account_id = p_account AND sequence = p_reference;
        IF NOT FOUND OR NOT (CASE p_kind WHEN 'REDEEM' THEN e.kind = 'RESERVE' WHEN 'RESTORE' THEN e.kind IN ('RESERVE', 'REDEEM')
                ELSE e.kind = 'EARN' END) THEN
            o_status := 'NO_REFERENCE'; RETURN;
        END IF;
        SELECT e.amount - coalesce(sum(amount), 0) INTO unresolved FROM ledger_entry WHERE account_id = p_account AND reference = p_reference;
        IF p_amount > unresolved THEN o_status := 'EXCESSIVE'; RETURN; END IF;

        IF p_kind = 'REDEEM' THEN                       -- capture: the points left their lots when they were reserved
            d_reserved := -p_amount;
            a.lifetime_spent := a.lifetime_spent + p_amount;
            a.active_on := greatest(a.active_on, p_today);

        ELSIF p_kind = 'RESTORE' THEN                   -- back to the lots they came from, latest-expiring first
            d_available := p_amount;
            IF e.kind = 'RESERVE' THEN d_reserved := -p_amount; ELSE a.lifetime_spent := a.lifetime_spent - p_amount; END IF;
            owed := greatest(0, -a.available);
            root := coalesce(e.reference, e.sequence);
            -- In the order in which the spend's points come back, those of the first so many have: to lots, or for a debt.
            SELECT coalesce(sum(amount), 0) INTO undone FROM ledger_entry r
            WHERE r.account_id = p_account AND r.kind = 'RESTORE' AND r.reference = ANY(root || ARRAY(
                SELECT c.sequence FROM ledger_entry c WHERE c.account_id = p_account AND c.reference = root AND c.kind = 'REDEEM'));
            WITH taken AS (
                SELECT lot_sequence, expires_on, amount,
                    (sum(amount) OVER (ORDER BY expires_on DESC, lot_sequence DESC))::bigint - undone AS upto
                FROM allocation WHERE account_id = p_account AND sequence = root
            ), back AS (
                SELECT lot_sequence, expires_on, greatest(upto - amount, 0) AS before,
                    least(upto, p_amount) - greatest(upto - amount, 0) AS amount, expires_on < p_today AS dead
                FROM taken WHERE upto > 0 AND upto - amount < p_amount
            ), kept AS (
                -- What is dead pays no debt; of what lives the end pays, which expires soonest.
                SELECT lot_sequence, expires_on, CASE WHEN dead THEN amount
                    ELSE least(amount, (sum(amount) FILTER (WHERE NOT dead) OVER ())::bigint - owed - before) END AS amount
                FROM back
            ), given AS (
                UPDATE lot SET remaining = lot.remaining + k.amount, open = true FROM kept k
                WHERE k.amount > 0 AND lot.account_id = p_account
                  AND lot.expires_on = k.expires_on AND lot.sequence = k.lot_sequence
                RETURNING lot.sequence, lot.expires_on, k.amount
            ), noted AS (
                INSERT INTO allocation SELECT p_account, a.sequence + 1, sequence, expires_on, -amount FROM given
            ) SELECT coalesce(sum(amount), 0)::bigint AS amount, min(expires_on) AS first_expiry,
                least(owed, (SELECT coalesce(sum(amount), 0) FROM back WHERE NOT dead))::bigint AS paid INTO got FROM given;
            IF got.amount + got.paid <> p_amount THEN
                RAISE EXCEPTION 'account %: entry % cannot be given back', p_account, p_reference USING ERRCODE = 'LP500';
            END IF;
            a.next_due := least(a.next_due, got.first_expiry + 1);

        ELSE                                            -- clawback: lots, then debt down to the limit, the rest is written off
            got := ledger_take(p_account, a.sequence + 1, p_amount, p_reference, true);
            o_debt := least(p_amount - got.o_available - got.o_pending, greatest(0, p_debt_limit - greatest(0, -a.available)));
            d_available := -got.o_available - o_debt;
            d_pending := -got.o_pending;
            o_taken := got.o_available + got.o_pending + o_debt;
            a.lifetime_earned := a.lifetime_earned - o_taken;
        END IF;
    ELSE
        RAISE EXCEPTION 'unknown kind of ledger operation: %', p_kind;
    END IF;

    a.sequence := a.sequence + 1;
    a.available := a.available + d_available; a.pending := a.pending + d_pending; a.reserved := a.reserved + d_reserved;
    IF p_inactive_months IS NOT NULL AND a.available > 0 THEN
        a.next_due := least(a.next_due, (greatest(a.active_on, p_inactive_since) + make_interval(months => p_inactive_months))::date + 1);
    END IF;
    o_sequence := a.sequence; o_available := a.available; o_pending := a.pending; o_reserved := a.reserved;
    INSERT INTO ledger_entry VALUES (p_account, a.sequence, p_kind, p_amount, d_available, d_pending, d_reserved,
        a.available, a.pending, a.reserved, p_reference,
        CASE WHEN p_kind IN ('EARN', 'ADJUST') THEN p_matures_on END, CASE WHEN p_kind IN ('EARN', 'ADJUST') THEN p_expires_on END,
        p_key, p_request_hash, p_source, p_source_id, p_reason, p_occurred_at, p_recorded_at);
    -- What would have expired meanwhile comes back expired.
    IF p_kind = 'RESTORE' AND a.next_due <= p_today THEN
        a := ledger_settle(a, p_today, p_zone, p_inactive_months, p_inactive_since, p_recorded_at, p_recorded_at);
    END IF;
    UPDATE account SET available = a.available, pending = a.pending, reserved = a.reserved, sequence = a.sequence,
        next_due = a.next_due, active_on = a.active_on, lifetime_earned = a.lifetime_earned,
        lifetime_spent = a.lifetime_spent, lifetime_expired = a.lifetime_expired
    WHERE id = p_account;
END $$;
"""

# Keys that could do everything still can.
SCOPES = """
UPDATE api_key SET scopes = scopes || ARRAY['catalog:read', 'catalog:write', 'redemptions:read', 'redemptions:write']
WHERE scopes @> ARRAY['program:read', 'program:write', 'members:read', 'members:write', 'rules:read', 'rules:write',
    'events:write', 'ledger:adjust', 'keys:admin'];
"""

FORWARD = CATALOG + REDEMPTIONS + PAYMENTS + APPLY + SCOPES

BACKWARD = """
DROP FUNCTION ledger_apply_2;
ALTER TABLE refund DROP COLUMN restored_points;
ALTER TABLE event DROP COLUMN redemption_id, DROP COLUMN points_amount;
ALTER TABLE program DROP COLUMN earn_on_points_payments;
DROP TABLE message, redemption, reward_code, reward_stock, reward
"""


class Migration(Base):
    dependencies = [("app", "0005_every_rule")]  # noqa: RUF012
    operations = [RunSQL(FORWARD, BACKWARD)]  # noqa: RUF012

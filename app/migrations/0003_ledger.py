"""The ledger: accounts, entries, lots, allocations, and the one function that moves points.

Mechanics live here, in SQL, because one round trip that locks the account first is both the
fastest and the safest form; policy (how many points, when they expire) is handed in from Python.
`app/ledger/service.py` is the only caller. A later version of a function gets a new name.
"""

from tortoise.migrations.migration import Migration as Base
from tortoise.migrations.operations import RunSQL

TABLES = """
CREATE TABLE account (
    id               uuid PRIMARY KEY,
    program_id       uuid NOT NULL,
    member_id        uuid NOT NULL,
    kind             text NOT NULL DEFAULT 'points',
    available        bigint NOT NULL DEFAULT 0,
    pending          bigint NOT NULL DEFAULT 0 CHECK (pending >= 0),
    reserved         bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    sequence         bigint NOT NULL DEFAULT 0 CHECK (sequence >= 0),
    next_due         date NOT NULL DEFAULT 'infinity',
    active_on        date NOT NULL,
    lifetime_earned  bigint NOT NULL DEFAULT 0,
    lifetime_spent   bigint NOT NULL DEFAULT 0,
    lifetime_expired bigint NOT NULL DEFAULT 0,
    CONSTRAINT account_member_key UNIQUE (member_id, kind),
    CONSTRAINT account_lifetime
        CHECK (lifetime_earned - lifetime_spent - lifetime_expired = available + pending + reserved)
) WITH (fillfactor = 70);
COMMENT ON TABLE account IS 'One member''s points of one kind: the lock and the projection. Below zero, available is a debt.';
COMMENT ON COLUMN account.next_due IS 'No lot matures or expires before this day; it may be early, never late.';
COMMENT ON COLUMN account.active_on IS 'The last day with an earn or a spend, from which inactivity counts.';
CREATE INDEX account_due ON account (program_id, next_due);

CREATE TABLE ledger_entry (
    account_id       uuid NOT NULL,
    sequence         bigint NOT NULL CHECK (sequence > 0),
    kind             text NOT NULL CHECK (kind IN ('EARN', 'RELEASE', 'ADJUST', 'RESERVE', 'REDEEM', 'RESTORE', 'CLAWBACK', 'EXPIRE')),
    amount           bigint NOT NULL CHECK (amount <> 0),
    available_change bigint NOT NULL,
    pending_change   bigint NOT NULL,
    reserved_change  bigint NOT NULL,
    available_after  bigint NOT NULL,
    pending_after    bigint NOT NULL CHECK (pending_after >= 0),
    reserved_after   bigint NOT NULL CHECK (reserved_after >= 0),
    reference        bigint,
    matures_on       date,
    expires_on       date,
    key              uuid,
    request_hash     bigint,
    source           text,
    source_id        uuid,
    reason           text,
    occurred_at      timestamptz NOT NULL,
    recorded_at      timestamptz NOT NULL,
    PRIMARY KEY (account_id, sequence),
    CONSTRAINT ledger_entry_key UNIQUE (account_id, key),
    CONSTRAINT ledger_entry_key_kind CHECK ((key IS NULL) = (kind IN ('RELEASE', 'EXPIRE'))),
    -- Whatever refers to an entry counts as undoing some of it.
    CONSTRAINT ledger_entry_reference_kind CHECK (CASE WHEN kind IN ('RESTORE', 'CLAWBACK') THEN reference IS NOT NULL
        ELSE reference IS NULL OR kind = 'REDEEM' END)
);
COMMENT ON TABLE ledger_entry IS 'One movement, written once and never changed.';
COMMENT ON COLUMN ledger_entry.amount IS 'What was asked for; a clawback may have got less: see the changes.';
COMMENT ON COLUMN ledger_entry.reference IS 'The entry that this one captures, gives back or takes back.';
CREATE INDEX ledger_entry_reference ON ledger_entry (account_id, reference) WHERE reference IS NOT NULL;

CREATE TABLE lot (
    account_id uuid NOT NULL,
    expires_on date NOT NULL,
    sequence   bigint NOT NULL,
    matures_on date NOT NULL,
    original   bigint NOT NULL CHECK (original > 0),
    remaining  bigint NOT NULL,
    pending    boolean NOT NULL,
    open       boolean NOT NULL,
    PRIMARY KEY (account_id, expires_on, sequence),
    CONSTRAINT lot_remaining CHECK (remaining BETWEEN 0 AND original),
    CONSTRAINT lot_open CHECK (open = (remaining > 0)),
    CONSTRAINT lot_dates CHECK (expires_on >= matures_on)
) WITH (fillfactor = 80);
COMMENT ON TABLE lot IS 'What one earn left to spend. The last day of use is expires_on; infinity never comes.';

CREATE TABLE allocation (
    account_id   uuid NOT NULL,
    sequence     bigint NOT NULL,
    lot_sequence bigint NOT NULL,
    expires_on   date NOT NULL,
    amount       bigint NOT NULL CHECK (amount <> 0),
    PRIMARY KEY (account_id, sequence, lot_sequence)
);
COMMENT ON TABLE allocation IS 'How much an entry took from a lot; negative where it gave back.';
"""

# Own lot first (for a clawback), then soonest-expiring first, then what is still pending.
TAKE = """
CREATE FUNCTION ledger_take(p_account uuid, p_sequence bigint, p_amount bigint, p_own bigint, p_pending boolean,
    OUT o_available bigint, OUT o_pending bigint) LANGUAGE sql AS $$
    WITH candidate AS (
        SELECT expires_on, sequence, remaining, pending,
            (sum(remaining) OVER (ORDER BY sequence IS DISTINCT FROM p_own, pending,
                CASE WHEN pending THEN matures_on ELSE expires_on END, sequence))::bigint - remaining AS before
        FROM lot WHERE account_id = p_account AND open AND (p_pending OR NOT pending)
    ), taken AS (
        UPDATE lot SET remaining = lot.remaining - least(c.remaining, p_amount - c.before),
                       open = lot.remaining > least(c.remaining, p_amount - c.before)
        FROM candidate c
        WHERE c.before < p_amount AND lot.account_id = p_account
          AND lot.expires_on = c.expires_on AND lot.sequence = c.sequence
        RETURNING lot.sequence, lot.expires_on, lot.pending, least(c.remaining, p_amount - c.before) AS amount
    ), noted AS (
        INSERT INTO allocation SELECT p_account, p_sequence, sequence, expires_on, amount FROM taken
    )
    SELECT coalesce(sum(amount) FILTER (WHERE NOT pending), 0)::bigint, coalesce(sum(amount) FILTER (WHERE pending), 0)::bigint
    FROM taken
$$;
"""

# Day by day, in order, so that late books read like punctual ones.
SETTLE = """
CREATE FUNCTION ledger_settle(a account, p_today date, p_zone text, p_inactive_months integer, p_inactive_since date,
    p_recorded_at timestamptz, p_not_before timestamptz) RETURNS account LANGUAGE plpgsql AS $$
DECLARE
    lot_day date; idle_day date; due date; moved bigint; owed bigint; instant timestamptz;
BEGIN
    LOOP
        SELECT min(CASE WHEN pending THEN matures_on ELSE expires_on + 1 END) INTO lot_day
        FROM lot WHERE account_id = a.id AND open;
        idle_day := CASE WHEN p_inactive_months IS NOT NULL AND a.available > 0 THEN
            (greatest(a.active_on, p_inactive_since) + make_interval(months => p_inactive_months))::date + 1 END;
        due := least(lot_day, idle_day);
        a.next_due := coalesce(due, 'infinity');
        EXIT WHEN due IS NULL OR due > p_today;
        instant := due::timestamp AT TIME ZONE p_zone;
        -- Where clocks are put back over midnight there are two of them: the day begins with the first.
        IF (instant - interval '1 hour') AT TIME ZONE p_zone = due::timestamp THEN instant := instant - interval '1 hour'; END IF;
        instant := greatest(instant, p_not_before);

        WITH released AS (
            -- On a day with both, what fell idle is gone before anything new arrives.
            UPDATE lot SET pending = false
            WHERE account_id = a.id AND open AND pending AND matures_on <= due AND idle_day IS DISTINCT FROM due
            RETURNING remaining
        ) SELECT coalesce(sum(remaining), 0) INTO moved FROM released;
        IF moved > 0 THEN
            owed := least(moved, greatest(0, -a.available));
            a.sequence := a.sequence + 1;
            a.pending := a.pending - moved;
            a.available := a.available + moved;
            -- Points that waited longer than an idle account lives have not lived yet: it begins here.
            IF p_inactive_months IS NOT NULL AND
                    (greatest(a.active_on, p_inactive_since) + make_interval(months => p_inactive_months))::date < due THEN
                a.active_on := due;
            END IF;
            IF owed > 0 THEN PERFORM ledger_take(a.id, a.sequence, owed, NULL, false); END IF;
            INSERT INTO ledger_entry (account_id, sequence, kind, amount, available_change, pending_change, reserved_change,
                available_after, pending_after, reserved_after, occurred_at, recorded_at)
            VALUES (a.id, a.sequence, 'RELEASE', moved, moved, -moved, 0, a.available, a.pending, a.reserved, instant, p_recorded_at);
            CONTINUE;
        END IF;

        WITH dead AS (
            SELECT l.expires_on, l.sequence, l.remaining FROM lot l
            WHERE l.account_id = a.id AND l.open AND NOT l.pending AND (l.expires_on < due OR due = idle_day)
        ), closed AS (
            UPDATE lot SET remaining = 0, open = false FROM dead d
            WHERE lot.account_id = a.id AND lot.expires_on = d.expires_on AND lot.sequence = d.sequence
            RETURNING lot.sequence, lot.expires_on, d.remaining
        ), noted AS (
            INSERT INTO allocation SELECT a.id, a.sequence + 1, sequence, expires_on, remaining FROM closed
        ) SELECT coalesce(sum(remaining), 0) INTO moved FROM closed;
        IF moved = 0 THEN
            RAISE EXCEPTION 'account %: nothing is due on %', a.id, due USING ERRCODE = 'LP500';
        END IF;
        a.sequence := a.sequence + 1;
        a.available := a.available - moved;
        a.lifetime_expired := a.lifetime_expired + moved;
        INSERT INTO ledger_entry (account_id, sequence, kind, amount, available_change, pending_change, reserved_change,
            available_after, pending_after, reserved_after, occurred_at, recorded_at)
        VALUES (a.id, a.sequence, 'EXPIRE', moved, -moved, 0, 0, a.available, a.pending, a.reserved, instant, p_recorded_at);
    END LOOP;
    RETURN a;
END $$;
"""

APPLY = """
CREATE FUNCTION ledger_apply(
    p_account uuid, p_kind text, p_amount bigint, p_reference bigint, p_matures_on date, p_expires_on date,
    p_key uuid, p_request_hash bigint, p_occurred_at timestamptz, p_source text, p_source_id uuid, p_reason text,
    p_recorded_at timestamptz, p_today date, p_zone text, p_inactive_months integer, p_inactive_since date, p_debt_limit bigint,
    OUT o_status text, OUT o_sequence bigint, OUT o_available bigint, OUT o_pending bigint, OUT o_reserved bigint,
    OUT o_taken bigint, OUT o_debt bigint
) LANGUAGE plpgsql AS $$
DECLARE
    a account%ROWTYPE; e ledger_entry%ROWTYPE;
    d_available bigint := 0; d_pending bigint := 0; d_reserved bigint := 0;
    owed bigint; unresolved bigint; root bigint; got record; first_expiry date;
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
            owed := least(p_amount, greatest(0, -a.available));
            root := coalesce(e.reference, e.sequence);
            WITH taken AS (
                SELECT lot_sequence, expires_on, sum(amount) AS amount FROM allocation
                WHERE account_id = p_account AND (sequence = root OR sequence IN (
                    SELECT r.sequence FROM ledger_entry r WHERE r.account_id = p_account AND (r.reference = root OR r.reference IN (
                        SELECT c.sequence FROM ledger_entry c WHERE c.account_id = p_account AND c.reference = root AND c.kind = 'REDEEM'))))
                GROUP BY 1, 2 HAVING sum(amount) > 0
            ), ordered AS (
                SELECT *, (sum(amount) OVER (ORDER BY expires_on DESC, lot_sequence DESC))::bigint - amount AS before FROM taken
            ), given AS (
                UPDATE lot SET remaining = lot.remaining + least(o.amount, p_amount - owed - o.before), open = true
                FROM ordered o
                WHERE o.before < p_amount - owed AND lot.account_id = p_account
                  AND lot.expires_on = o.expires_on AND lot.sequence = o.lot_sequence
                RETURNING lot.sequence, lot.expires_on, least(o.amount, p_amount - owed - o.before) AS amount
            ), noted AS (
                INSERT INTO allocation SELECT p_account, a.sequence + 1, sequence, expires_on, -amount FROM given
            ) SELECT coalesce(sum(amount), 0)::bigint AS amount, min(expires_on) AS first_expiry INTO got FROM given;
            IF got.amount <> p_amount - owed THEN
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

BACKWARD = """
DROP FUNCTION ledger_apply, ledger_settle, ledger_take;
DROP TABLE allocation, lot, ledger_entry, account
"""


class Migration(Base):
    dependencies = [("app", "0002_members")]  # noqa: RUF012
    operations = [RunSQL(TABLES + TAKE + SETTLE + APPLY, BACKWARD)]  # noqa: RUF012

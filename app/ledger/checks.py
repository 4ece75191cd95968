"""What can be computed twice: one statement for each check of the books."""

# Each check lists what disagrees, as (account, what is kept, what it comes to). `a` is the accounts looked at:
# those of the program $1, or all where it is null. What has lost its account or its event shows in no join with
# them, and is looked for by itself: in a program by whatever else ties it to one.
CHECKS = {
    "the balance is the sum of its entries": """ /* scoped by: account */
        SELECT a.id, format('%s available, %s pending, %s reserved', a.available, a.pending, a.reserved),
            format('entries come to %s, %s, %s', coalesce(e.available, 0), coalesce(e.pending, 0), coalesce(e.reserved, 0))
        FROM a LEFT JOIN (SELECT account_id, sum(available_change) AS available, sum(pending_change) AS pending,
            sum(reserved_change) AS reserved FROM ledger_entry GROUP BY 1) e ON e.account_id = a.id
        WHERE (a.available, a.pending, a.reserved)
            IS DISTINCT FROM (coalesce(e.available, 0), coalesce(e.pending, 0), coalesce(e.reserved, 0))""",
    "entries are numbered 1, 2, 3 without a gap": """ /* scoped by: account */
        SELECT a.id, format('sequence %s', a.sequence), format('%s entries up to %s', coalesce(e.n, 0), coalesce(e.last, 0))
        FROM a LEFT JOIN (SELECT account_id, count(*) AS n, max(sequence) AS last, min(sequence) AS first
            FROM ledger_entry GROUP BY 1) e ON e.account_id = a.id
        WHERE a.sequence <> coalesce(e.n, 0) OR a.sequence <> coalesce(e.last, 0) OR coalesce(e.first, 1) <> 1""",
    "each entry's sums follow from those before it": """ /* scoped by: account */
        SELECT account_id, format('entry %s: %s, %s, %s', sequence, available_after, pending_after, reserved_after),
            format('running sums are %s, %s, %s', available, pending, reserved)
        FROM (SELECT e.*, sum(available_change) OVER w AS available, sum(pending_change) OVER w AS pending,
                sum(reserved_change) OVER w AS reserved
            FROM ledger_entry e JOIN a ON a.id = e.account_id WINDOW w AS (PARTITION BY e.account_id ORDER BY e.sequence)) s
        WHERE (available_after, pending_after, reserved_after) IS DISTINCT FROM (available, pending, reserved)""",
    "each entry changed what it says": """ /* scoped by: account */
        SELECT e.account_id, format('entry %s: %s of %s, for entry %s', e.sequence, e.kind, e.amount, coalesce(e.reference::text, 'none')),
            format('changes are %s, %s, %s', e.available_change, e.pending_change, e.reserved_change)
        FROM ledger_entry e JOIN a ON a.id = e.account_id
        LEFT JOIN ledger_entry r ON r.account_id = e.account_id AND r.sequence = e.reference AND r.sequence < e.sequence
        WHERE (CASE
            WHEN e.kind IN ('EARN', 'ADJUST') THEN e.reference IS NULL AND e.reserved_change = 0
                AND (e.amount IN (e.available_change, e.pending_change)) AND 0 IN (e.available_change, e.pending_change)
            WHEN e.kind = 'RELEASE' THEN (e.available_change, e.pending_change, e.reserved_change) = (e.amount, -e.amount, 0)
            WHEN e.kind = 'RESERVE' THEN (e.available_change, e.pending_change, e.reserved_change) = (-e.amount, 0, e.amount)
            WHEN e.kind = 'EXPIRE' OR (e.kind = 'REDEEM' AND e.reference IS NULL)
                THEN (e.available_change, e.pending_change, e.reserved_change) = (-e.amount, 0, 0)
            WHEN e.kind = 'REDEEM' THEN r.kind = 'RESERVE' AND (e.available_change, e.pending_change, e.reserved_change) = (0, 0, -e.amount)
            WHEN e.kind = 'RESTORE' THEN r.kind IN ('RESERVE', 'REDEEM') AND (e.available_change, e.pending_change, e.reserved_change)
                = (e.amount, 0, CASE WHEN r.kind = 'RESERVE' THEN -e.amount ELSE 0 END)
            WHEN e.kind = 'CLAWBACK' THEN r.kind = 'EARN' AND greatest(e.available_change, e.pending_change) <= 0
                AND e.reserved_change = 0 AND e.amount + e.available_change + e.pending_change >= 0
            END) IS NOT TRUE OR (e.reference IS NOT NULL AND e.kind NOT IN ('REDEEM', 'RESTORE', 'CLAWBACK'))""",
    "lots hold what is available and pending": """ /* scoped by: account */
        SELECT a.id, format('%s available, %s pending', a.available, a.pending),
            format('lots hold %s and %s', coalesce(l.available, 0), coalesce(l.pending, 0))
        FROM a LEFT JOIN (SELECT account_id, sum(remaining) FILTER (WHERE NOT pending) AS available,
            sum(remaining) FILTER (WHERE pending) AS pending FROM lot GROUP BY 1) l ON l.account_id = a.id
        WHERE greatest(a.available, 0) <> coalesce(l.available, 0) OR a.pending <> coalesce(l.pending, 0)""",
    "a lot has left what entries have not taken": """ /* scoped by: account */
        SELECT l.account_id, format('lot %s has %s left of %s', l.sequence, l.remaining, l.original),
            format('%s were taken', coalesce(x.taken, 0))
        FROM lot l JOIN a ON a.id = l.account_id LEFT JOIN (SELECT account_id, lot_sequence, expires_on, sum(amount) AS taken
            FROM allocation GROUP BY 1, 2, 3) x
            ON (x.account_id, x.lot_sequence, x.expires_on) = (l.account_id, l.sequence, l.expires_on)
        WHERE l.remaining <> l.original - coalesce(x.taken, 0)""",
    "every earn has its lot, and every lot its earn": """ /* scoped by: account */
        SELECT coalesce(e.account_id, l.account_id), format('entry %s of %s', e.sequence, e.amount),
            format('lot %s of %s', l.sequence, l.original)
        FROM (SELECT e.* FROM ledger_entry e JOIN a ON a.id = e.account_id
            WHERE e.kind = 'EARN' OR (e.kind = 'ADJUST' AND e.amount > 0)) e
        FULL JOIN (SELECT l.* FROM lot l JOIN a ON a.id = l.account_id) l
            ON (l.account_id, l.sequence, l.expires_on) = (e.account_id, e.sequence, e.expires_on)
        WHERE e.amount IS DISTINCT FROM l.original OR (l.pending AND l.matures_on <> e.matures_on)""",
    "allocations belong to an entry and a lot": """ /* scoped by: account */
        SELECT x.account_id, format('allocation of %s by entry %s from lot %s', x.amount, x.sequence, x.lot_sequence), 'one of them is missing'
        FROM allocation x JOIN a ON a.id = x.account_id
        WHERE NOT EXISTS (SELECT FROM ledger_entry e WHERE (e.account_id, e.sequence) = (x.account_id, x.sequence))
           OR NOT EXISTS (SELECT FROM lot l WHERE (l.account_id, l.sequence, l.expires_on) = (x.account_id, x.lot_sequence, x.expires_on))""",
    "what an entry took from lots is what it changed": """ /* scoped by: account */
        SELECT e.account_id, format('entry %s (%s) changed %s available, %s pending', e.sequence, e.kind, e.available_change, e.pending_change),
            format('allocations come to %s', coalesce(x.taken, 0))
        FROM ledger_entry e JOIN a ON a.id = e.account_id LEFT JOIN (SELECT account_id, sequence, sum(amount) AS taken
            FROM allocation GROUP BY 1, 2) x ON (x.account_id, x.sequence) = (e.account_id, e.sequence)
        WHERE coalesce(x.taken, 0) <> CASE
            WHEN e.kind IN ('RESERVE', 'EXPIRE') OR (e.kind = 'REDEEM' AND e.reference IS NULL) OR (e.kind = 'ADJUST' AND e.amount < 0)
                THEN -e.available_change
            WHEN e.kind = 'REDEEM' THEN 0
            WHEN e.kind = 'CLAWBACK' THEN greatest(e.available_after - e.available_change, 0) - greatest(e.available_after, 0) - e.pending_change
            -- What comes back expired pays no debt: it goes to its lots, and the entries that expire it follow.
            WHEN e.kind = 'RESTORE' AND e.available_after < e.available_change THEN (SELECT -x.dead - greatest(e.available_after - x.dead, 0)
                FROM (SELECT coalesce(-sum(g.amount), 0) AS dead FROM allocation g
                    WHERE (g.account_id, g.sequence) = (e.account_id, e.sequence) AND EXISTS (
                        SELECT FROM ledger_entry x JOIN allocation y ON (y.account_id, y.sequence) = (x.account_id, x.sequence)
                        WHERE x.account_id = e.account_id AND x.sequence > e.sequence AND x.kind = 'EXPIRE'
                            AND x.recorded_at = e.recorded_at AND y.lot_sequence = g.lot_sequence)) x)
            WHEN e.kind = 'RESTORE' THEN -e.available_change
            WHEN e.available_change > 0 THEN e.available_change - (greatest(e.available_after, 0) - greatest(e.available_after - e.available_change, 0))
            ELSE 0 END""",
    "no more is undone than was done": """ /* scoped by: account */
        SELECT e.account_id, format('entry %s of %s', e.sequence, e.amount), format('%s captured, given back or taken back', sum(r.amount))
        FROM ledger_entry e JOIN a ON a.id = e.account_id
        JOIN ledger_entry r ON r.account_id = e.account_id AND r.reference = e.sequence
        GROUP BY e.account_id, e.sequence, e.amount HAVING sum(r.amount) > e.amount""",
    "lifetime sums follow from the entries": """ /* scoped by: account */
        SELECT a.id, format('%s earned, %s spent, %s expired', a.lifetime_earned, a.lifetime_spent, a.lifetime_expired),
            format('entries come to %s, %s, %s', coalesce(e.earned, 0), coalesce(e.spent, 0), coalesce(e.expired, 0))
        FROM a LEFT JOIN (
            SELECT e.account_id,
                sum(e.available_change + e.pending_change) FILTER (WHERE e.kind IN ('EARN', 'ADJUST', 'CLAWBACK')) AS earned,
                coalesce(sum(e.amount) FILTER (WHERE e.kind = 'REDEEM'), 0)
                    - coalesce(sum(e.amount) FILTER (WHERE e.kind = 'RESTORE' AND r.kind = 'REDEEM'), 0) AS spent,
                sum(e.amount) FILTER (WHERE e.kind = 'EXPIRE') AS expired
            FROM ledger_entry e LEFT JOIN ledger_entry r ON r.account_id = e.account_id AND r.sequence = e.reference
            GROUP BY 1) e ON e.account_id = a.id
        WHERE (a.lifetime_earned, a.lifetime_spent, a.lifetime_expired)
            IS DISTINCT FROM (coalesce(e.earned, 0), coalesce(e.spent, 0), coalesce(e.expired, 0))""",
    "no account is due later than its lots": """ /* scoped by: account */
        SELECT a.id, format('next due on %s', a.next_due), format('a lot is due on %s', min(CASE WHEN l.pending THEN l.matures_on ELSE l.expires_on + 1 END))
        FROM a JOIN lot l ON l.account_id = a.id AND l.open GROUP BY a.id, a.next_due
        HAVING min(CASE WHEN l.pending THEN l.matures_on ELSE l.expires_on + 1 END) < a.next_due""",
    "every award is one earn of the same points": """ /* scoped by: account */
        SELECT a.id, format('event %s earned %s by rule %s', w.event_id, w.points, w.rule_id), coalesce(format('entry %s has %s', e.sequence, e.amount), 'no entry')
        FROM award w JOIN event v ON v.id = w.event_id JOIN a ON a.id = v.member_id
        LEFT JOIN ledger_entry e ON e.account_id = v.member_id AND e.sequence = w.entry_sequence
        WHERE w.points > 0 AND (e.kind, e.amount, e.source_id) IS DISTINCT FROM ('EARN', w.points, w.event_id)""",
    "every earn from an event is an award": """ /* scoped by: account */
        SELECT e.account_id, format('entry %s has %s for event %s', e.sequence, e.amount, e.source_id), 'no award'
        FROM ledger_entry e JOIN a ON a.id = e.account_id
        WHERE e.kind = 'EARN' AND e.source = 'event'
          AND NOT EXISTS (SELECT FROM award w WHERE w.event_id = e.source_id AND w.entry_sequence = e.sequence)""",
    "an event's points are those of its awards": """ /* scoped by: account */
        SELECT a.id, format('event %s earned %s', v.id, o.points), format('its awards come to %s', coalesce(sum(w.points), 0))
        FROM event_outcome o JOIN event v ON v.id = o.event_id JOIN a ON a.id = v.member_id LEFT JOIN award w ON w.event_id = o.event_id
        GROUP BY a.id, v.id, o.points HAVING o.points <> coalesce(sum(w.points), 0)""",
    "every event either waits or has an outcome": """ /* scoped by: account */
        SELECT a.id, format('event %s', v.id), CASE WHEN q.event_id IS NULL THEN 'neither' ELSE 'both' END
        FROM event v JOIN a ON a.id = v.member_id LEFT JOIN event_queue q ON q.event_id = v.id AND q.member_id = v.member_id AND q.occurred_at = v.occurred_at
        LEFT JOIN event_outcome o ON o.event_id = v.id
        WHERE (q.event_id IS NULL) = (o.event_id IS NULL)""",
    "whoever has events waiting stands in the outbox, or among what failed": """ /* scoped by: account */
        SELECT q.member_id, format('event %s waits', q.event_id), 'no work in the outbox names its member'
        FROM event_queue q JOIN a ON a.id = q.member_id
        WHERE NOT EXISTS (SELECT FROM outbox o WHERE o.queue = 'earning' AND q.member_id = ANY(o.members))
          AND NOT EXISTS (SELECT FROM failed_job f WHERE f.queue = 'earning' AND f.program_id = a.program_id AND f.subject = q.member_id)""",
    "every member has an account, and every account its member": """ /* scoped by: account */
        SELECT coalesce(a.id, m.id), coalesce('account of member ' || a.member_id, 'no account'), coalesce('member ' || m.id, 'no such member')
        FROM (SELECT a.* FROM a JOIN program p ON p.id = a.program_id) a
        FULL JOIN (SELECT id, program_id FROM member WHERE $1::uuid IS NULL OR program_id = $1) m
            ON (m.id, m.program_id) = (a.member_id, a.program_id)
        WHERE a.id IS NULL OR m.id IS NULL""",
    "whatever is kept of an account has that account": """ /* scoped by: account */
        SELECT x.account_id, format('%s %s', x.n, x.things), 'no account'
        FROM (SELECT account_id, 'entries' AS things, count(*) AS n FROM ledger_entry GROUP BY 1
            UNION ALL SELECT account_id, 'lots', count(*) FROM lot GROUP BY 1
            UNION ALL SELECT account_id, 'allocations', count(*) FROM allocation GROUP BY 1
            UNION ALL SELECT member_id, 'days counted', count(*) FROM earning_counter GROUP BY 1) x
        WHERE NOT EXISTS (SELECT FROM account k WHERE k.id = x.account_id)
          AND ($1::uuid IS NULL OR EXISTS (SELECT FROM member m WHERE m.id = x.account_id AND m.program_id = $1))""",
    "every event belongs to an account of its program": """ /* scoped by: account */
        SELECT v.member_id, format('event %s in program %s', v.id, v.program_id), coalesce('account in program ' || k.program_id, 'no account')
        FROM event v LEFT JOIN account k ON k.id = v.member_id
        WHERE k.program_id IS DISTINCT FROM v.program_id AND ($1::uuid IS NULL OR $1 IN (v.program_id, k.program_id))""",
    "every outcome, award, refund and place in the queue has its event": """ /* scoped by: event */
        SELECT coalesce(x.member_id, e.account_id, x.event_id), format('%s of event %s', x.thing, x.event_id), 'no event'
        FROM (SELECT event_id, 'outcome' AS thing, NULL::uuid AS member_id, NULL::uuid AS rule_id FROM event_outcome
            UNION ALL SELECT event_id, 'award', NULL, rule_id FROM award
            UNION ALL SELECT event_id, 'refund', NULL, NULL FROM refund
            UNION ALL SELECT event_id, 'place in the queue', member_id, NULL FROM event_queue) x
        LEFT JOIN (SELECT DISTINCT source_id, account_id FROM ledger_entry WHERE source = 'event') e ON e.source_id = x.event_id
        LEFT JOIN account k ON k.id = coalesce(x.member_id, e.account_id)
        LEFT JOIN earning_rule r ON r.id = x.rule_id
        WHERE NOT EXISTS (SELECT FROM event v WHERE v.id = x.event_id) AND ($1::uuid IS NULL OR $1 IN (k.program_id, r.program_id))""",
    "every earn from an event tells of that event": """ /* scoped by: account */
        SELECT e.account_id, format('entry %s for event %s at %s', e.sequence, e.source_id, e.occurred_at),
            coalesce(format('event of member %s at %s', v.member_id, v.occurred_at), 'no event')
        FROM ledger_entry e JOIN a ON a.id = e.account_id LEFT JOIN event v ON v.id = e.source_id
        WHERE e.kind = 'EARN' AND e.source = 'event'
          AND (v.member_id, v.occurred_at) IS DISTINCT FROM (e.account_id, e.occurred_at)""",
    "a purchase's amount is the sum of its lines": """ /* scoped by: account */
        SELECT a.id, format('event %s has %s', v.id, v.amount), format('its lines come to %s', l.amount)
        FROM event v JOIN a ON a.id = v.member_id,
            LATERAL (SELECT sum((line #>> '{}')::numeric) AS amount FROM jsonb_path_query(v.body, '$.lines[*].amount') AS line) l
        WHERE v.kind = 'PURCHASE' AND l.amount IS NOT NULL AND v.amount IS DISTINCT FROM l.amount""",
    "an award is what its receipt says": """ /* scoped by: account */
        SELECT a.id, format('event %s: %s of %s desired by rule %s', w.event_id, w.points, w.desired, w.rule_id),
            format('the receipt begins with %s and comes to %s of %s%s', r.first, r.points, r.desired, CASE WHEN r.broken THEN ', with a gap' END)
        FROM award w JOIN event v ON v.id = w.event_id JOIN a ON a.id = v.member_id,
            LATERAL (SELECT (w.steps->0->>'before')::numeric AS first, (w.steps->-1->>'after')::numeric AS points,
                coalesce(jsonb_path_query_first(w.steps, '$[*] ? (@.kind like_regex "(_LIMIT|^BUDGET)$")')->>'before',
                    w.steps->-1->>'after')::numeric AS desired,
                EXISTS (SELECT FROM generate_series(1, jsonb_array_length(w.steps) - 1) AS n
                    WHERE (w.steps->n->>'before')::numeric IS DISTINCT FROM (w.steps->(n - 1)->>'after')::numeric) AS broken) r
        WHERE (r.first, r.points, r.desired, r.broken) IS DISTINCT FROM (0, w.points, w.desired, false)""",
    "an award tells the days of its earn": """ /* scoped by: account */
        SELECT account_id, format('event %s: from %s until %s', event_id, available_at, coalesce(expires_at::text, 'ever')),
            format('entry %s: from %s until %s', sequence, starts, coalesce(ends::text, 'ever'))
        FROM (SELECT e.account_id, w.event_id, e.sequence, w.available_at, w.expires_at,
                CASE WHEN e.matures_on <= (e.recorded_at AT TIME ZONE p.timezone)::date THEN e.recorded_at
                    -- Where clocks are put back over midnight there are two of them: the day begins with the first.
                    WHEN (m.midnight - interval '1 hour') AT TIME ZONE p.timezone = e.matures_on::timestamp THEN m.midnight - interval '1 hour'
                    ELSE m.midnight END AS starts,
                CASE WHEN e.expires_on = 'infinity' THEN NULL
                    WHEN (m.next - interval '1 hour') AT TIME ZONE p.timezone = (e.expires_on + 1)::timestamp THEN m.next - interval '3601 seconds'
                    ELSE m.next - interval '1 second' END AS ends
            FROM award w JOIN event v ON v.id = w.event_id JOIN a ON a.id = v.member_id JOIN program p ON p.id = a.program_id
            JOIN ledger_entry e ON (e.account_id, e.sequence) = (v.member_id, w.entry_sequence),
                LATERAL (SELECT e.matures_on::timestamp AT TIME ZONE p.timezone AS midnight,
                    (e.expires_on + 1)::timestamp AT TIME ZONE p.timezone AS next) m) d
        WHERE (available_at, expires_at) IS DISTINCT FROM (starts, ends)""",
    "a day's counter is the sum of its awards": """ /* scoped by: account */
        SELECT coalesce(s.id, c.id), format('%s points counted on %s', coalesce(c.points, 0), coalesce(s.day, c.day)),
            format('awards come to %s', coalesce(s.points, 0))
        FROM (SELECT a.id, coalesce(w.day, (v.occurred_at AT TIME ZONE p.timezone)::date) AS day,
                sum(w.remaining + coalesce(x.written_off, 0)) AS points
            FROM award w JOIN event v ON v.id = w.event_id JOIN a ON a.id = v.member_id JOIN program p ON p.id = a.program_id
            LEFT JOIN (SELECT event_id, rule_id, sum(written_off) AS written_off FROM refund_award GROUP BY 1, 2) x
                ON (x.event_id, x.rule_id) = (w.event_id, w.rule_id)
            GROUP BY 1, 2) s
        FULL JOIN (SELECT a.id, t.day, t.points FROM earning_counter t JOIN a ON (a.id, a.program_id) = (t.member_id, t.subject)) c
            ON (c.id, c.day) = (s.id, s.day)
        WHERE coalesce(s.points, 0) <> coalesce(c.points, 0)""",
    "an award has left what refunds have not taken": """ /* scoped by: account */
        SELECT a.id, format('event %s: %s of %s left by rule %s', w.event_id, w.remaining, w.points, w.rule_id),
            format('refunds took %s', coalesce(x.points, 0))
        FROM award w JOIN event v ON v.id = w.event_id JOIN a ON a.id = v.member_id
        LEFT JOIN (SELECT event_id, rule_id, sum(points) AS points FROM refund_award GROUP BY 1, 2) x
            ON (x.event_id, x.rule_id) = (w.event_id, w.rule_id)
        WHERE w.points - w.remaining <> coalesce(x.points, 0)""",
    "what refunds took is in the ledger": """ /* scoped by: account */
        SELECT coalesce(x.member_id, e.account_id), format('refund %s moved %s by entry %s', coalesce(x.refund_id, e.source_id), x.points, coalesce(x.reference, e.reference)),
            coalesce(format('entry %s of %s', e.sequence, e.amount), 'no entry')
        FROM (SELECT v.member_id, m.* FROM refund_award m JOIN event v ON v.id = m.event_id JOIN a ON a.id = v.member_id) x
        FULL JOIN (SELECT e.*, CASE e.kind WHEN 'EARN' THEN -e.amount ELSE e.amount END AS points,
                CASE e.kind WHEN 'EARN' THEN e.sequence ELSE e.reference END AS about
            FROM ledger_entry e JOIN a ON a.id = e.account_id WHERE e.source = 'refund') e
            ON (e.account_id, e.source_id, e.about) = (x.member_id, x.refund_id, x.reference)
        WHERE x.points IS DISTINCT FROM e.points""",
    "a refund tells what its entries took": """ /* scoped by: account */
        SELECT a.id, format('refund %s: %s points, %s of them owed, %s written off', r.id, r.points, r.debt, r.written_off),
            format('entries come to %s, %s, %s', coalesce(e.taken, 0), coalesce(e.owed, 0), coalesce(e.asked, 0) - coalesce(e.taken, 0))
        FROM refund r JOIN event v ON v.id = r.event_id JOIN a ON a.id = v.member_id LEFT JOIN (
            SELECT e.account_id, e.source_id, -sum(e.available_change + e.pending_change) AS taken,
                sum(CASE e.kind WHEN 'EARN' THEN -e.amount ELSE e.amount END) AS asked,
                -- What a clawback took and no lot gave.
                sum(-(e.available_change + e.pending_change) - coalesce(x.amount, 0)) FILTER (WHERE e.kind = 'CLAWBACK') AS owed
            FROM ledger_entry e LEFT JOIN (SELECT account_id, sequence, sum(amount) AS amount FROM allocation GROUP BY 1, 2) x
                ON (x.account_id, x.sequence) = (e.account_id, e.sequence)
            WHERE e.source = 'refund' GROUP BY 1, 2) e ON (e.account_id, e.source_id) = (a.id, r.id)
        WHERE (r.points, r.debt, r.points + r.written_off) IS DISTINCT FROM (coalesce(e.taken, 0), coalesce(e.owed, 0), coalesce(e.asked, 0))""",
    "what a refund wrote off is told award by award": """ /* scoped by: account */
        SELECT a.id, format('refund %s wrote off %s', r.id, r.written_off), format('its awards come to %s', coalesce(x.written_off, 0))
        FROM refund r JOIN event v ON v.id = r.event_id JOIN a ON a.id = v.member_id
        LEFT JOIN (SELECT refund_id, sum(written_off) AS written_off FROM refund_award GROUP BY 1) x ON x.refund_id = r.id
        WHERE r.written_off <> coalesce(x.written_off, 0)""",
    "no more of a purchase is refunded than it came to": """ /* scoped by: account */
        SELECT a.id, format('event %s of %s', v.id, v.amount), format('%s refunded', sum(r.amount))
        FROM refund r JOIN event v ON v.id = r.event_id JOIN a ON a.id = v.member_id
        GROUP BY a.id, v.id, v.amount HAVING sum(r.amount) > v.amount OR (bool_or(r.whole) AND sum(r.amount) <> v.amount)""",
    "a rule's budget has spent what its awards have": """ /* scoped by: rule */
        SELECT r.id, coalesce(format('%s spent', b.spent), 'no budget is kept'), format('awards come to %s', coalesce(w.points, 0))
        FROM earning_rule r LEFT JOIN earning_budget b ON b.rule_id = r.id
        LEFT JOIN (SELECT rule_id, sum(points) AS points FROM (SELECT rule_id, remaining AS points FROM award
                UNION ALL SELECT rule_id, written_off FROM refund_award) x
            WHERE rule_id IN (SELECT rule_id FROM earning_budget) GROUP BY 1) w ON w.rule_id = r.id
        WHERE (b.spent <> coalesce(w.points, 0) OR (b.rule_id IS NULL AND r.definition->'limits'->'budget' IS NOT NULL))
          AND ($1::uuid IS NULL OR r.program_id = $1)""",
    "an account was last active when its entries say": """ /* scoped by: account */
        SELECT id, format('active on %s', active_on), format('opened or last moved on %s, with no later release on that day', moved)
        FROM (SELECT a.id, a.active_on, p.timezone, greatest((m.created_at AT TIME ZONE p.timezone)::date, e.day) AS moved
            FROM a JOIN program p ON p.id = a.program_id JOIN member m ON m.id = a.member_id
            LEFT JOIN (SELECT e.account_id, (max(e.recorded_at) AT TIME ZONE p.timezone)::date AS day
                FROM ledger_entry e JOIN a ON a.id = e.account_id JOIN program p ON p.id = a.program_id
                WHERE e.kind IN ('EARN', 'RESERVE', 'REDEEM') OR (e.kind = 'ADJUST' AND e.amount > 0)
                GROUP BY e.account_id, p.timezone) e ON e.account_id = a.id) x
        -- A release may have moved it too, to the day on which the points matured.
        WHERE active_on < moved OR (active_on > moved AND NOT EXISTS (SELECT FROM ledger_entry r
            WHERE r.account_id = x.id AND r.kind = 'RELEASE' AND (r.occurred_at AT TIME ZONE x.timezone)::date = x.active_on))""",
    "what is reserved is what open reservations hold": """ /* scoped by: account */
        SELECT a.id, format('%s reserved', a.reserved), format('open reservations hold %s', coalesce(e.open, 0))
        FROM a LEFT JOIN (
            SELECT e.account_id, sum(e.amount - coalesce(r.done, 0)) AS open
            FROM ledger_entry e LEFT JOIN (SELECT account_id, reference, sum(amount) AS done FROM ledger_entry
                WHERE reference IS NOT NULL GROUP BY 1, 2) r ON (r.account_id, r.reference) = (e.account_id, e.sequence)
            WHERE e.kind = 'RESERVE' GROUP BY 1) e ON e.account_id = a.id
        WHERE a.reserved <> coalesce(e.open, 0)""",
}

"""What can be computed twice of referrals: their credits, the events that paid them, and what was taken back."""

# As in `app.ledger.checks`: each lists what disagrees, as (account, what is kept, what it comes to); the account is
# the referrer's. What a worker has done half stands in the outbox, or among what failed.
_WAITS = """
    EXISTS (SELECT FROM outbox o WHERE o.queue = 'referrals' AND r.referred_id = ANY(o.members))
    OR EXISTS (SELECT FROM failed_job f
        WHERE f.queue = 'referrals' AND f.program_id = r.program_id AND f.subject = r.referred_id)
"""

REFERRAL_CHECKS = {
    "a referral is what its credits say": """ /* scoped by: account */
        SELECT a.id, format('referral %s: %s, credited %s', r.id, r.status, coalesce('at ' || r.credited_at, 'never')),
            format('%s credits hold, %s of them finished', coalesce(c.live, 0), coalesce(c.done, 0))
        FROM referral r JOIN a ON a.id = r.referrer_id
        LEFT JOIN (SELECT referral_id, count(*) AS live,
                count(*) FILTER (WHERE credited_at IS NOT NULL OR written_off > 0) AS done FROM referral_credit
            WHERE (taken_back_at IS NULL OR written_off > 0) AND rule_ids <> '{}' GROUP BY 1) c ON c.referral_id = r.id
        WHERE (r.status = 'CREDITED') <> (coalesce(c.done, 0) > 0) OR (r.status = 'REJECTED' AND c.live > 0)
           OR (r.status = 'CREDITED') <> (r.credited_at IS NOT NULL)""",
    "every referral is of two accounts of its program": """ /* scoped by: account */
        SELECT r.referrer_id, format('referral %s of %s in program %s', r.id, r.referred_id, r.program_id),
            format('accounts in programs %s and %s', coalesce(k.program_id::text, 'none'), coalesce(f.program_id::text, 'none'))
        FROM referral r LEFT JOIN account k ON k.id = r.referrer_id LEFT JOIN account f ON f.id = r.referred_id
        WHERE (k.program_id, f.program_id) IS DISTINCT FROM (r.program_id, r.program_id)
          AND ($1::uuid IS NULL OR $1 IN (r.program_id, k.program_id, f.program_id))""",
    "a credit is of its referral, and of a purchase of the friend": """ /* scoped by: account */
        SELECT c.referrer_id, format('%s %s of referral %s at %s', c.trigger, c.round, c.referral_id, c.occurred_at),
            coalesce(format('referral of %s and %s, purchase of %s at %s', r.referrer_id, r.referred_id, v.member_id,
                v.occurred_at), 'no referral')
        FROM referral_credit c LEFT JOIN referral r ON r.id = c.referral_id LEFT JOIN event v ON v.id = c.purchase_id
        WHERE ((c.program_id, c.referrer_id, c.referred_id) IS DISTINCT FROM (r.program_id, r.referrer_id, r.referred_id)
            OR CASE c.trigger WHEN 'REGISTRATION' THEN c.round <> 0 OR c.occurred_at <> r.created_at OR c.taken_back_at IS NOT NULL
                ELSE (v.kind, v.member_id, v.occurred_at) IS DISTINCT FROM ('PURCHASE', c.referred_id, c.occurred_at) END)
          AND ($1::uuid IS NULL OR $1 IN (c.program_id, r.program_id))""",
    "a credit has the events that pay it": """ /* scoped by: account */
        SELECT a.id, format('%s %s of referral %s: event %s pays the %s', c.trigger, c.round, c.referral_id, s.event_id, s.side),
            coalesce(format('event %s of member %s at %s', v.external_id, v.member_id, v.occurred_at), 'no event')
        FROM referral_credit c JOIN a ON a.id = c.referrer_id
        CROSS JOIN LATERAL (VALUES ('referrer', c.referrer_event_id, c.referrer_id),
            ('referred', c.referred_event_id, c.referred_id)) AS s(side, event_id, member_id)
        LEFT JOIN event v ON v.id = s.event_id
        WHERE s.event_id IS NOT NULL AND ((v.kind, v.member_id, v.occurred_at, v.external_id) IS DISTINCT FROM
                ('REFERRAL', s.member_id, c.occurred_at, format('laurel:referral:%s:%s:%s:%s',
                    replace(c.referral_id::text, '-', ''), lower(c.trigger), c.round, s.side))
            OR EXISTS (SELECT FROM award w WHERE w.event_id = v.id AND w.points > 0 AND w.rule_id <> ALL(c.rule_ids)))""",
    "every event of a referral is of a credit": """ /* scoped by: account */
        SELECT a.id, format('event %s', v.external_id), 'no credit'
        FROM event v JOIN a ON a.id = v.member_id
        LEFT JOIN (SELECT referrer_event_id AS event_id FROM referral_credit
            UNION ALL SELECT referred_event_id FROM referral_credit) c ON c.event_id = v.id
        WHERE v.kind = 'REFERRAL' AND c.event_id IS NULL""",
    "what was taken back of a referral has nothing left": """ /* scoped by: account */
        SELECT a.id, format('%s %s of referral %s, taken back at %s', c.trigger, c.round, c.referral_id, c.taken_back_at),
            format('its awards have %s left', sum(w.remaining))
        FROM referral_credit c JOIN a ON a.id = c.referrer_id
        JOIN award w ON w.event_id IN (c.referrer_event_id, c.referred_event_id)
        WHERE c.taken_back_at IS NOT NULL
        GROUP BY a.id, c.trigger, c.round, c.referral_id, c.taken_back_at HAVING sum(w.remaining) <> 0""",
    "a credit tells what could not be taken back": """ /* scoped by: account */
        SELECT a.id, format('%s %s of referral %s, %s written off', c.trigger, c.round, c.referral_id, c.written_off),
            format('refunds wrote off %s', coalesce(x.written_off, 0))
        FROM referral_credit c JOIN a ON a.id = c.referrer_id
        LEFT JOIN LATERAL (SELECT sum(m.written_off) AS written_off FROM refund_award m
            WHERE m.event_id IN (c.referrer_event_id, c.referred_event_id)) x ON true
        WHERE c.written_off <> CASE WHEN c.taken_back_at IS NULL THEN 0 ELSE coalesce(x.written_off, 0) END""",
    "whatever of a referral is half done waits for a worker": f""" /* scoped by: account */
        SELECT a.id, format('%s %s of referral %s: credited %s', c.trigger, c.round, c.referral_id,
                coalesce('at ' || c.credited_at, 'one side')),
            format('its awards have %s left of %s; its purchase %s refunded', coalesce(w.remaining, 0), coalesce(w.points, 0),
                CASE WHEN p.whole THEN 'is' ELSE 'is not' END)
        FROM referral_credit c JOIN a ON a.id = c.referrer_id JOIN referral r ON r.id = c.referral_id
        LEFT JOIN LATERAL (SELECT sum(w.points) AS points, sum(w.remaining) AS remaining FROM award w
            WHERE w.event_id IN (c.referrer_event_id, c.referred_event_id)) w ON true
        LEFT JOIN LATERAL (SELECT bool_or(f.whole) AS whole FROM refund f WHERE f.event_id = c.purchase_id) p ON true
        WHERE c.taken_back_at IS NULL AND r.status <> 'REJECTED'
          AND (c.credited_at IS NULL OR w.remaining < w.points OR p.whole) AND NOT ({_WAITS})""",  # noqa: S608 - nothing but constants
}

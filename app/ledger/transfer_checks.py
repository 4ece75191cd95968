"""What can be computed twice of transfers between members."""

# As in `app.ledger.checks`: each lists what disagrees, as (account, what is kept, what it comes to). A transfer
# goes by its sender's account.
TRANSFER_CHECKS = {
    "every transfer is between two accounts of its program": """ /* scoped by: account */
        SELECT t.sender_id, format('transfer %s in program %s, to %s', t.id, t.program_id, t.receiver_id), format('%s, %s',
            coalesce('sender in program ' || s.program_id, 'no sender'), coalesce('receiver in program ' || r.program_id, 'no receiver'))
        FROM transfer t LEFT JOIN account s ON s.id = t.sender_id LEFT JOIN account r ON r.id = t.receiver_id
        WHERE (s.program_id, r.program_id) IS DISTINCT FROM (t.program_id, t.program_id)
          AND ($1::uuid IS NULL OR $1 IN (t.program_id, s.program_id, r.program_id))""",
    "a transfer's points are those that its entry took from lots": """ /* scoped by: account */
        SELECT a.id, format('transfer %s: %s points, %s by %s', t.id, t.points, t.amounts, t.expires_on),
            format('entry %s (%s) took %s by %s', coalesce(e.sequence::text, 'none'), e.kind, x.amounts, x.days)
        FROM transfer t JOIN a ON a.id = t.sender_id
        LEFT JOIN ledger_entry e ON (e.account_id, e.sequence) = (t.sender_id, t.entry)
        LEFT JOIN LATERAL (SELECT array_agg(y.expires_on ORDER BY y.expires_on) AS days, array_agg(y.amount ORDER BY y.expires_on) AS amounts
            FROM (SELECT expires_on, sum(amount)::bigint AS amount FROM allocation
                WHERE (account_id, sequence) = (t.sender_id, t.entry) GROUP BY 1) y) x ON true
        WHERE ((e.kind, e.amount, e.source, e.source_id, e.occurred_at) = ('REDEEM', t.points, 'transfer', t.id, t.created_at)
            AND e.reference IS NULL AND (x.days, x.amounts) = (t.expires_on, t.amounts)) IS NOT TRUE""",
    "what arrived of a transfer was earned, and nothing else of it": """ /* scoped by: account */
        SELECT a.id, format('transfer %s: %s, %s points, %s of them expired', t.id, t.status, t.points, t.expired),
            format('the receiver earned %s: %s by %s', coalesce(e.points, 0), e.amounts, e.days)
        FROM transfer t JOIN a ON a.id = t.sender_id LEFT JOIN (
            SELECT account_id, source_id, sum(amount) AS points, array_agg(expires_on ORDER BY expires_on) AS days,
                array_agg(amount ORDER BY expires_on) AS amounts
            FROM ledger_entry WHERE source = 'transfer' AND kind = 'EARN' GROUP BY 1, 2) e
            ON (e.account_id, e.source_id) = (t.receiver_id, t.id)
        -- What expired on the way are those that were to expire first.
        WHERE (coalesce(e.points, 0) = CASE t.status WHEN 'ARRIVED' THEN t.points - t.expired ELSE 0 END
            AND (t.status = 'ARRIVED' OR t.expired = 0)
            AND (e.points IS NULL OR (e.days, e.amounts) = (t.expires_on[cardinality(t.expires_on) - cardinality(e.days) + 1:],
                t.amounts[cardinality(t.amounts) - cardinality(e.days) + 1:]))) IS NOT TRUE""",
    "a transfer that returned was given back, and no other": """ /* scoped by: account */
        SELECT a.id, format('transfer %s: %s, %s points', t.id, t.status, t.points), format('%s were given back', coalesce(r.amount, 0))
        FROM transfer t JOIN a ON a.id = t.sender_id LEFT JOIN (
            SELECT account_id, reference, sum(amount) AS amount, bool_and(source IS NOT DISTINCT FROM 'transfer') AS ours
            FROM ledger_entry WHERE reference IS NOT NULL GROUP BY 1, 2) r ON (r.account_id, r.reference) = (t.sender_id, t.entry)
        WHERE (coalesce(r.amount, 0) = CASE t.status WHEN 'RETURNED' THEN t.points ELSE 0 END AND coalesce(r.ours, true)) IS NOT TRUE""",
    "what is in transit stands in the outbox, or among what failed": """ /* scoped by: account */
        SELECT a.id, format('transfer %s is on its way to %s', t.id, t.receiver_id), 'no work in the outbox names its receiver'
        FROM transfer t JOIN a ON a.id = t.sender_id
        WHERE t.status = 'IN_TRANSIT'
          AND NOT EXISTS (SELECT FROM outbox o WHERE o.queue = 'transfers' AND t.receiver_id = ANY(o.members))
          AND NOT EXISTS (SELECT FROM failed_job f
            WHERE f.queue = 'transfers' AND f.program_id = t.program_id AND f.subject = t.receiver_id)""",
    "every entry of a transfer belongs to it": """ /* scoped by: account */
        SELECT e.account_id, format('entry %s (%s) of transfer %s', e.sequence, e.kind, e.source_id),
            coalesce(format('%s, from %s (entry %s) to %s', t.status, t.sender_id, t.entry, t.receiver_id), 'no such transfer')
        FROM ledger_entry e JOIN a ON a.id = e.account_id LEFT JOIN transfer t ON t.id = e.source_id AND t.program_id = a.program_id
        WHERE e.source = 'transfer' AND (CASE e.kind WHEN 'REDEEM' THEN (t.sender_id, t.entry) = (e.account_id, e.sequence)
            WHEN 'RESTORE' THEN t.status = 'RETURNED' AND (t.sender_id, t.entry) = (e.account_id, e.reference)
            WHEN 'EARN' THEN t.status = 'ARRIVED' AND t.receiver_id = e.account_id END) IS NOT TRUE""",
}

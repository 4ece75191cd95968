"""What can be computed twice of messages: the numbers of the feed."""

# As in `app.ledger.checks`: each lists what disagrees, as (program or member, what is kept, what it comes to).
FEED_CHECKS = {
    "the feed counts from 1 to its head without a gap": """ /* scoped by: ledger */
        SELECT coalesce(h.program_id, f.program_id), format('the head is at %s', coalesce(h.position::text, 'none')),
            format('%s messages, from %s to %s', coalesce(f.messages, 0), f.first, f.last)
        FROM (SELECT * FROM feed_head WHERE $1 IS NULL OR program_id = $1) h
        FULL JOIN (SELECT program_id, count(*) AS messages, min(position) AS first, max(position) AS last
            FROM feed WHERE $1 IS NULL OR program_id = $1 GROUP BY program_id) f ON f.program_id = h.program_id
        WHERE h.position IS DISTINCT FROM coalesce(f.messages, 0) OR (f.first, f.last) <> (1, h.position)""",
    "no message waits for its number that has one": """ /* scoped by: ledger */
        SELECT m.program_id, format('message %s waits', m.id), format('it has the number %s', f.position)
        FROM message m JOIN feed f ON f.id = m.id WHERE $1 IS NULL OR $1 IN (m.program_id, f.program_id)""",
    "every message is about a member of its program": """ /* scoped by: ledger */
        SELECT m.member_id, format('message %s in program %s', m.id, m.program_id),
            coalesce('account in program ' || k.program_id, 'no account')
        FROM (SELECT id, program_id, member_id FROM feed UNION ALL SELECT id, program_id, member_id FROM message) m
        LEFT JOIN account k ON k.id = m.member_id
        WHERE m.member_id IS NOT NULL AND k.program_id IS DISTINCT FROM m.program_id
          AND ($1 IS NULL OR $1 IN (m.program_id, k.program_id))""",
}

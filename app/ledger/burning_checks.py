"""What can be computed twice of burning: redemptions, what is left of rewards, codes, and points payments."""

# As in `app.ledger.checks`: each lists what disagrees, as (account, what is kept, what it comes to). What is
# everybody's, such as what is left of a reward, goes by the reward's id. Times are compared for being the same
# alone: clocks of several machines say little about what was first.
BURNING_CHECKS = {
    "a redemption's entries are what it says": """ /* scoped by: account */
        SELECT a.id, format('redemption %s: %s, %s points, %s of them restored', r.id, r.status, r.points, r.restored),
            format('entry %s reserved %s, of which %s are done with; entry %s spent %s, of which %s were given back',
                coalesce(h.sequence::text, 'none'), coalesce(h.amount, 0), coalesce(o.amount, 0),
                coalesce(s.sequence::text, 'none'), coalesce(s.amount, 0), coalesce(b.amount, 0))
        FROM redemption r JOIN a ON a.id = r.member_id
        LEFT JOIN ledger_entry h ON (h.account_id, h.sequence) = (r.member_id, r.reserve_entry)
        LEFT JOIN ledger_entry s ON (s.account_id, s.sequence) = (r.member_id, r.redeem_entry)
        LEFT JOIN (SELECT account_id, reference, sum(amount) AS amount,
                bool_and(source IS NOT DISTINCT FROM 'redemption') AS ours
            FROM ledger_entry WHERE reference IS NOT NULL GROUP BY 1, 2) o
            ON (o.account_id, o.reference) = (r.member_id, r.reserve_entry)
        LEFT JOIN (SELECT account_id, reference, sum(amount) AS amount,
                bool_and(source IS NOT DISTINCT FROM 'redemption') AS ours
            FROM ledger_entry WHERE reference IS NOT NULL GROUP BY 1, 2) b
            ON (b.account_id, b.reference) = (r.member_id, r.redeem_entry)
        WHERE (CASE WHEN r.reserve_entry IS NULL THEN s.occurred_at = r.created_at
            ELSE (h.kind, h.source, h.source_id, h.occurred_at) = ('RESERVE', 'redemption', r.id, r.created_at)
                AND h.amount >= r.points AND coalesce(o.ours, true)
                AND CASE WHEN r.redeem_entry IS NULL THEN h.amount = r.points
                        AND coalesce(o.amount, 0) = CASE r.status WHEN 'RESERVED' THEN 0 ELSE h.amount END
                    ELSE o.amount = h.amount END
            END
            AND CASE WHEN r.redeem_entry IS NULL THEN r.restored = 0
            ELSE (s.kind, s.amount, s.source, s.source_id) = ('REDEEM', r.points, 'redemption', r.id)
                AND s.reference IS NOT DISTINCT FROM r.reserve_entry AND s.occurred_at = r.confirmed_at
                AND coalesce(b.amount, 0) = r.restored AND coalesce(b.ours, true)
                AND (r.status <> 'CANCELLED' OR r.restored = r.points)
            END
            AND CASE r.status WHEN 'FULFILLED' THEN r.fulfilled_at IS NOT NULL
                WHEN 'RESERVED' THEN r.fulfilled_at IS NULL WHEN 'CONFIRMED' THEN r.fulfilled_at IS NULL
                WHEN 'EXPIRED' THEN r.fulfilled_at IS NULL ELSE true END) IS NOT TRUE""",
    "every entry of a redemption belongs to it": """ /* scoped by: account */
        SELECT e.account_id, format('entry %s (%s) of redemption %s', e.sequence, e.kind, e.source_id),
            CASE WHEN r.id IS NULL THEN 'the account has no such redemption' ELSE format('its entries are %s and %s',
                coalesce(r.reserve_entry::text, 'none'), coalesce(r.redeem_entry::text, 'none')) END
        FROM ledger_entry e JOIN a ON a.id = e.account_id
        LEFT JOIN redemption r ON r.id = e.source_id AND r.member_id = e.account_id
        WHERE e.source = 'redemption' AND (CASE e.kind WHEN 'RESERVE' THEN e.sequence = r.reserve_entry
            WHEN 'REDEEM' THEN e.sequence = r.redeem_entry
            WHEN 'RESTORE' THEN e.reference IN (r.reserve_entry, r.redeem_entry) END) IS NOT TRUE""",
    "every redemption belongs to an account and a reward of its program": """ /* scoped by: account */
        SELECT r.member_id, format('redemption %s in program %s', r.id, r.program_id), format('%s, %s',
            coalesce('account in program ' || k.program_id, 'no account'),
            coalesce('reward in program ' || w.program_id, 'no reward'))
        FROM redemption r LEFT JOIN account k ON k.id = r.member_id LEFT JOIN reward w ON w.id = r.reward_id
        WHERE (k.program_id, w.program_id) IS DISTINCT FROM (r.program_id, r.program_id)
          AND ($1::uuid IS NULL OR $1 IN (r.program_id, k.program_id, w.program_id))""",
    "a redemption is worth what it says": """ /* scoped by: account */
        SELECT a.id, format('redemption %s: %s for %s points, %s pieces', r.id, coalesce(r.amount::text, 'nothing'), r.points, r.quantity),
            CASE WHEN w.kind = 'DISCOUNT' THEN format('%s points are 1, of an order of %s', coalesce(r.rate::text, 'no'),
                coalesce(r.order_amount::text, 'unknown amount'))
                ELSE format('the %s has a face value of %s', w.kind, coalesce(r.face_value::text, 'nothing')) END
        FROM redemption r JOIN a ON a.id = r.member_id JOIN reward w ON w.id = r.reward_id
        -- Points buy the amount rounded up to the currency's digits, as many as it has; but no more than the order.
        WHERE (CASE WHEN w.kind = 'DISCOUNT' THEN r.quantity = 1 AND r.face_value IS NULL
                AND (r.amount - power(10::numeric, -scale(r.amount))) * r.rate < r.points
                AND CASE WHEN r.order_amount IS NULL THEN r.amount * r.rate >= r.points ELSE r.amount <= r.order_amount END
            ELSE r.rate IS NULL AND r.amount IS NOT DISTINCT FROM r.face_value * r.quantity END) IS NOT TRUE""",
    "every reward has its stock, of the same version": """ /* scoped by: reward */
        SELECT w.id, format('reward %s: version %s', w.name, w.version), coalesce('stock: version ' || c.version, 'no stock')
        FROM reward w LEFT JOIN reward_stock c ON c.reward_id = w.id
        WHERE w.version IS DISTINCT FROM c.version AND ($1::uuid IS NULL OR w.program_id = $1)""",
    "what is taken of a reward is what its redemptions took": """ /* scoped by: reward */
        SELECT w.id, format('reward %s: %s taken of %s', w.name, c.taken, coalesce(c.capacity::text, 'no end')),
            format('redemptions took %s', coalesce(r.pieces, 0))
        FROM reward w JOIN reward_stock c ON c.reward_id = w.id
        LEFT JOIN (SELECT reward_id, sum(quantity) AS pieces FROM redemption
            WHERE status NOT IN ('CANCELLED', 'EXPIRED') GROUP BY 1) r ON r.reward_id = w.id
        WHERE (c.taken <> coalesce(r.pieces, 0) OR c.taken > c.capacity) AND ($1::uuid IS NULL OR w.program_id = $1)""",
    "a reward's pool has the codes that nobody has": """ /* scoped by: reward */
        SELECT w.id, format('reward %s: %s codes', w.name, coalesce(c.codes::text, 'no pool of')),
            format('%s are free, %s of them made for a redemption', coalesce(f.free, 0), coalesce(f.made, 0))
        FROM reward w JOIN reward_stock c ON c.reward_id = w.id
        LEFT JOIN (SELECT reward_id, count(*) AS free, count(*) FILTER (WHERE made) AS made FROM reward_code
            WHERE redemption_id IS NULL GROUP BY 1) f ON f.reward_id = w.id
        WHERE (f.made > 0 OR c.codes IS DISTINCT FROM
                CASE WHEN w.kind IN ('VOUCHER', 'GIFT_CARD') AND NOT w.generate_codes THEN coalesce(f.free, 0) END)
          AND ($1::uuid IS NULL OR w.program_id = $1)""",
    "a redemption has a code for each piece, and is used when all of them are": """ /* scoped by: account */
        SELECT a.id, format('redemption %s: %s, %s pieces of a %s, used %s', r.id, r.status, r.quantity, w.kind,
                coalesce('at ' || r.used_at, 'never')),
            format('%s codes, %s of them used', coalesce(c.codes, 0), coalesce(c.used, 0))
        FROM redemption r JOIN a ON a.id = r.member_id JOIN reward w ON w.id = r.reward_id
        LEFT JOIN (SELECT redemption_id, count(*) AS codes, count(used_at) AS used, max(used_at) AS last_used
            FROM reward_code WHERE redemption_id IS NOT NULL GROUP BY 1) c ON c.redemption_id = r.id
        -- What was shown stays with a redemption that is cancelled, void; what was not went back.
        WHERE coalesce(c.codes, 0) <> CASE WHEN w.kind IN ('VOUCHER', 'GIFT_CARD')
                AND (r.status = 'RESERVED' OR r.confirmed_at IS NOT NULL) THEN r.quantity ELSE 0 END
           OR (r.status = 'USED') <> coalesce(c.used = c.codes, false)
           OR (c.used > 0 AND r.status NOT IN ('CONFIRMED', 'FULFILLED', 'USED'))
           OR r.used_at IS DISTINCT FROM CASE WHEN c.used = c.codes THEN c.last_used END""",
    "every code is of a reward with codes, and of a redemption of it": """ /* scoped by: reward */
        SELECT coalesce(r.member_id, c.reward_id), format('code %s of reward %s in program %s, of redemption %s', c.id,
                c.reward_id, c.program_id, coalesce(c.redemption_id::text, 'none')),
            format('%s, %s', coalesce(format('%s in program %s', w.kind, w.program_id), 'no reward'),
                coalesce(format('redemption of reward %s', r.reward_id), 'no redemption'))
        FROM reward_code c LEFT JOIN reward w ON w.id = c.reward_id LEFT JOIN redemption r ON r.id = c.redemption_id
        WHERE ((w.program_id = c.program_id AND w.kind IN ('VOUCHER', 'GIFT_CARD')) IS NOT TRUE
            OR (c.redemption_id IS NOT NULL
                AND (r.program_id, r.reward_id) IS DISTINCT FROM (c.program_id, c.reward_id)))
          AND ($1::uuid IS NULL OR $1 IN (c.program_id, w.program_id, r.program_id))""",
    "every key of a redemption names what was done under it": """ /* scoped by: redemption */
        SELECT coalesce(r.member_id, k.subject_id), format('key of %s for redemption %s', k.operation, k.subject_id),
            coalesce(format('%s, entries %s and %s', r.status, coalesce(r.reserve_entry::text, 'none'),
                coalesce(r.redeem_entry::text, 'none')), 'no redemption')
        FROM (SELECT program_id, operation, subject_id, split_part(operation, ':', 1) AS name,
                split_part(operation, ':', 2) AS caller FROM idempotency_key
            WHERE $1::uuid IS NULL OR program_id = $1) k
        LEFT JOIN redemption r ON (r.id, r.program_id) = (k.subject_id, k.program_id)
        WHERE k.name IN ('redeem', 'reserve', 'capture', 'cancel', 'use') AND (r.id IS NOT NULL
            AND CASE k.name WHEN 'redeem' THEN r.reserve_entry IS NULL WHEN 'reserve' THEN r.reserve_entry IS NOT NULL
                WHEN 'capture' THEN r.reserve_entry IS NOT NULL AND r.redeem_entry IS NOT NULL
                WHEN 'cancel' THEN r.status = 'CANCELLED' ELSE r.redeem_entry IS NOT NULL END
            AND k.caller IN ('', replace(r.member_id::text, '-', ''))) IS NOT TRUE""",
    "the winner of a giveaway is one of its entries": """ /* scoped by: reward */
        SELECT w.id, format('%s %s: drawn, won by redemption %s', w.kind, w.name, c.winner_id),
            coalesce(format('redemption of reward %s, %s', r.reward_id, r.status), 'no redemption')
        FROM reward w JOIN reward_stock c ON c.reward_id = w.id LEFT JOIN redemption r ON r.id = c.winner_id
        WHERE c.drawn_at IS NOT NULL AND ($1::uuid IS NULL OR w.program_id = $1)
          AND (w.kind = 'GIVEAWAY' AND r.reward_id = w.id AND r.status IN ('CONFIRMED', 'FULFILLED', 'USED')) IS NOT TRUE""",
    "a purchase was paid with what its redemption took off": """ /* scoped by: account */
        SELECT a.id, format('event %s: %s of %s paid by redemption %s', v.id, v.points_amount, v.amount, v.redemption_id),
            coalesce(format('%s, %s of a %s', r.status, coalesce(r.amount::text, 'nothing'), w.kind),
                'the account has no such redemption')
        FROM event v JOIN a ON a.id = v.member_id
        LEFT JOIN redemption r ON r.id = v.redemption_id AND r.member_id = v.member_id
        LEFT JOIN reward w ON w.id = r.reward_id
        WHERE v.redemption_id IS NOT NULL
          AND (w.kind = 'DISCOUNT' AND r.confirmed_at IS NOT NULL AND v.points_amount = r.amount) IS NOT TRUE""",
    "what refunds gave back of a payment is what its redemption got back": """ /* scoped by: account */
        SELECT coalesce(r.member_id, f.member_id), format('redemption %s: %s, %s restored', coalesce(r.id::text, 'none'), r.status, r.restored),
            format('refunds of event %s gave back %s', coalesce(f.id::text, 'none'), coalesce(f.points, 0))
        FROM (SELECT r.* FROM redemption r JOIN a ON a.id = r.member_id WHERE r.restored > 0) r
        FULL JOIN (SELECT v.id, v.member_id, v.redemption_id, sum(x.restored_points) AS points
            FROM refund x JOIN event v ON v.id = x.event_id JOIN a ON a.id = v.member_id
            WHERE x.restored_points > 0 GROUP BY v.id, v.member_id, v.redemption_id) f ON f.redemption_id = r.id
        -- Whoever cancels gives back the rest.
        WHERE CASE r.status WHEN 'CANCELLED' THEN coalesce(f.points, 0) <= r.restored
            ELSE coalesce(f.points, 0) = r.restored END IS NOT TRUE""",
}

"""What has to be true after every disturbance, computed without Laurel's own code."""

from collections import Counter
from time import monotonic
from typing import Any

import asyncpg

from tests.trust.place import Place, until
from tests.trust.tills import Shop

DRAIN_SECONDS = 45

_EARNED = """
SELECT v.external_id, m.external_id AS member, o.points, o.rejection, count(l.*) AS entries,
    sum(l.amount)::bigint AS amount
FROM event v JOIN program p ON p.id = v.program_id JOIN member m ON m.id = v.member_id
LEFT JOIN event_outcome o ON o.event_id = v.id
LEFT JOIN ledger_entry l ON l.source_id = v.id AND l.kind = 'EARN'
WHERE p.slug = $1 GROUP BY v.id, v.external_id, m.external_id, o.points, o.rejection
"""
_ADJUSTED = """
SELECT l.reason, m.external_id AS member, l.amount FROM ledger_entry l JOIN account a ON a.id = l.account_id
JOIN member m ON m.id = a.member_id JOIN program p ON p.id = a.program_id
WHERE p.slug = $1 AND l.kind = 'ADJUST'
"""
_BALANCES = """
SELECT m.external_id AS member, a.available FROM account a
JOIN member m ON m.id = a.member_id JOIN program p ON p.id = a.program_id WHERE p.slug = $1
"""
_WAITING = "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM event_queue)"


async def drained(place: Place, since: float, seconds: float = DRAIN_SECONDS) -> float:
    """Wait until nothing waits for a worker any more; return how long that took from a moment on."""

    async def nothing_waits() -> bool:
        try:
            async with place.sql() as sql:
                return await sql.fetchval(_WAITING) == 0
        except (OSError, asyncpg.PostgresError):
            return False

    await until(nothing_waits, seconds, "the backlog is worked off", every=0.05)
    return monotonic() - since


async def check(place: Place, shop: Shop) -> None:
    """Compare what the tills were promised with what is in the books, and let Laurel prove the rest."""
    journal = shop.journal
    async with place.sql() as sql:
        waiting = await sql.fetchval(_WAITING)
        events = {row["external_id"]: row for row in await sql.fetch(_EARNED, shop.slug)}
        adjusted = await sql.fetch(_ADJUSTED, shop.slug)
        balances = {row["member"]: row["available"] for row in await sql.fetch(_BALANCES, shop.slug)}
    assert waiting == 0
    assert set(events) == set(journal.events), "exactly what was acknowledged is there"
    for name, (member, points) in journal.events.items():
        found = dict(events[name])
        expected: dict[str, Any] = {"external_id": name, "member": member, "points": points}
        # Two rules pay for each purchase: two entries, no more.
        assert found == expected | {"rejection": None, "entries": 2, "amount": points}
    assert Counter(tuple(row) for row in adjusted) == Counter(
        (key, member, points) for key, (member, points) in journal.adjustments.items()
    )
    sums = Counter(dict.fromkeys(shop.members, 0))
    for member, points in (*journal.events.values(), *journal.adjustments.values()):
        sums[member] += points
    assert balances == dict(sums)
    verified = await place.command("verify", "--program", shop.slug)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "No difference" in verified.stdout


def report(shop: Shop, text: str) -> None:
    """Print what a test measured, and how the tills fared."""
    journal = shop.journal
    answers = ", ".join(f"{count} {name}" for name, count in journal.answers.most_common())
    print(
        f"\n  {text}; {len(journal.events)} events, {journal.replays} sent twice; answers: {answers};"
        f" the longest took {journal.longest_seconds:.2f} s"
    )

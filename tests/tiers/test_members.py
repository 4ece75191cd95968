"""Tiers given by hand: now, late, ahead, for a time, and taken away again."""

import asyncio
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest

from app.database import connection
from app.errors import ErrorCode
from app.members.inputs import MemberStatus
from app.members.reads import MemberRef
from app.members.service import update_member
from app.tiers import reads
from app.tiers.reads import tiers_at
from app.tiers.service import get_current_tiers, set_member_tier
from tests.helpers import set_now
from tests.programs.making import make_member, make_program
from tests.programs.test_service import refusal
from tests.tiers.making import at, make_tier, tier_at, version_of

INSTANT = timedelta(microseconds=1)


class World(NamedTuple):
    """A program with a member and two tiers."""

    program: UUID
    member: UUID
    silver: UUID
    gold: UUID

    async def give(
        self,
        tier: UUID | None,
        since: datetime | None = None,
        until: datetime | None = None,
        reason: str = "Goodwill",
    ) -> None:
        found = await set_member_tier(
            self.program, MemberRef(id=self.member), tier, since, until, reason, "key"
        )
        assert found.id == self.member

    async def at(self, moment: datetime) -> UUID | None:
        return await tier_at(self.program, self.member, moment)

    async def rows(self) -> list[Any]:
        async with connection() as sql:
            return await sql.fetch(
                "SELECT * FROM member_tier WHERE program_id = $1 AND member_id = $2 ORDER BY recorded_at, id",
                self.program, self.member,
            )  # fmt: skip


@pytest.fixture
async def world() -> World:
    program = await make_program()
    member = await make_member(program.id)
    silver, gold = await make_tier(program.id, 500), await make_tier(program.id, 1000)
    return World(program.id, member.id, silver.id, gold.id)


async def test_nobody_has_a_tier_before_one_is_given(world: World) -> None:
    assert await world.at(at(2026, 1, 1)) is None
    assert await get_current_tiers(world.program, [world.member, uuid4()]) == [None, None]


async def test_a_tier_counts_from_now_on_for_good(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    now = set_now(monkeypatch, 2026, 1, 1)

    await world.give(world.gold)

    assert await world.at(now - INSTANT) is None
    assert await world.at(now) == world.gold
    assert await world.at(at(2999, 1, 1)) == world.gold
    assert await get_current_tiers(world.program, [world.member]) == [world.gold]
    (row,) = await world.rows()
    assert (row["since"], row["until"], row["reason"], row["source"], row["recorded_at"]) == (
        now,
        None,
        "Goodwill",
        "key",
        now,
    )


async def test_tiers_that_follow_each_other_count_each_in_its_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = set_now(monkeypatch, 2026, 1, 1)
    await world.give(world.silver)
    second = set_now(monkeypatch, 2026, 2, 1)
    await world.give(world.gold)
    third = set_now(monkeypatch, 2026, 3, 1)
    await world.give(None)

    moments = (first - INSTANT, first, second - INSTANT, second, third - INSTANT, third)
    found = [await world.at(moment) for moment in moments]

    assert found == [None, world.silver, world.silver, world.gold, world.gold, None]


async def test_a_tier_that_was_given_late_counts_for_what_happened_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_now(monkeypatch, 2026, 3, 1)
    await world.give(world.silver)
    await world.give(world.gold, since=at(2026, 1, 1), until=at(2026, 2, 1))

    assert await world.at(at(2025, 12, 31)) is None
    assert await world.at(at(2026, 1, 1)) == world.gold
    assert await world.at(at(2026, 2, 1) - INSTANT) == world.gold
    assert await world.at(at(2026, 2, 1)) is None
    assert await world.at(at(2026, 3, 1)) == world.silver


async def test_of_tiers_for_the_same_time_the_one_recorded_last_counts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_now(monkeypatch, 2026, 1, 1)
    await world.give(world.silver)
    set_now(monkeypatch, 2026, 2, 1)
    # Recorded later, it counts for its own time, and leaves the rest to the one before.
    await world.give(world.gold, since=at(2026, 1, 10), until=at(2026, 1, 20))

    assert await world.at(at(2026, 1, 9)) == world.silver
    assert await world.at(at(2026, 1, 15)) == world.gold
    assert await world.at(at(2026, 1, 20)) == world.silver
    await world.give(None, since=at(2026, 1, 12), until=at(2026, 1, 14))
    assert await world.at(at(2026, 1, 13)) is None
    assert await world.at(at(2026, 1, 14)) == world.gold


async def test_of_tiers_given_in_one_instant_or_by_a_clock_behind_the_last_counts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = set_now(monkeypatch, 2026, 1, 1)
    for tier in (world.silver, world.gold, world.silver, world.gold):
        await world.give(tier)
        assert await world.at(moment) == tier
    set_now(monkeypatch, 2025, 12, 31)
    await world.give(world.silver)
    assert await world.at(moment) == world.silver
    assert len(await world.rows()) == 5


async def test_a_tier_can_be_given_ahead(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 1, 1)
    await world.give(world.gold, since=at(2026, 6, 1))
    assert await get_current_tiers(world.program, [world.member]) == [None]
    set_now(monkeypatch, 2026, 6, 1)
    assert await get_current_tiers(world.program, [world.member]) == [world.gold]


async def test_a_tier_until_a_time_ends_by_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 1, 1)
    await world.give(world.silver)
    await world.give(world.gold, until=at(2026, 2, 1))
    assert await get_current_tiers(world.program, [world.member]) == [world.gold]
    set_now(monkeypatch, 2026, 2, 1)
    assert await get_current_tiers(world.program, [world.member]) == [world.silver]


async def test_the_same_said_again_is_not_written_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_now(monkeypatch, 2026, 1, 1)
    await world.give(world.gold, until=at(2027, 1, 1))
    set_now(monkeypatch, 2026, 1, 2)
    await world.give(world.gold, until=at(2027, 1, 1))
    await world.give(world.gold, since=at(2026, 1, 1), until=at(2027, 1, 1))
    assert len(await world.rows()) == 1

    await world.give(world.silver, since=at(2026, 6, 1))
    await world.give(world.silver, since=at(2026, 6, 1))
    assert len(await world.rows()) == 2
    # It is not in force yet, so from now on is something else.
    await world.give(world.silver)
    assert len(await world.rows()) == 3
    for _ in range(2):
        await world.give(None)
    assert len(await world.rows()) == 4


@pytest.mark.parametrize(
    "other",
    [
        {"reason": "Other"},
        {"since": at(2026, 1, 1) - INSTANT},
        {"until": at(2028, 1, 1)},
        {"until": None},
    ],
)
async def test_something_else_is_written(
    world: World, other: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_now(monkeypatch, 2026, 1, 1)
    said = {"since": at(2026, 1, 1), "until": at(2027, 1, 1), "reason": "Goodwill"}
    await world.give(world.gold, **said)  # type: ignore[arg-type]
    await world.give(world.gold, **(said | other))  # type: ignore[arg-type]
    assert len(await world.rows()) == 2


async def test_only_the_last_word_makes_the_same_superfluous(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_now(monkeypatch, 2026, 1, 1)
    for tier in (world.gold, world.silver, world.gold):
        await world.give(tier, since=at(2026, 1, 1))
    assert len(await world.rows()) == 3
    assert await world.at(at(2026, 1, 1)) == world.gold


async def test_the_same_said_by_a_clock_behind_is_not_written_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in (2, 1):
        set_now(monkeypatch, 2026, 1, day)
        await world.give(world.gold)
    assert len(await world.rows()) == 1


async def test_the_same_said_many_times_at_once_is_written_once(world: World) -> None:
    await asyncio.gather(*(world.give(world.gold) for _ in range(10)))
    assert len(await world.rows()) == 1


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"reason": ""}, ("reason",)),
        ({"reason": "  "}, ("reason",)),
        ({"reason": "x" * 501}, ("reason",)),
        ({"reason": "a\0b"}, ("reason",)),
        ({"until": at(2026, 1, 1)}, ("until",)),
        ({"until": at(2025, 1, 1)}, ("until",)),
        ({"since": at(2027, 1, 1), "until": at(2027, 1, 1)}, ("until",)),
        ({"since": at(2027, 1, 1), "until": at(2026, 6, 1)}, ("until",)),
    ],
)
async def test_what_cannot_be_is_refused_by_field(
    world: World, wrong: dict[str, Any], field: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_now(monkeypatch, 2026, 1, 1)
    assert await refusal(world.give(world.gold, **wrong)) == {(ErrorCode.INVALID, field)}
    assert await world.rows() == []


async def test_a_reason_may_have_several_lines(world: World) -> None:
    await world.give(world.gold, reason="Called twice.\nWas right.")
    assert (await world.rows())[0]["reason"] == "Called twice.\nWas right."


async def test_times_may_be_as_far_away_as_there_are_times(world: World) -> None:
    await world.give(world.gold, since=at(1, 1, 1), until=at(9999, 12, 31))
    assert await world.at(at(1, 1, 1)) == world.gold
    assert await world.at(at(9999, 12, 31)) is None


async def test_whoever_is_not_there_is_told_by_field(world: World) -> None:
    other = await make_program()
    stranger, bronze = await make_member(other.id), await make_tier(other.id)

    async def give(ref: MemberRef, tier: UUID | None) -> Any:
        return await refusal(set_member_tier(world.program, ref, tier, None, None, "Goodwill"))

    for ref, field in (
        (MemberRef(id=uuid4()), "id"),
        (MemberRef(id=stranger.id), "id"),
        (MemberRef(external_id=stranger.external_id), "external_id"),
        (MemberRef(email="nobody@example.com"), "email"),
    ):
        assert await give(ref, world.gold) == {(ErrorCode.NOT_FOUND, ("member", field))}
    for tier in (bronze.id, uuid4()):
        assert await give(MemberRef(id=world.member), tier) == {(ErrorCode.NOT_FOUND, ("tier_id",))}
    assert await world.rows() == []


async def test_a_closed_member_keeps_what_they_have(world: World) -> None:
    await world.give(world.gold)
    ref = MemberRef(id=world.member)
    await update_member(world.program, ref, {"status": MemberStatus.CLOSED})

    # What was done before is answered as it was.
    await world.give(world.gold)

    assert await refusal(world.give(world.silver)) == {(ErrorCode.WRONG_STATE, ("member",))}
    assert await refusal(world.give(None)) == {(ErrorCode.WRONG_STATE, ("member",))}
    assert await get_current_tiers(world.program, [world.member]) == [world.gold]


async def test_giving_a_tier_leaves_rule_sets_alone(world: World) -> None:
    before = await version_of(world.program)
    await world.give(world.gold)
    assert await version_of(world.program) == before


async def test_many_moments_of_many_members_are_read_in_their_order(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_now(monkeypatch, 2026, 1, 1)
    other = (await make_member(world.program)).id
    await world.give(world.gold, since=at(2026, 1, 1))
    await set_member_tier(world.program, MemberRef(id=other), world.silver, at(2026, 2, 1), None, "Goodwill")
    moments = [
        (member, at(2026, month, 1)) for month in (3, 1, 2) for member in (other, world.member, uuid4())
    ]
    wanted = [world.silver, world.gold, None, None, world.gold, None, world.silver, world.gold, None]

    async with connection() as sql:
        assert await tiers_at(sql, world.program, moments) == wanted
        assert await tiers_at(sql, world.program, moments * 111) == wanted * 111
        assert await tiers_at(sql, world.program, []) == []
        assert await tiers_at(sql, (await make_program()).id, moments) == [None] * 9


async def test_moments_are_read_along_the_index_whatever_is_known_of_the_table(world: World) -> None:
    """A member's rows are found one by one: not by reading through what all members were given."""
    async with connection() as sql:
        await sql.execute(
            """
            INSERT INTO member_tier (id, program_id, member_id, tier_id, since, reason, source, recorded_at)
            SELECT gen_random_uuid(), $1, gen_random_uuid(), $2, now(), 'x', 'x', now()
            FROM generate_series(1, 20000)
            """,
            world.program, world.gold,
        )  # fmt: skip
        plan = await sql.fetch(
            "EXPLAIN " + reads._AT, world.program, [world.member] * 1000, [at(2026, 1, 1)] * 1000
        )
    text = "\n".join(row[0] for row in plan)
    assert "Index Scan" in text
    assert "member_tier_member" in text
    assert "Seq Scan" not in text

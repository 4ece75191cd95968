"""Referrals from enrolment to their points: who is credited, when, and by which rules."""

from datetime import datetime, timedelta

import pytest

from app.database import connection
from app.earning.reads import get_explanations
from app.earning.rule_service import set_rule_status
from app.earning.rules import EventKind, RuleLimits, RuleStatus
from app.errors import ErrorCode, Refused
from app.members.inputs import NewMember
from app.members.service import enroll_member, enroll_members
from tests.helpers import new_member, new_program, new_rule, set_now, work_all
from tests.referrals.making import (
    BUYING,
    PENDING,
    available,
    buy,
    credited,
    friend_rule,
    new_friend,
    rejected,
    seen,
    suspend,
    told,
    worked,
)


async def test_joining_with_a_code_is_pending_until_a_worker_credits_both_sides() -> None:
    program = await new_program()
    await friend_rule(program, 100, 30)
    ada = await new_member(program)
    ben = await new_friend(program, ada)
    assert await seen(ben) == PENDING
    assert await worked(program, ben) == credited(100, 30)
    assert (await available(ada), await available(ben)) == (100, 30)
    assert await worked(program, ben) == credited(100, 30)


async def test_the_first_purchase_brings_the_points_and_no_later_one_does() -> None:
    program = await new_program()
    await friend_rule(program, 100, 30, BUYING)
    ada = await new_member(program)
    ben = await new_friend(program, ada)
    assert await worked(program, ben) == PENDING
    await buy(program, ben)
    assert await worked(program, ben) == credited(100, 30)
    await buy(program, ben)
    assert await worked(program, ben) == credited(100, 30)
    assert await available(ada) == 100


async def test_rules_of_both_triggers_pay_for_one_referral() -> None:
    program = await new_program()
    await friend_rule(program, 10, 1)
    await friend_rule(program, 100, None, BUYING)
    ada = await new_member(program)
    ben = await new_friend(program, ada)
    assert await worked(program, ben) == credited(10, 1)
    await buy(program, ben)
    assert await worked(program, ben) == credited(110, 1)


async def test_a_rule_may_pay_one_side_alone() -> None:
    program = await new_program()
    await friend_rule(program, None, 30)
    ada = await new_member(program)
    ben = await new_friend(program, ada)
    assert await worked(program, ben) == credited(0, 30)
    assert await available(ada) == 0


async def test_a_code_is_read_however_it_was_typed() -> None:
    program = await new_program()
    ada = await new_member(program)
    code = ada.referral_code
    assert len(code) == 10
    typed = f" {code[:3]}-{code[3:6]} {code[6:].lower()} ".replace("0", "o").replace("1", "l")
    ben = await new_member(program, referral_code=typed)
    assert await seen(ben) == PENDING


@pytest.mark.parametrize("code", ["", "-", "ZZZZZZZZZZ", "nul\0", "ß" * 10, "x" * 10_000])
async def test_a_code_that_nobody_has_enrols_nobody(code: str) -> None:
    program = await new_program()
    elsewhere = await new_member(await new_program())
    for unknown in (code, elsewhere.referral_code):
        with pytest.raises(Refused) as refused:
            await new_member(program, external_id="ben", referral_code=unknown)
        (error,) = refused.value.errors
        assert (error.code, error.field) == (ErrorCode.NOT_FOUND, ("referral_code",))
    assert await enroll_member(program.id, NewMember(external_id="ben"))


async def test_of_a_batch_each_has_a_code_of_its_own() -> None:
    program = await new_program()
    await friend_rule(program, 10, 5)
    ada, eve = await new_member(program), await new_member(program)
    outcomes = await enroll_members(
        program.id,
        [
            NewMember(external_id="a", referral_code=ada.referral_code),
            NewMember(external_id="b", referral_code="nobody's"),
            NewMember(external_id="c"),
            NewMember(external_id="d", referral_code=eve.referral_code),
            NewMember(external_id="a", referral_code=eve.referral_code),
        ],
    )
    assert [each.replayed for each in outcomes] == [False, False, False, False, True]
    assert outcomes[1].errors
    first, last = outcomes[0].member, outcomes[3].member
    assert first
    assert last
    assert await worked(program, first) == credited(10, 5)
    assert await seen(last) == credited(10, 5)
    assert (await available(ada), await available(eve)) == (10, 10)


async def test_with_ones_own_code_a_referral_is_rejected_once_and_nothing_else_happens() -> None:
    program = await new_program()
    await friend_rule(program)
    ada, eve = await new_member(program), await new_member(program)
    for code in (ada.referral_code, ada.referral_code, eve.referral_code):
        member, replayed = await enroll_member(
            program.id, NewMember(external_id=ada.external_id, name="New", referral_code=code)
        )
        assert (member, replayed) == (ada, True)
    async with connection() as sql:
        rows = await sql.fetch("SELECT status, rejection FROM referral WHERE program_id = $1", program.id)
    assert [tuple(row) for row in rows] == [("REJECTED", "SELF_REFERRAL")]
    ((topic, payload),) = await told(ada)
    assert (topic, payload["rejection"]) == ("referral.rejected", "SELF_REFERRAL")
    await work_all(program)
    assert await available(ada) == 0


@pytest.mark.parametrize(
    ("hers", "theirs"),
    [
        ({"email": "ada.love@gmail.com"}, {"email": "AdaLove+friend@googlemail.com"}),
        ({"phone": "+43 664 1234567"}, {"phone": "(0664) 123 45 67"}),
    ],
)
async def test_the_same_person_in_another_spelling_is_no_friend(
    hers: dict[str, str], theirs: dict[str, str]
) -> None:
    program = await new_program()
    await friend_rule(program)
    ada = await new_member(program, **hers)
    ben = await new_friend(program, ada, **theirs)
    assert await worked(program, ben) == rejected("SAME_IDENTITY")
    ((topic, payload),) = await told(ada)
    assert (topic, payload["rejection"]) == ("referral.rejected", "SAME_IDENTITY")


async def test_a_referrer_who_is_not_active_brings_nobody() -> None:
    program = await new_program()
    await friend_rule(program)
    ada = await new_member(program)
    await suspend(program, ada)
    ben = await new_friend(program, ada)
    assert await worked(program, ben) == rejected("REFERRER_NOT_ACTIVE")
    await buy(program, ben)
    assert await worked(program, ben) == rejected("REFERRER_NOT_ACTIVE")


async def test_a_referrer_who_is_suspended_before_the_first_purchase_is_rejected_then() -> None:
    program = await new_program()
    await friend_rule(program, trigger=BUYING)
    ada = await new_member(program)
    ben = await new_friend(program, ada)
    assert await worked(program, ben) == PENDING
    await suspend(program, ada)
    await buy(program, ben)
    assert await worked(program, ben) == rejected("REFERRER_NOT_ACTIVE")


async def test_a_friend_who_is_suspended_gets_nothing() -> None:
    program = await new_program()
    await friend_rule(program)
    ada = await new_member(program)
    ben = await new_friend(program, ada)
    await suspend(program, ben)
    assert await worked(program, ben) == credited(100, 0)


async def test_without_a_rule_a_referral_is_rejected() -> None:
    program = await new_program()
    ada = await new_member(program)
    ben = await new_friend(program, ada)
    assert await worked(program, ben) == rejected("NO_ACTIVE_RULE")


@pytest.mark.parametrize("status", [RuleStatus.PAUSED, RuleStatus.ARCHIVED])
async def test_a_rule_that_is_off_by_the_first_purchase_rejects(status: RuleStatus) -> None:
    program = await new_program()
    rule = await friend_rule(program, trigger=BUYING)
    ada = await new_member(program)
    ben = await new_friend(program, ada)
    assert await worked(program, ben) == PENDING
    await set_rule_status(program.id, rule.id, status)
    await buy(program, ben)
    assert await worked(program, ben) == rejected("NO_ACTIVE_RULE")


async def test_rules_of_the_time_count_and_not_those_of_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    now = set_now(monkeypatch, 2026, 3, 2, 10)
    program = await new_program()
    rule = await friend_rule(program, 100, 30)
    ada = await new_member(program)
    set_now(monkeypatch, 2026, 3, 2, 11)
    ben = await new_friend(program, ada)
    set_now(monkeypatch, 2026, 3, 2, 12)
    await set_rule_status(program.id, rule.id, RuleStatus.PAUSED)
    assert await worked(program, ben) == credited(100, 30)
    assert now.year == 2026


async def test_a_window_that_opens_later_waits_for_the_first_purchase(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = set_now(monkeypatch, 2026, 3, 2, 10)
    program = await new_program()
    await friend_rule(program, trigger=BUYING, starts_at=now + timedelta(days=1))
    ada = await new_member(program)
    late, early = await new_friend(program, ada), await new_friend(program, ada)
    assert await worked(program, late) == PENDING
    await buy(program, early)
    assert await worked(program, early) == rejected("NO_ACTIVE_RULE")
    set_now(monkeypatch, 2026, 3, 4, 10)
    await buy(program, late)
    assert await worked(program, late) == credited(100, 30)


async def test_campaigns_and_days_and_receipts_are_those_of_any_event() -> None:
    program = await new_program(pending_days=3)
    await friend_rule(program, 100, 30, name="Friends")
    await friend_rule(program, None, 7, BUYING, name="Buyers")
    await new_rule(program, fixed=5, name="Goods")
    ada = await new_member(program)
    ben = await new_friend(program, ada)
    assert await worked(program, ben) == credited(100, 30)
    assert await available(ada) == 0
    async with connection() as sql:
        rows = await sql.fetch(
            "SELECT id, member_id, kind, body FROM event WHERE program_id = $1 ORDER BY id", program.id
        )
    assert [row["member_id"] for row in rows] == [ada.id, ben.id]
    assert {row["kind"] for row in rows} == {EventKind.REFERRAL}
    outcomes = await get_explanations(program.id, [row["id"] for row in rows])
    told_of = [[(each.reason, each.points, each.message) for each in each_event] for each_event in outcomes]
    other = ("OTHER_ACTION", 0, "The rule pays when a friend buys something for the first time.")
    assert told_of == [
        [("PAID", 100, "Gives 100 points."), other],
        [("PAID", 30, "Gives 30 points."), other],
    ]
    async with connection() as sql:
        labels = await sql.fetch(
            "SELECT a.steps->0->>'label' FROM award a JOIN event e ON e.id = a.event_id"
            " WHERE e.program_id = $1 ORDER BY a.event_id",
            program.id,
        )
    assert [row[0] for row in labels] == [
        "100 points for bringing a friend",
        "30 points for coming through a friend",
    ]


async def test_both_sides_are_told_and_no_one_twice() -> None:
    program = await new_program()
    await friend_rule(program, 100, 30)
    ada = await new_member(program)
    ben = await new_friend(program, ada)
    await work_all(program)
    for member, role, points in ((ada, "REFERRER", 100), (ben, "REFERRED", 30)):
        ((topic, payload),) = await told(member)
        assert (topic, payload["role"], payload["points"]) == ("referral.credited", role, points)
        assert {"referralId", "referrerId", "referredId"} < payload.keys()


async def test_a_chain_of_friends_is_credited_link_by_link() -> None:
    program = await new_program()
    await friend_rule(program, 100, 30, limits=RuleLimits(max_times_per_member=1))
    ada = await new_member(program)
    ben = await new_friend(program, ada)
    assert await worked(program, ben) == credited(100, 30)
    # What Ben got for coming is no friend that Ben brought.
    cleo = await new_friend(program, ben)
    assert await worked(program, cleo) == credited(100, 30)
    assert await available(ben) == 130


async def test_a_purchase_from_before_counts_as_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    set_now(monkeypatch, 2026, 3, 2, 10)
    program = await new_program()
    await friend_rule(program, trigger=BUYING)
    ada = await new_member(program)
    ben = await new_friend(program, ada)
    late = datetime.fromisoformat("2026-03-02T09:00:00+00:00")
    await buy(program, ben, occurred_at=late)
    assert await worked(program, ben) == credited(100, 30)
    async with connection() as sql:
        moments = await sql.fetch("SELECT occurred_at FROM referral_credit WHERE referred_id = $1", ben.id)
    assert late in {row[0] for row in moments}

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from app import clock
from app.database import connection
from app.days import local_date
from app.errors import ErrorCode
from app.members.inputs import NewMember
from app.members.reads import MemberRef, get_member
from app.members.service import enroll_member, enroll_members, update_member
from tests.programs.making import make_member, make_program
from tests.programs.test_service import refusal

ADA = {
    "external_id": "A-1",
    "email": "Ada@Example.com",
    "phone": "+44 (20) 7946-0958",
    "name": "Ada Lovelace",
    "birthday": date(1985, 12, 10),
    "locale": "en-GB",
    "attributes": {"shoe": 38, "likes": ["tea", "engines"], "note": "\\u0000"},
    "joined_at": datetime(2020, 2, 29, 12, tzinfo=UTC),
}


async def test_a_member_comes_with_an_empty_account() -> None:
    program = await make_program(timezone="Pacific/Kiritimati")
    before = clock.now()

    member, replayed = await enroll_member(program.id, NewMember(**ADA))

    assert not replayed
    assert {name: getattr(member, name) for name in ADA} == ADA
    assert member.status == "ACTIVE"
    assert await get_member(program.id, MemberRef(id=member.id)) == member
    async with connection() as sql:
        account = await sql.fetchrow("SELECT * FROM account WHERE program_id = $1", program.id)
    assert account is not None
    assert (account["id"], account["member_id"]) == (member.id, member.id)
    assert (account["available"], account["sequence"]) == (0, 0)
    assert account["active_on"] in {local_date(at, _zone(program)) for at in (before, clock.now())}


def _zone(program: Any) -> Any:
    from zoneinfo import ZoneInfo

    return ZoneInfo(program.timezone)


async def test_enrolling_again_answers_with_the_member_who_is_there() -> None:
    program = await make_program()
    member, _ = await enroll_member(program.id, NewMember(**ADA))

    again = await enroll_member(program.id, NewMember(external_id="A-1", name="Another name"))
    same = await enroll_member(program.id, NewMember(**ADA))

    assert again == same == (member, True)


async def test_many_enrolments_at_once_make_one_member_with_one_account() -> None:
    program = await make_program()

    results = await asyncio.gather(*(enroll_member(program.id, NewMember(**ADA)) for _ in range(12)))

    assert len({member.id for member, _ in results}) == 1
    assert [replayed for _, replayed in results].count(False) == 1
    async with connection() as sql:
        assert await sql.fetchval("SELECT count(*) FROM account WHERE program_id = $1", program.id) == 1


async def test_programs_share_neither_external_ids_nor_addresses() -> None:
    program, other = await make_program(), await make_program()
    member, _ = await enroll_member(program.id, NewMember(**ADA))
    stranger, replayed = await enroll_member(other.id, NewMember(**ADA))

    assert not replayed
    assert stranger.id != member.id
    assert await get_member(other.id, MemberRef(id=member.id)) is None
    wrong = update_member(other.id, MemberRef(id=member.id), {"name": "Mine"})
    assert await refusal(wrong) == {(ErrorCode.NOT_FOUND, ("member", "id"))}


async def test_an_address_belongs_to_one_member_whatever_its_case() -> None:
    program = await make_program()
    await make_member(program.id, email="ada@example.com")
    taken = {(ErrorCode.ALREADY_EXISTS, ("email",))}

    wrong = enroll_member(program.id, NewMember(external_id="B", email="ADA@example.COM"))
    assert await refusal(wrong) == taken
    assert await get_member(program.id, MemberRef(external_id="B")) is None
    bob = await make_member(program.id)
    assert (
        await refusal(update_member(program.id, MemberRef(id=bob.id), {"email": "Ada@Example.com"})) == taken
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("external_id", text) for text in ("", "x" * 256, " a", "a ", "a\n", "a\0b", "\ud800", "a\u200bb")),
        *(("email", text) for text in ("", "ada", "@x", "a@", "a@b@c", "a b@c", "a@b\0", "a@" + "x" * 319)),
        *(("phone", text) for text in ("", "x", "+", "1" * 41, "٣٤٥", "1\n")),
        *(("name", text) for text in ("", "x" * 256, "a\nb", "a\0", "\ud800", " Ada")),
        *(("birthday", day) for day in (date(1899, 12, 31), date(9999, 1, 1))),
        *(("locale", text) for text in ("", "d", "de_AT", "de-", "x" * 9, "de-" + "a-" * 20 + "b")),
        ("attributes", []),
        ("attributes", {"a": "x" * 16_384}),
        ("attributes", {"a": "\0"}),
        ("attributes", {"\\\0": 1}),
        ("attributes", {"a": "\ud800"}),
        ("attributes", {"a": 2**70}),
    ],
)
async def test_what_is_wrong_with_a_member_names_its_field(field: str, value: object) -> None:
    program = await make_program()
    expected = {(ErrorCode.INVALID, (field,))}
    fields: dict[str, Any] = {"external_id": "A", field: value}

    assert await refusal(enroll_member(program.id, NewMember(**fields))) == expected
    if field != "external_id":
        member = await make_member(program.id)
        assert await refusal(update_member(program.id, MemberRef(id=member.id), {field: value})) == expected


async def test_nobody_joins_in_the_future_or_before_1900() -> None:
    program = await make_program()
    for joined_at in (clock.now() + timedelta(minutes=6), datetime(1899, 1, 1, tzinfo=UTC)):
        wrong = enroll_member(program.id, NewMember(external_id="A", joined_at=joined_at))
        assert await refusal(wrong) == {(ErrorCode.INVALID, ("joined_at",))}
    await make_member(program.id, joined_at=clock.now() + timedelta(minutes=4))


async def test_everything_that_is_wrong_is_told_at_once() -> None:
    program = await make_program()
    wrong = enroll_member(program.id, NewMember(external_id="", email="", phone="x", name="", locale="-"))
    assert {field for _, field in await refusal(wrong)} == {
        *((name,) for name in ("external_id", "email", "phone", "name", "locale"))
    }


async def test_names_of_every_script_are_taken() -> None:
    program = await make_program()
    for name in ("Zoë Ågård", "山田 太郎", "می\u200cخواهم", "O’Neill-Šmíd", "👩\u200d🍳"):
        assert (await make_member(program.id, name=name)).name == name


async def test_a_batch_is_enrolled_member_by_member() -> None:
    program = await make_program()
    there = await make_member(program.id, external_id="there", email="there@x.org")
    batch = [
        NewMember(external_id="new", email="new@x.org"),
        NewMember(external_id="", email="?"),
        NewMember(external_id="there"),
        NewMember(external_id="taken", email="THERE@x.org"),
        NewMember(external_id="new", email="other@x.org"),
        NewMember(external_id="plain"),
    ]

    new, bad, known, taken, twice, plain = await enroll_members(program.id, batch)

    assert new.member
    assert (new.member.external_id, new.replayed) == ("new", False)
    assert {error.field for error in bad.errors} == {("external_id",), ("email",)}
    assert (known.member, known.replayed) == (there, True)
    assert [(error.code, error.field) for error in taken.errors] == [(ErrorCode.ALREADY_EXISTS, ("email",))]
    assert (twice.member, twice.replayed) == (new.member, True)
    assert plain.member
    assert not plain.replayed


async def test_batches_that_overlap_do_not_stop_each_other() -> None:
    program = await make_program()
    batch = [NewMember(external_id=f"M{n}", email=f"m{n}@x.org") for n in range(200)]

    results = await asyncio.gather(
        *(enroll_members(program.id, batch[n::-1] + batch[n:]) for n in range(0, 200, 50))
    )

    assert all(outcome.member for outcomes in results for outcome in outcomes)
    async with connection() as sql:
        assert await sql.fetchval("SELECT count(*) FROM account WHERE program_id = $1", program.id) == 200


async def test_what_is_left_out_stays_and_null_clears() -> None:
    program = await make_program()
    member, _ = await enroll_member(program.id, NewMember(**ADA))
    ref = MemberRef(external_id="A-1")

    changed = await update_member(program.id, ref, {"name": "Ada King", "phone": None})
    assert (changed.name, changed.phone, changed.email) == ("Ada King", None, "Ada@Example.com")
    assert changed.updated_at > member.updated_at
    optional = ("email", "phone", "name", "birthday", "locale", "attributes")
    cleared = await update_member(program.id, ref, dict.fromkeys(optional))
    assert {getattr(cleared, name) for name in optional[:-1]} == {None}
    assert cleared.attributes == {}
    assert await get_member(program.id, ref) == cleared


async def test_updating_to_what_is_there_changes_nothing() -> None:
    program = await make_program()
    member, _ = await enroll_member(program.id, NewMember(**ADA))
    assert (
        await update_member(program.id, MemberRef(email="ada@example.com"), {"name": ADA["name"]}) == member
    )
    assert await update_member(program.id, MemberRef(id=member.id), {}) == member


async def test_updates_at_the_same_time_lose_nothing() -> None:
    program = await make_program()
    member = await make_member(program.id)
    changes: list[dict[str, Any]] = [
        {"name": "Ada"},
        {"phone": "1"},
        {"locale": "en"},
        {"status": "SUSPENDED"},
    ]

    await asyncio.gather(*(update_member(program.id, MemberRef(id=member.id), change) for change in changes))

    row = await get_member(program.id, MemberRef(id=member.id))
    assert row is not None
    assert (row.name, row.phone, row.locale, row.status) == ("Ada", "1", "en", "SUSPENDED")


async def test_a_closed_membership_stays_closed() -> None:
    program = await make_program()
    member = await make_member(program.id)
    ref = MemberRef(id=member.id)

    for status in ("SUSPENDED", "ACTIVE", "SUSPENDED", "CLOSED", "CLOSED"):
        assert (await update_member(program.id, ref, {"status": status})).status == status
    for status in ("ACTIVE", "SUSPENDED"):
        wrong = update_member(program.id, ref, {"status": status})
        assert await refusal(wrong) == {(ErrorCode.WRONG_STATE, ("status",))}
    assert await refusal(update_member(program.id, ref, {"status": None})) == {
        (ErrorCode.INVALID, ("status",))
    }
    assert (await update_member(program.id, ref, {"name": None})).status == "CLOSED"


async def test_a_member_who_is_not_there_is_not_found() -> None:
    program = await make_program()
    for ref in (MemberRef(id=uuid4()), MemberRef(external_id="nobody\0"), MemberRef(email="\ud800@x")):
        assert await get_member(program.id, ref) is None
        wrong = update_member(program.id, ref, {"name": "A"})
        assert await refusal(wrong) == {(ErrorCode.NOT_FOUND, ("member", ref.field))}

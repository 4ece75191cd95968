import asyncio

import pytest

from app.database import connection
from app.errors import ErrorCode
from app.members import reads
from app.members.inputs import NewMember
from app.members.reads import MemberRef, find_members, list_members
from app.members.service import enroll_members
from app.paging import make_page
from app.programs.models import Program
from tests.programs.making import make_member, make_program
from tests.programs.test_service import refusal

PEOPLE = [
    ("C-100", "Ada@Example.com", "+44 20 1", "Ada Lovelace"),
    ("C-101", "bob@example.com", "+44 20 2", "Bob_Ross%"),
    ("c-102", "CARL@example.com", "030 1", "carl"),
    ("ADA-1", None, None, "Zoë"),
    ("X-1", "z@example.com", "+1 555", None),
    ("100%", "y@example.com", None, "Élodie"),
]


@pytest.fixture
async def program() -> Program:
    made = await make_program()
    for external_id, email, phone, name in PEOPLE:
        await make_member(made.id, external_id=external_id, email=email, phone=phone, name=name)
    other = await make_program()
    await make_member(other.id, external_id="C-100", email="ada@example.com", name="Ada of another program")
    return made


async def test_references_of_all_kinds_are_resolved_in_their_order_by_three_statements(
    program: Program,
) -> None:
    async with connection() as sql:
        members = {row.external_id: row for row in (await list_members(program.id, make_page())).items}
        ada = members["C-100"]
        refs = [
            MemberRef(email="ADA@example.COM"),
            MemberRef(external_id="nobody"),
            MemberRef(id=ada.id),
            MemberRef(external_id="c-100"),
            MemberRef(external_id="C-100"),
            MemberRef(email="ada@example.com "),
            MemberRef(external_id="X-1"),
            MemberRef(id=ada.id),
            MemberRef(external_id="nul\0"),
        ]
        statements: list[str] = []
        with sql.query_logger(lambda query: statements.append(query.query)):
            found = await find_members(sql, program.id, refs)
        # asyncpg tells its listeners a moment later.
        await asyncio.sleep(0.01)
        assert found == [ada, None, ada, None, ada, None, members["X-1"], ada, None]
        assert len(statements) == 3
        assert await find_members(sql, program.id, []) == []


def test_a_reference_names_a_member_in_exactly_one_way() -> None:
    for fields in ({}, {"external_id": "a", "email": "a@b"}):
        with pytest.raises(AssertionError):
            MemberRef(**fields)


@pytest.mark.parametrize("few", [1000, 0])
@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("C-10", ["C-100", "C-101"]),
        ("c-10", ["c-102"]),
        ("ada", ["C-100"]),
        ("ADA", ["C-100", "ADA-1"]),
        ("  ada l  ", ["C-100"]),
        ("lovelace", []),
        ("+44 20", ["C-100", "C-101"]),
        ("030", ["c-102"]),
        ("carl@", ["c-102"]),
        ("zoë", ["ADA-1"]),
        ("Él", ["100%"]),
        ("%", []),
        ("_", []),
        ("100%", ["100%"]),
        ("bob_", ["C-101"]),
        ("bob%", []),
        ("", [external_id for external_id, *_ in PEOPLE]),
        (None, [external_id for external_id, *_ in PEOPLE]),
    ],
)
async def test_a_search_finds_beginnings(
    program: Program, search: str | None, found: list[str], few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "_ARE_FEW", reads._ARE_FEW.replace("<= 1000", f"<= {few}"))
    page = await list_members(program.id, make_page(), search)
    assert [row.external_id for row in page.items] == found


async def test_a_list_is_paged_by_its_keys_in_both_directions() -> None:
    program = await make_program()
    batch = [NewMember(external_id=f"M{n:02}", name="Ada" if n % 2 else "Bob") for n in range(25)]
    await enroll_members(program.id, batch)

    for search, expected in ((None, 25), ("ada", 12)):
        seen: list[str] = []
        page = await list_members(program.id, make_page(first=5), search)
        while True:
            seen += [row.external_id for row in page.items]
            if not page.has_next:
                break
            page = await list_members(program.id, make_page(first=5, after=(page.items[-1].id,)), search)
        assert len(seen) == len(set(seen)) == expected
        last = await list_members(program.id, make_page(last=5), search)
        assert [row.external_id for row in last.items] == seen[-5:]
        assert (last.has_next, last.has_previous) == (False, True)
        back = await list_members(program.id, make_page(last=5, before=(last.items[0].id,)), search)
        assert [row.external_id for row in back.items] == seen[-10:-5]


@pytest.mark.parametrize("search", ["x" * 321, "a\0", "\ud800"])
async def test_a_search_that_cannot_be_is_refused(search: str) -> None:
    program = await make_program()
    wrong = list_members(program.id, make_page(), search)
    assert await refusal(wrong) == {(ErrorCode.INVALID, ("search",))}


async def test_searches_are_answered_from_the_indexes() -> None:
    program = await make_program()
    async with connection() as sql:
        args = [program.id, "zz", "zz\U0010ffff", "zz", "zz\U0010ffff"]
        plan = "\n".join(row[0] for row in await sql.fetch(f"EXPLAIN {reads._ARE_FEW}", *args))
    for index in ("member_external_id_key", "member_phone", "member_email_key", "member_name"):
        assert f"Index Scan using {index} " in plan, plan

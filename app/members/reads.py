"""Members, read: one, many at once in three statements at most, or a page of them."""

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import asyncpg

from app.database import connection
from app.errors import ErrorCode, refuse
from app.paging import Page, PageResult, keyset, page_result
from app.text import is_line

Found = TypeVar("Found")

LONGEST_SEARCH = 320

GIVEN_COLUMNS = (
    "id, program_id, external_id, email, phone, name, birthday, locale, attributes, status, "
    "joined_at, created_at, updated_at"
)
COLUMNS = f"{GIVEN_COLUMNS}, referral_code"
"""Those that are given, and what the database adds."""
_QUALIFIED = ", ".join(f"m.{column}" for column in COLUMNS.split(", "))

# No text that starts with a prefix sorts after the prefix and this, the last code point of all.
_LAST = "\U0010ffff"
_TO_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)

# Ranges instead of LIKE: nothing to escape, and the indexes serve them under any plan. Each has an
# index of its own, in the order of which it is read as far as it is asked for.
_RANGES = {
    "external_id": "external_id >= $2 AND external_id < $3",
    "phone": "phone >= $2 AND phone < $3",
    "lower(email)": "lower(email) >= $4 AND lower(email) < $5",
    "lower(name)": "lower(name) >= $4 AND lower(name) < $5",
}
# Up to so many matches in each are collected and sorted. What more members match is found soon by
# walking along the ids. The planner cannot tell the two apart: it may walk along all ids for one match.
_FEW = 1000
_COLLECTED = " UNION ".join(
    f"(SELECT id FROM member WHERE program_id = $1 AND {within} ORDER BY {key} LIMIT {_FEW + 1})"  # noqa: S608
    for key, within in _RANGES.items()
)
_ARE_FEW = f"SELECT count(*) <= {_FEW} FROM ({_COLLECTED}) AS found"  # noqa: S608
_AMONG_FEW = f"id = ANY (ARRAY({_COLLECTED}))"
_AMONG_MANY = f"(({') OR ('.join(_RANGES.values())}))"


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A member as the database has them; times are in UTC, `attributes` is a JSON object."""

    id: UUID
    program_id: UUID
    external_id: str
    email: str | None
    phone: str | None
    name: str | None
    birthday: date | None
    locale: str | None
    attributes: dict[str, Any]
    status: str
    joined_at: datetime
    created_at: datetime
    updated_at: datetime
    referral_code: str


@dataclass(frozen=True, slots=True)
class MemberRef:
    """What names a member within a program: exactly one of the three.

    E-mail addresses are matched without regard to the case of a to z.
    """

    id: UUID | None = None
    external_id: str | None = None
    email: str | None = None

    def __post_init__(self) -> None:
        given = (self.id is not None) + (self.external_id is not None) + (self.email is not None)
        assert given == 1, "a reference names a member in exactly one way"

    @property
    def field(self) -> str:
        """By what it names the member: the field to blame when there is none."""
        return "id" if self.id is not None else "email" if self.email is not None else "external_id"


class MemberState(NamedTuple):
    """What recording needs to know of a member."""

    id: UUID
    status: str


_MATCHES = {
    "id": ("uuid", "m.id = t.value"),
    "external_id": ("text", "m.external_id = t.value"),
    "email": ("text", 'lower(m.email) = lower(t.value COLLATE "C")'),
}
# One after the other: as a join it would read all members of the program, wherever the planner takes that
# for few. No two members match.
_BY = {
    field: f"unnest($2::{type_}[]) WITH ORDINALITY AS t(value, n) CROSS JOIN LATERAL"  # noqa: S608
    f" (SELECT {COLUMNS} FROM member m WHERE m.program_id = $1 AND {match} LIMIT 1) m"
    for field, (type_, match) in _MATCHES.items()
}
_WHOLE = {field: f"SELECT t.n, {_QUALIFIED} FROM {found}" for field, found in _BY.items()}  # noqa: S608
_STATES = {field: f"SELECT t.n, m.id, m.status FROM {found}" for field, found in _BY.items()}  # noqa: S608


async def find_members(
    sql: asyncpg.Connection, program_id: UUID, refs: Sequence[MemberRef]
) -> list[MemberRow | None]:
    """Return the members that references name, in their order, and None for those that name nobody.

    Args:
        sql: any connection; within a transaction it sees what that has written.
        refs: any mixture, repetitions too; one statement for each way of naming that is used.
    """
    return await _find(sql, _WHOLE, MemberRow, program_id, refs)


async def find_states(
    sql: asyncpg.Connection, program_id: UUID, refs: Sequence[MemberRef]
) -> list[MemberState | None]:
    """Return what recording needs of the members that references name, as `find_members` does."""
    return await _find(sql, _STATES, MemberState, program_id, refs)


async def _find(
    sql: asyncpg.Connection,
    statements: Mapping[str, str],
    make: Callable[..., Found],
    program_id: UUID,
    refs: Sequence[MemberRef],
) -> list[Found | None]:
    found: list[Found | None] = [None] * len(refs)
    for field, values in (
        ("id", [(ref.id, n) for n, ref in enumerate(refs) if ref.id is not None]),
        ("external_id", [(ref.external_id, n) for n, ref in enumerate(refs) if _storable(ref.external_id)]),
        ("email", [(ref.email, n) for n, ref in enumerate(refs) if _storable(ref.email)]),
    ):
        if not values:
            continue
        for row in await sql.fetch(statements[field], program_id, [value for value, _ in values]):
            found[values[row[0] - 1][1]] = make(*row[1:])
    return found


def _storable(text: str | None) -> bool:
    # PostgreSQL has no NUL and no halves of surrogate pairs: asking for them would be an error there.
    return text is not None and is_line(text)


async def get_member(program_id: UUID, ref: MemberRef) -> MemberRow | None:
    """Return one member of a program; None when the reference names nobody there."""
    async with connection() as sql:
        return (await find_members(sql, program_id, [ref]))[0]


async def get_members(program_id: UUID, member_ids: Sequence[UUID]) -> list[MemberRow | None]:
    """Return members of a program in the order of the ids given; None where it has none."""
    async with connection() as sql:
        return await find_members(sql, program_id, [MemberRef(id=member_id) for member_id in member_ids])


async def list_members(program_id: UUID, page: Page, search: str | None = None) -> PageResult[MemberRow]:
    """Return a page of a program's members, in the order in which they were enrolled.

    Args:
        page: its keys are (id,).
        search: how an external id, an e-mail address, a phone number or a name begins; e-mail
            addresses and names without regard to the case of a to z. Space around it is nothing.

    Raises:
        Refused: INVALID, the search is longer than 320 characters or not a line of text.
    """
    prefix = (search or "").strip()
    if len(prefix) > LONGEST_SEARCH or not is_line(prefix):
        message = f"Search must be a line of at most {LONGEST_SEARCH} characters."
        raise refuse(ErrorCode.INVALID, message, "search")
    async with connection() as sql:
        args: list[Any] = [program_id]
        matches = "TRUE"
        if prefix:
            args += [prefix, prefix + _LAST, _lower(prefix), _lower(prefix) + _LAST]
            matches = _AMONG_FEW if await sql.fetchval(_ARE_FEW, *args) else _AMONG_MANY
        keys = keyset(["id"], page=page, first_param=len(args) + 1)
        statement = f"""
            SELECT {COLUMNS} FROM member WHERE program_id = $1 AND {matches} AND {keys.where}
            ORDER BY {keys.order_by} LIMIT {keys.limit}
        """  # noqa: S608 - parts that are constants, values are parameters
        rows = await sql.fetch(statement, *args, *keys.args)
    return page_result([MemberRow(*row) for row in rows], page)


def _lower(text: str) -> str:
    """Return a text as lower() of PostgreSQL makes it under the collation "C": a to z only."""
    return text.translate(_TO_LOWER)

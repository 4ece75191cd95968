"""Members: enrolled once, changed field by field, closed for good."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from app import clock
from app.access.cache import forget, member_credential
from app.access.tenancy import scoped
from app.database import retrying, transaction
from app.earning.batch import Earned, count
from app.earning.occasions import record_enrolments, record_update
from app.errors import ErrorCode, Refused, UserError, refuse
from app.ids import new_id
from app.members.inputs import PROFILE, MemberStatus, NewMember, check_new, check_profile
from app.members.models import Member
from app.members.reads import COLUMNS, GIVEN_COLUMNS, MemberRef, MemberRow, find_members
from app.referrals.enrolling import Bringing, find_referrers, record_referrals, record_self_referrals
from app.validation import INTEGRITY_ERRORS, Problems, violated_constraint

CHANGEABLE = (*PROFILE, "status")
"""What can be changed of a member."""

_EMAIL_TAKEN = UserError(ErrorCode.ALREADY_EXISTS, "Another member has this e-mail address.", ("email",))

_NO_SUCH_CODE = UserError(ErrorCode.NOT_FOUND, "No member has this referral code.", ("referral_code",))

MAX_BATCH = 1000

# Whoever is there already, by external id or by e-mail address, is passed over, not an error that
# would undo the others. The account opens on the day that it is in the program's zone; inactivity
# counts from there.
_ENROLL = f"""
WITH added AS (
    INSERT INTO member ({GIVEN_COLUMNS})
    SELECT t.id, $1, t.external_id, t.email, t.phone, t.name, t.birthday, t.locale, t.attributes, 'ACTIVE',
        t.joined_at, $2, $2
    FROM unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::date[], $9::text[],
            $10::jsonb[], $11::timestamptz[])
        AS t(id, external_id, email, phone, name, birthday, locale, attributes, joined_at)
    ON CONFLICT DO NOTHING
    RETURNING *
), opened AS (
    INSERT INTO account (id, program_id, member_id, active_on)
    SELECT a.id, a.program_id, a.id, ($2::timestamptz AT TIME ZONE p.timezone)::date
    FROM added a JOIN program p ON p.id = a.program_id
)
SELECT {COLUMNS}, (SELECT rules_version FROM program WHERE id = $1) AS rules_version FROM added
"""  # noqa: S608 - nothing but constants


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What became of one enrolment: a member, who may have been there before, or what is wrong."""

    member: MemberRow | None = None
    replayed: bool = False
    errors: tuple[UserError, ...] = ()


async def enroll_member(program_id: UUID, member: NewMember) -> tuple[MemberRow, bool]:
    """Add a member with an account; the same external id again answers with who is there.

    The account holds what rules pay for joining, and for telling all about oneself, at once. Who gives a
    friend's referral code was brought by that friend: a worker sees to what becomes of it. Members who were
    there before were brought by nobody; with their own code that is kept as a referral that was rejected.

    Returns:
        The member, and whether they were there before: then nothing was changed.

    Raises:
        Refused: INVALID with everything that is wrong, NOT_FOUND for a referral code that nobody has, or
            ALREADY_EXISTS for the e-mail address of another member.
    """
    (enrolled,) = await enroll_members(program_id, [member])
    if enrolled.member is None:
        raise Refused(enrolled.errors)
    return enrolled.member, enrolled.replayed


async def enroll_members(program_id: UUID, members: Sequence[NewMember]) -> list[Enrolled]:
    """Add up to 1,000 members, each by itself, in one transaction; `enroll_member` tells the rules.

    Returns:
        One outcome for each, in their order.
    """
    assert len(members) <= MAX_BATCH
    moment = clock.now()
    outcomes = [_checked(member, moment) for member in members]
    # In one order for everybody, so that two batches do not wait for each other.
    sound = sorted(
        (n for n, outcome in enumerate(outcomes) if not outcome.errors), key=lambda n: members[n].external_id
    )
    if not sound:
        return outcomes

    earned: list[Earned] = []

    async def enroll() -> None:
        async with transaction() as sql:
            codes = {n: code for n in sound if (code := members[n].referral_code) is not None}
            referrers = await find_referrers(sql, program_id, codes)
            for n in codes.keys() - referrers.keys():
                outcomes[n] = Enrolled(errors=(_NO_SUCH_CODE,))
            good = [n for n in sound if n not in codes or n in referrers]
            if not good:
                return
            rows = [_row(members[n], moment) for n in good]
            found = await sql.fetch(_ENROLL, program_id, moment, *map(list, zip(*rows, strict=True)))
            added = {row["id"]: MemberRow(*row[:-1]) for row in found}
            others = [n for n, row in zip(good, rows, strict=True) if row[0] not in added]
            # A new statement, which sees whom others have added meanwhile.
            there = await find_members(
                sql, program_id, [MemberRef(external_id=members[n].external_id) for n in others]
            )
            earned.clear()
            if found:
                version = found[0]["rules_version"]
                earned[:] = await record_enrolments(sql, program_id, version, list(added.values()), moment)
            if referrers:
                brought = {n: row[0] for n, row in zip(good, rows, strict=True) if row[0] in added}
                known_by = {n: known.id for n, known in zip(others, there, strict=True) if known}
                await _record_referrals(sql, program_id, referrers, brought, known_by, moment)
        for n, row in zip(good, rows, strict=True):
            if row[0] in added:
                outcomes[n] = Enrolled(added[row[0]])
        for n, known in zip(others, there, strict=True):
            outcomes[n] = Enrolled(known, replayed=True) if known else Enrolled(errors=(_EMAIL_TAKEN,))

    await retrying(enroll)
    count(earned)
    return outcomes


async def _record_referrals(
    sql: asyncpg.Connection,
    program_id: UUID,
    referrers: Mapping[int, UUID],
    added: Mapping[int, UUID],
    known: Mapping[int, UUID],
    moment: datetime,
) -> None:
    """Keep by whom members were brought, and who of those who were there gave their own code; by position."""
    brought = [Bringing(referrers[n], member) for n, member in added.items() if n in referrers]
    await record_referrals(sql, program_id, brought, moment)
    own = {member for n, member in known.items() if referrers.get(n) == member}
    await record_self_referrals(sql, program_id, own, moment)


def _row(member: NewMember, moment: datetime) -> tuple[Any, ...]:
    """Return a member as they are written."""
    return (
        new_id(),
        member.external_id,
        *(getattr(member, name) for name in PROFILE[:-1]),
        member.attributes or {},
        member.joined_at or moment,
    )


def _checked(member: NewMember, moment: datetime) -> Enrolled:
    problems = Problems()
    check_new(member, problems, moment)
    return Enrolled(errors=problems.errors)


async def update_member(program_id: UUID, ref: MemberRef, changes: Mapping[str, Any]) -> MemberRow:
    """Change some of what is known of a member, and return them.

    A profile that is complete then pays, once for good, where a rule does that.

    Args:
        changes: only what is to change, by the names in CHANGEABLE; None clears all but the status.
            ACTIVE and SUSPENDED follow each other freely, CLOSED is for good.

    Raises:
        Refused: INVALID with everything that is wrong, NOT_FOUND, ALREADY_EXISTS for the e-mail
            address of another member, or WRONG_STATE for opening a closed membership.
    """
    assert changes.keys() <= set(CHANGEABLE), changes.keys()
    moment = clock.now()
    problems = Problems()
    check_profile({name: value for name, value in changes.items() if name != "status"}, problems, moment)
    if "status" in changes and changes["status"] is None:
        problems.add("Status cannot be null.", "status")
    problems.refuse_any()
    # An empty object is what no attributes are.
    columns = dict(changes)
    if "attributes" in columns:
        columns["attributes"] = columns["attributes"] or {}
    if "status" in columns:
        columns["status"] = MemberStatus(columns["status"]).value

    earned: list[Earned] = []

    async def update() -> MemberRow:
        async with transaction() as sql:
            if "status" in columns:
                await _lock_account(sql, program_id, ref)
            row = await lock_member(sql, program_id, ref)
            if row is None:
                raise refuse(ErrorCode.NOT_FOUND, "There is no such member.", "member", ref.field)
            if columns.get("status", row.status) != row.status == MemberStatus.CLOSED:
                raise refuse(ErrorCode.WRONG_STATE, "A closed membership cannot be opened again.", "status")
            changed = {name: value for name, value in columns.items() if getattr(row, name) != value}
            if changed:
                await scoped(Member, program_id).filter(id=row.id).update(**changed, updated_at=moment)
                row = replace(row, **changed, updated_at=moment)
            earned[:] = await record_update(sql, row, moment)
            return row

    try:
        row = await retrying(update)
    except INTEGRITY_ERRORS as error:
        if violated_constraint(error) != "member_email_key":
            raise
        raise Refused([_EMAIL_TAKEN]) from None
    count(earned)
    if row.status == MemberStatus.CLOSED:
        forget(member_credential(row.id))
    return row


async def _lock_account(sql: asyncpg.Connection, program_id: UUID, ref: MemberRef) -> None:
    """Wait for whoever earns or spends for a member: once they are suspended, nothing of that is to come."""
    (found,) = await find_members(sql, program_id, [ref])
    if found is not None:
        statement = "SELECT id FROM account WHERE program_id = $1 AND member_id = $2 FOR NO KEY UPDATE"
        await sql.execute(statement, program_id, found.id)


async def lock_member(sql: asyncpg.Connection, program_id: UUID, ref: MemberRef) -> MemberRow | None:
    """Return a member whom nobody else can change until the transaction of `sql` ends."""
    (found,) = await find_members(sql, program_id, [ref])
    if found is None:
        return None
    statement = f"SELECT {COLUMNS} FROM member WHERE program_id = $1 AND id = $2 FOR NO KEY UPDATE"  # noqa: S608
    return MemberRow(*await sql.fetchrow(statement, program_id, found.id))

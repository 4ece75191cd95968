from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest

from app import clock
from app.access.tokens import InvalidCredential, MemberTokens, create_member_token
from app.errors import ErrorCode
from app.members.reads import MemberRef
from app.members.service import update_member
from tests.programs.making import make_member, make_program
from tests.programs.test_service import refusal

TOKENS = MemberTokens("a secret of the tests")
PROGRAM, MEMBER = uuid4(), uuid4()


def forged(header: dict[str, Any] | None = None, key: bytes | None = None, **changes: Any) -> str:
    """Return a token as ours is, but for the changes; None takes a claim away."""
    now = int(clock.now().timestamp())
    claims = {
        "aud": "laurel",
        "sub": str(MEMBER),
        "prg": str(PROGRAM),
        "iat": now,
        "exp": now + 60,
        "jti": "1",
    } | changes
    algorithm = (header or {}).get("alg", "HS256")
    return jwt.encode(
        {name: value for name, value in claims.items() if value is not None},
        None if algorithm == "none" else key or TOKENS._key,
        algorithm,
        {"typ": "laurel-member", **(header or {})},
    )


def test_a_token_says_whom_it_was_made_for() -> None:
    moment = datetime(2026, 3, 1, 12, 0, 0, 999_999, tzinfo=UTC)
    assert TOKENS.issue(PROGRAM, MEMBER, 60, moment).expires_at == datetime(2026, 3, 1, 12, 1, tzinfo=UTC)

    claims = TOKENS.verify(TOKENS.issue(PROGRAM, MEMBER, 86_400, clock.now()).token)

    assert (claims.program_id, claims.member_id) == (PROGRAM, MEMBER)
    assert TOKENS.verify(forged()).member_id == MEMBER


def test_the_signing_key_is_not_the_secret_itself() -> None:
    token = TOKENS.issue(PROGRAM, MEMBER, 60, clock.now()).token
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(token, b"a secret of the tests".ljust(32), algorithms=["HS256"], audience="laurel")


def test_an_old_token_says_that_it_has_expired() -> None:
    token = TOKENS.issue(PROGRAM, MEMBER, 60, clock.now() - timedelta(seconds=66)).token
    with pytest.raises(InvalidCredential, match="expired"):
        TOKENS.verify(token)
    TOKENS.verify(TOKENS.issue(PROGRAM, MEMBER, 60, clock.now() - timedelta(seconds=62)).token)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "..",
        "a.b.c",
        forged(key=b"another secret, long enough for HS256"),
        forged(header={"alg": "none"}),
        forged(header={"alg": "HS512"}, key=b"x" * 64),
        forged(header={"typ": "JWT"}),
        forged(aud="another"),
        forged(aud=None),
        forged(sub=None),
        forged(sub="not-a-uuid"),
        forged(prg=None),
        forged(prg=17),
        forged(prg="not-a-uuid"),
        forged(iat=None),
        forged(jti=None),
        forged(exp=None),
        forged(exp="soon"),
        forged(exp=2**62),
        forged(exp=int(clock.now().timestamp()) + 90_000),
        forged(iat=int(clock.now().timestamp()) + 3_600, exp=int(clock.now().timestamp()) + 7_200),
        forged()[:-2] + "xx",
    ],
)
def test_nothing_but_our_own_tokens_is_taken(token: str) -> None:
    with pytest.raises(InvalidCredential):
        TOKENS.verify(token)


def test_another_installations_token_opens_nothing() -> None:
    with pytest.raises(InvalidCredential):
        MemberTokens("another secret").verify(TOKENS.issue(PROGRAM, MEMBER, 60, clock.now()).token)


async def test_a_token_is_made_for_a_member_of_the_program_only() -> None:
    program, other = await make_program(), await make_program()
    member = await make_member(program.id, email="Ada@example.com")

    made = await create_member_token(TOKENS, program.id, MemberRef(email="ada@EXAMPLE.com"), 60)
    assert TOKENS.verify(made.token).member_id == member.id
    assert TOKENS.verify(made.token).expires_at == made.expires_at

    wrong = create_member_token(TOKENS, other.id, MemberRef(id=member.id), 60)
    assert await refusal(wrong) == {(ErrorCode.NOT_FOUND, ("member", "id"))}
    for seconds in (59, 86_401, -1):
        wrong = create_member_token(TOKENS, program.id, MemberRef(id=member.id), seconds)
        assert await refusal(wrong) == {(ErrorCode.INVALID, ("expires_in_seconds",))}


async def test_suspended_members_may_read_and_closed_ones_may_not() -> None:
    program = await make_program()
    member = await make_member(program.id)
    ref = MemberRef(id=member.id)

    await update_member(program.id, ref, {"status": "SUSPENDED"})
    await create_member_token(TOKENS, program.id, ref)
    await update_member(program.id, ref, {"status": "CLOSED"})

    wrong = create_member_token(TOKENS, program.id, ref)
    assert await refusal(wrong) == {(ErrorCode.WRONG_STATE, ("member",))}

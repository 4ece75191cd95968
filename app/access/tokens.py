"""Member tokens: signed, short-lived, and good for one member's own data only."""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import jwt

from app import clock
from app.errors import ErrorCode, Refused, UserError
from app.ids import new_id
from app.members.reads import MemberRef, get_member

SHORTEST_SECONDS = 60
LONGEST_SECONDS = 86_400

_ALGORITHM = "HS256"
_AUDIENCE = "laurel"
_TYPE = "laurel-member"
_LEEWAY_SECONDS = 5
_CLAIMS = ("sub", "prg", "iat", "exp", "jti", "aud")


class InvalidCredential(Exception):
    """A credential opens nothing. The message is for its sender, and tells nothing that they do not know."""


@dataclass(frozen=True, slots=True)
class MemberToken:
    """A token, and the second (UTC) from which it opens nothing any more."""

    token: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class MemberClaims:
    """What a token says: whom it was made for, in which program, and until when (UTC)."""

    program_id: UUID
    member_id: UUID
    expires_at: datetime


class MemberTokens:
    """Makes and checks the member tokens of an installation."""

    def __init__(self, secret_key: str) -> None:
        # Derived, so that the secret may sign other things too and none can be passed off as another.
        self._key = hmac.digest(secret_key.encode(), b"laurel member token", hashlib.sha256)

    def issue(
        self, program_id: UUID, member_id: UUID, expires_in_seconds: int, moment: datetime
    ) -> MemberToken:
        """Sign a token that holds from a moment (UTC) for so many seconds, 60 to 86,400."""
        assert SHORTEST_SECONDS <= expires_in_seconds <= LONGEST_SECONDS
        issued_at = moment.replace(microsecond=0)
        expires_at = issued_at + timedelta(seconds=expires_in_seconds)
        claims = {
            "aud": _AUDIENCE,
            "sub": str(member_id),
            "prg": str(program_id),
            "iat": int(issued_at.timestamp()),
            "exp": int(expires_at.timestamp()),
            "jti": str(new_id()),
        }
        return MemberToken(jwt.encode(claims, self._key, _ALGORITHM, headers={"typ": _TYPE}), expires_at)

    def verify(self, token: str) -> MemberClaims:
        """Return what a token says, when this installation signed it and its time is not over.

        Clocks of several machines may differ by five seconds.

        Raises:
            InvalidCredential: in any other case.
        """
        try:
            decoded = jwt.decode_complete(
                token,
                self._key,
                algorithms=[_ALGORITHM],
                audience=_AUDIENCE,
                leeway=_LEEWAY_SECONDS,
                options={"require": list(_CLAIMS)},
            )
            claims = decoded["payload"]
            if decoded["header"].get("typ") != _TYPE or claims["exp"] - claims["iat"] > LONGEST_SECONDS:
                raise InvalidCredential("The member token is not valid.")
            expires_at = datetime.fromtimestamp(claims["exp"], UTC)
            return MemberClaims(UUID(claims["prg"]), UUID(claims["sub"]), expires_at)
        except jwt.ExpiredSignatureError:
            raise InvalidCredential("The member token has expired.") from None
        except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError):
            raise InvalidCredential("The member token is not valid.") from None


async def create_member_token(
    tokens: MemberTokens, program_id: UUID, member: MemberRef, expires_in_seconds: int = 3600
) -> MemberToken:
    """Make a token with which a member's own app signs in.

    Raises:
        Refused: INVALID for a time outside of 60 to 86,400 seconds, NOT_FOUND for the member, or
            WRONG_STATE when their membership is closed. A suspended member may still read.
    """
    errors = []
    if not SHORTEST_SECONDS <= expires_in_seconds <= LONGEST_SECONDS:
        message = f"Expires in seconds must be between {SHORTEST_SECONDS} and {LONGEST_SECONDS}."
        errors.append(UserError(ErrorCode.INVALID, message, ("expires_in_seconds",)))
    found = await get_member(program_id, member)
    if found is None:
        errors.append(UserError(ErrorCode.NOT_FOUND, "There is no such member.", ("member", member.field)))
    elif found.status == "CLOSED":
        errors.append(UserError(ErrorCode.WRONG_STATE, "The membership is closed.", ("member",)))
    if errors or found is None:
        raise Refused(errors)
    return tokens.issue(program_id, found.id, expires_in_seconds, clock.now())

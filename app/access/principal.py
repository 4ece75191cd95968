"""Who is calling: the outcome of checking a credential, and all that the rest needs to know of it."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from app.access.scopes import Scope


class PrincipalKind(StrEnum):
    ANONYMOUS = "anonymous"
    PLATFORM = "platform"
    API_KEY = "api_key"
    MEMBER = "member"


@dataclass(frozen=True, slots=True)
class Principal:
    """A checked caller. `program_id` is set for keys and members, `member_id` for members only."""

    kind: PrincipalKind
    credential: str
    """Names the credential in logs and rate limits; never the secret itself."""
    scopes: frozenset[Scope] = frozenset()
    program_id: UUID | None = None
    member_id: UUID | None = None

    def may(self, scope: Scope) -> bool:
        """Tell whether a key has a scope. A member's token has none: it may what is marked for members."""
        return scope in self.scopes


ANONYMOUS = Principal(PrincipalKind.ANONYMOUS, "anonymous")

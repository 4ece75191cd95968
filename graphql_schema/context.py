"""What the resolvers of one request share."""

import secrets
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from starlette.requests import HTTPConnection
from strawberry.dataloader import DataLoader
from structlog.contextvars import get_contextvars

from app.access.principal import ANONYMOUS, Principal
from app.access.tokens import MemberTokens
from app.catalog.vault import Vault
from app.coalescing import Coalescer
from app.earning.events import Incoming
from app.earning.recording import Recorded
from app.live.hub import Hub
from app.redemptions.inputs import Wanted
from app.redemptions.taking import Taken
from app.stores.codes import CheckInCodes

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Services:
    """What lives as long as the process, for the resolvers that need more than functions."""

    tokens: MemberTokens
    recorder: Coalescer[Incoming, Recorded]
    redeemer: Coalescer[Wanted, Taken]
    codes: CheckInCodes
    vault: Vault
    hub: Hub


@dataclass(slots=True)
class Context:
    """One request: who calls, and the loaders that collect what its resolvers ask for one by one."""

    principal: Principal = ANONYMOUS
    request: HTTPConnection | None = None
    request_id: str = ""
    maybe_services: Services | None = None
    loaders: dict[Callable[..., Any], DataLoader[Any, Any]] = field(default_factory=dict)

    @property
    def services(self) -> Services:
        """What lives as long as the process; there in every request that comes in through the API."""
        assert self.maybe_services
        return self.maybe_services

    def loader(self, load: Callable[["Context", list[K]], Awaitable[Sequence[V]]]) -> DataLoader[K, V]:
        """Return this request's loader for a function that loads many at once, in the order of the keys.

        It lives as long as the request, so that nobody is answered from what another caller may see.
        """
        found = self.loaders.get(load)
        if found is None:
            found = self.loaders[load] = DataLoader(load_fn=partial(load, self))
        return found


def make_context(request: HTTPConnection, principal: Principal, services: Services | None = None) -> Context:
    """Return the context of a request, under the id that its logs and its answer carry, or one of its own."""
    request_id = get_contextvars().get("request_id")
    return Context(principal, request, request_id or secrets.token_hex(8), services)

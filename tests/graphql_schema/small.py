"""A small schema with something of everything, for the tests of what runs schemas."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

import strawberry

from app.access.principal import ANONYMOUS, Principal, PrincipalKind
from app.access.scopes import Scope
from app.errors import Denied, ErrorCode, Refused, Unavailable, UserError, refuse
from app.paging import PageResult
from graphql_schema.access import (
    ANY_CREDENTIAL,
    BY_TYPE,
    INHERITED,
    field,
    interface_type,
    object_type,
    resolver,
)
from graphql_schema.guard import readable
from graphql_schema.pagination import Connection, connection, page_of
from graphql_schema.scalars import JSON, Points

READER = Principal(PrincipalKind.API_KEY, "key:reader", frozenset({Scope.MEMBERS_READ}))
RULER = Principal(PrincipalKind.API_KEY, "key:ruler", frozenset({Scope.RULES_READ, Scope.RULES_WRITE}))
MEMBER = Principal(PrincipalKind.MEMBER, "member:ada")
NOBODY = ANONYMOUS

ran: list[str] = []
"""What has been executed, to see that nothing runs that is refused."""


@interface_type(description="Anything with an id.", access=BY_TYPE)
class Node:
    id: strawberry.ID = strawberry.field(description="Its id.")


@interface_type(description="Anything with a name.", access=INHERITED)
class Named:
    name: str = strawberry.field(description="Its name.")


@object_type(description="Points.", access=INHERITED)
class Balance:
    available: Points = strawberry.field(description="To spend.", default=Points(5))


@object_type(description="A member.", scope=Scope.MEMBERS_READ, member=True)
class Member(Node, Named):
    email: str | None = strawberry.field(description="An address.", default=None)
    notes: str = field(description="What the shop thinks.", scope=Scope.MEMBERS_WRITE, default="nice")
    balance: Balance = strawberry.field(description="Points.", default_factory=Balance)

    @resolver(description="Friends.", scope=Scope.MEMBERS_READ, member=True)
    async def friends(
        self,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> "Connection[Member]":
        page = page_of("Friends", (str,), first=first, after=after, last=last, before=before)
        friends = [ADA, BOB][: page.size]
        return connection(
            "Friends", PageResult(friends, False, False), lambda row: row, lambda row: (row.name,)
        )


@object_type(description="A rule.", scope=Scope.RULES_READ)
class Rule(Node, Named):
    secret: str = strawberry.field(description="How it works.", default="by magic")


ADA = Member(id=strawberry.ID("Member:1"), name="Ada")
BOB = Member(id=strawberry.ID("Member:2"), name="Bob")
RULE = Rule(id=strawberry.ID("Rule:1"), name="Double points")

Found = Annotated[Member | Rule, strawberry.union("Found", description="What a search finds.")]


@object_type(description="What can be read.")
class Query:
    @resolver(description="Says hello", access=ANY_CREDENTIAL)
    def hello(self, name: str = "you") -> str:
        ran.append("hello")
        return f"hello {name}"

    @resolver(description="A member.", scope=Scope.MEMBERS_READ, member=True)
    def member(self) -> Member:
        ran.append("member")
        return ADA

    @resolver(description="All members.", scope=Scope.MEMBERS_READ)
    def members(self, first: int | None = None, last: int | None = None) -> Connection[Member]:
        return connection(
            "Members", PageResult([ADA, BOB], False, False), lambda row: row, lambda row: (row.name,)
        )

    @resolver(description="Anything by its id.", access=ANY_CREDENTIAL)
    def node(self, info: strawberry.Info[Any, Any], id: strawberry.ID) -> Node | None:
        ran.append("node")
        type_name = id.split(":")[0]
        if type_name not in ("Member", "Rule") or not readable(info, type_name):
            return None
        return ADA if type_name == "Member" else RULE

    @resolver(
        description="For readers and writers.", scope=(Scope.RULES_READ, Scope.MEMBERS_WRITE), member=True
    )
    def either(self) -> str:
        return "either"

    @resolver(description="Things by their ids.", access=ANY_CREDENTIAL)
    def nodes(self, ids: list[strawberry.ID]) -> list[Node | None]:
        return [None for _ in ids]

    @resolver(description="Something with a name.", access=ANY_CREDENTIAL)
    def named(self) -> Named:
        ran.append("named")
        return RULE

    @resolver(description="A search.", access=ANY_CREDENTIAL)
    def search(self) -> list[Found]:
        ran.append("search")
        return [ADA, RULE]

    @resolver(description="Gives back what it gets.", access=ANY_CREDENTIAL)
    def echo(self, value: JSON, points: Points | None = None, many: list[int] | None = None) -> JSON:
        return value

    @resolver(description="Takes its time.", access=ANY_CREDENTIAL)
    async def slow(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"

    @resolver(description="Fails in some way.", access=ANY_CREDENTIAL)
    def fail(self, how: str) -> str | None:
        raise FAILURES[how]

    @resolver(description="Fails, and may not be null.", access=ANY_CREDENTIAL)
    def broken(self) -> int:
        return 2**40


FAILURES: dict[str, Exception] = {
    "crash": ValueError("password=hunter2"),
    "denied": Denied("Not with this key."),
    "away": Unavailable("redis://secret@host is down"),
    "refused": refuse(ErrorCode.NOT_FOUND, "No such member.", "by", "external_id"),
    "twice": Refused([UserError(ErrorCode.INVALID, "One."), UserError(ErrorCode.INVALID, "Two.", ("b",))]),
}


@object_type(description="What can be done.")
class Mutation:
    @resolver(description="Writes.", scope=Scope.RULES_WRITE)
    def write(self) -> bool:
        ran.append("write")
        return True


@object_type(description="What can be followed.")
class Subscription:
    @resolver(description="Counts.", scope=Scope.MEMBERS_READ, is_subscription=True)
    async def count(self) -> AsyncIterator[int]:
        ran.append("count")
        for number in range(2):
            yield number


@dataclass(slots=True)
class Caller:
    """The least that a context can be."""

    principal: Principal
    request_id: str = "r1"

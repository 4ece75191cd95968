"""How fast the GraphQL layer is without a database: Laurel's schema and view against Strawberry's stock."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Generic, TypeVar

import strawberry
from starlette.requests import Request
from strawberry.asgi import GraphQL
from strawberry.schema.config import StrawberryConfig

from app.access.principal import Principal, PrincipalKind
from app.access.scopes import Scope
from app.paging import Page, page_result
from graphql_schema.access import BY_TYPE, interface_type, object_type, resolver
from graphql_schema.build import build_schema
from graphql_schema.context import Context
from graphql_schema.pagination import Connection, connection
from graphql_schema.scalars import SCALARS, Points
from tests.benchmarks.harness import Figure, Servers, in_turns, run

ROWS = 50
TRIVIAL = "{ __typename }"
LIST = """{ ledger(first: 50) {
  edges { cursor node { id sequence kind points availableAfter reason occurredAt amount } }
  pageInfo { hasNextPage endCursor } } }"""


class Kind(Enum):
    EARN = "EARN"
    REDEEM = "REDEEM"


KEY = Principal(PrincipalKind.API_KEY, "bench", scopes=frozenset(Scope))


@dataclass(slots=True)
class Row:
    id: str
    sequence: int
    kind: Kind
    points: int
    available_after: int
    reason: str | None
    occurred_at: datetime
    amount: Decimal | None


START = datetime(2026, 1, 1, tzinfo=UTC)
LEDGER = [
    Row(
        id=f"TGVkZ2VyRW50cnk6{number:08}",
        sequence=number,
        kind=Kind.EARN if number % 3 else Kind.REDEEM,
        points=number * 7,
        available_after=number * 100,
        reason=None if number % 2 else "A reason for the entry",
        occurred_at=START + timedelta(minutes=number),
        amount=Decimal("12.50") * number,
    )
    for number in range(ROWS)
]
FIELDS = ("id", "sequence", "kind", "points", "available_after", "reason", "occurred_at", "amount")


@interface_type(name="Node", description="Anything with an id.", access=BY_TYPE)
class OurNode:
    id: strawberry.ID = strawberry.field(description="Its id.")


@object_type(name="Entry", description="A line of a ledger.", scope=Scope.MEMBERS_READ, member=True)
class OurEntry(OurNode):
    sequence: int
    kind: strawberry.enum(Kind)  # type: ignore[valid-type]
    points: Points
    available_after: Points
    reason: str | None
    occurred_at: datetime
    amount: Decimal | None


def our_entry(row: Row) -> OurEntry:
    return OurEntry(**{name: getattr(row, name) for name in FIELDS})


@object_type(name="Query", description="What can be read.")
class OurQuery:
    @resolver(description="The ledger.", scope=Scope.MEMBERS_READ, member=True)
    async def ledger(self, first: int | None = None) -> Connection[OurEntry]:
        page = Page(ROWS)
        return connection(
            "ledger", page_result(LEDGER, page), our_entry, lambda row: (row.occurred_at, row.sequence)
        )


T = TypeVar("T")


@strawberry.interface(name="Node")
class StockNode:
    id: strawberry.ID


@strawberry.type(name="Entry")
class StockEntry(StockNode):
    sequence: int
    kind: strawberry.enum(Kind)  # type: ignore[valid-type]
    points: Points
    available_after: Points
    reason: str | None
    occurred_at: datetime
    amount: Decimal | None


@strawberry.type(name="PageInfo")
class StockPageInfo:
    has_next_page: bool
    end_cursor: str | None


@strawberry.type(name="Edge")
class StockEdge(Generic[T]):
    cursor: str
    node: T


@strawberry.type(name="Connection")
class StockConnection(Generic[T]):
    edges: list[StockEdge[T]]
    page_info: StockPageInfo


@strawberry.type(name="Query")
class StockQuery:
    @strawberry.field
    async def ledger(self, first: int | None = None) -> StockConnection[StockEntry]:
        edges = [
            StockEdge(
                cursor=f"{row.occurred_at}:{row.sequence}",
                node=StockEntry(**{name: getattr(row, name) for name in FIELDS}),
            )
            for row in LEDGER
        ]
        return StockConnection(
            edges=edges, page_info=StockPageInfo(has_next_page=False, end_cursor=edges[-1].cursor)
        )


async def rate(call: Callable[[], Awaitable[Any]], seconds: float) -> float:
    """Return calls a second, one after another on this loop."""
    done, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        await call()
        done += 1
    return done / spent


def _http(app: Any, query: str) -> Callable[[], Awaitable[int]]:
    import orjson

    body = orjson.dumps({"query": query})
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/graphql",
        "raw_path": b"/graphql",
        "query_string": b"",
        "scheme": "http",
        "root_path": "",
        "headers": [
            (b"host", b"localhost"),
            (b"content-type", b"application/json"),
            (b"accept", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }

    async def call() -> int:
        status = 0

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)

        await app(dict(scope), receive, send)
        assert status == 200, status
        return status

    return call


async def _measure(rounds: int, seconds: float) -> list[Figure]:
    from graphql_schema.view import GraphQLView

    async def authenticate(_request: Request) -> Principal:
        return KEY

    ours = build_schema(OurQuery)
    stock = strawberry.Schema(StockQuery, config=StrawberryConfig(scalar_map=SCALARS))
    our_view = GraphQLView(ours, authenticate=authenticate)
    stock_view: Any = GraphQL(stock)
    context = Context(KEY)
    figures = []
    for name, query in (("{ __typename }", TRIVIAL), (f"{ROWS} entries of 8 fields", LIST)):
        for result in (await ours.execute(query, context_value=context), await stock.execute(query)):
            assert not result.errors, result.errors
        for where, our_call, stock_call in (
            (
                "schema",
                lambda query=query: ours.execute(query, context_value=context),
                lambda query=query: stock.execute(query),
            ),
            ("view", _http(our_view, query), _http(stock_view, query)),
        ):
            turns = await in_turns(
                rounds,
                lambda call=our_call: rate(call, seconds),  # type: ignore[misc]
                lambda call=stock_call: rate(call, seconds),  # type: ignore[misc]
            )
            figures.append(
                turns.figure(f"GraphQL {where}, {name}", 3.5, "requests/s", "Strawberry's stock, no caches")
            )
    return figures


def figures(_servers: Servers, quick: bool) -> list[Figure]:
    """Measure (f); tests/graphql_schema/test_executor.py shows that both give the same answers."""
    result: list[Figure] = run(_measure(3, 0.3) if quick else _measure(5, 1.0))
    return result

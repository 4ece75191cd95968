"""The planned executor against the stock one: whatever is asked of whatever data, the answer is the same."""

import asyncio
import random
from collections.abc import Awaitable
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any

import graphql
import pytest
import strawberry
from graphql import GraphQLError, Undefined, parse, validate
from strawberry.execution import optimized_is_awaitable
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from graphql_schema.executor import FastExecutor
from graphql_schema.plans import PlanCache
from graphql_schema.scalars import SCALARS, Points

QUERIES = [140, pytest.param(410, marks=pytest.mark.deep)]
RUNS = 13


@strawberry.enum
class Kind(Enum):
    EARN = "earn"
    SPEND = "spend"


@strawberry.enum
class Level(str, Enum):  # noqa: UP042 - its members are equal to plain text, and must not be taken for it
    LOW = "LOW"
    HIGH = "HIGH"


@strawberry.interface
class Node:
    id: strawberry.ID


@strawberry.type
class Box(Node):
    size: int
    label: str | None
    item: "Item | None"
    items: list["Item"]


@strawberry.type
class Loose:
    """A type with a mind of its own about what belongs to it."""

    word: str | None
    box: Box | None

    @classmethod
    def is_type_of(cls, value: Any, _info: Any) -> bool:
        if getattr(value, "word", None) == "throw":
            raise RuntimeError("is_type_of failed")
        return not isinstance(value, Box)


Thing = Annotated[Box | Loose, strawberry.union("Thing")]


@strawberry.type
class Item(Node):
    number: int
    maybe: int | None
    ratio: float | None
    text: str | None
    flag: bool
    kind: Kind
    level: Level | None
    when: datetime | None
    amount: Decimal | None
    points: Points
    tags: list[str]
    codes: list[int | None] | None
    kinds: list[Kind]
    matrix: list[list[int]] | None
    child: "Item | None"
    must: Box
    boxes: list[Box]
    loose_boxes: list[Box | None] | None
    grid: list[list["Item | None"]] | None
    node: Node | None
    nodes: list[Node]
    thing: Thing | None
    things: list[Thing] | None
    loose: Loose | None
    looses: list[Loose]

    @strawberry.field
    def greeting(self, name: str = "you") -> str:
        if name == "nobody":
            raise ValueError("greets nobody")
        return f"hello {name}"

    @strawberry.field
    async def later(self, ticks: int = 1) -> "Item | None":
        for _ in range(ticks):
            await asyncio.sleep(0)
        return getattr(self, "child", None)

    @strawberry.field
    def resolved_boxes(self) -> list[Box]:
        return self.boxes

    @strawberry.field
    async def slow_boxes(self) -> list[Box | None]:
        await asyncio.sleep(0)
        return self.boxes


@strawberry.type
class Query:
    item: Item | None
    items: list[Item]
    node: Node | None

    @strawberry.field
    async def fetch(self) -> Item:
        await asyncio.sleep(0)
        return self.item  # type: ignore[return-value]


class Later:
    """Something that can be awaited, and need not be."""

    def __init__(self, value: Any, ticks: int) -> None:
        self.value = value
        self.ticks = ticks

    def __await__(self) -> Any:
        for _ in range(self.ticks):
            yield from asyncio.sleep(0).__await__()
        if isinstance(self.value, Exception):
            raise self.value
        return self.value

    def __repr__(self) -> str:
        return "Later"


class Stranger:
    __slots__ = ("word",)

    def __init__(self) -> None:
        self.word = "stranger"

    def __repr__(self) -> str:
        return "Stranger"


class Moody:
    """Answers every question with an exception, or with something that can be awaited."""

    def __init__(self, asynchronous: bool) -> None:
        self.asynchronous = asynchronous

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if self.asynchronous:
            return Later(5, 1)
        raise RuntimeError(f"moody about {name}")

    def __repr__(self) -> str:
        return "Moody"


ODD: list[Any] = [
    None, Undefined, 2**40, -1, 1.5, float("nan"), "text", True, b"bytes", [], (), {}, [None], "EARN",
    Decimal("NaN"), datetime(2026, 1, 1), object, Kind.EARN, Level.HIGH,
]  # fmt: skip


class Generator:
    """Random values for the fields of the schema, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.oddness = self.random.choice([0.0, 0.0, 0.02, 0.1])
        self.left = 40

    def some(self, normal: Any, depth: int) -> Any:
        """Return a value for a field: mostly the normal one."""
        value = normal(depth) if callable(normal) else normal
        if self.random.random() < self.oddness:
            value = self.random.choice(
                [
                    lambda: self.random.choice(ODD),
                    lambda: ValueError("a value that is an error"),
                    lambda: GraphQLError("a graphql error"),
                    lambda: Later(value, self.random.randint(0, 2)),
                    lambda: Later(RuntimeError("failed later"), self.random.randint(0, 2)),
                    lambda: Later(None, 1),
                    Stranger,
                    lambda: Moody(self.random.random() < 0.5),
                ]
            )()
        return value

    def many(self, normal: Any, depth: int) -> Any:
        items = [self.some(normal, depth) for _ in range(self.random.choice([0, 1, 2, 3]))]
        if not self.oddness:
            items = [item for item in items if item is not None]
        return self.random.choice([items, items, items, tuple(items), iter(items)])

    def box(self, depth: int) -> Any:
        return self.made(
            Box,
            id="box",
            size=self.some(3, depth),
            label=self.some("label", depth),
            item=self.some(self.item, depth + 1),
            items=self.some(lambda deep: self.many(self.item, deep), depth + 1),
        )

    def loose(self, depth: int) -> Any:
        word = self.random.choice(["word", "word", "throw"]) if self.oddness else "word"
        return self.made(Loose, word=word, box=self.some(self.box, depth + 1))

    def made(self, cls: Any, **values: Any) -> Any:
        made = cls(**values)
        if self.random.random() < self.oddness / 2:
            delattr(made, self.random.choice(list(values)))
        return made

    def item(self, depth: int) -> Any:
        self.left -= 1
        if depth > 4 or self.left < 0:
            return None
        some, many, pick = self.some, self.many, self.random.choice
        node = lambda deep: pick([self.box, self.item])(deep)  # noqa: E731
        thing = lambda deep: pick([self.box, self.loose])(deep)  # noqa: E731
        return self.made(
            Item,
            id=some("item", depth),
            number=some(7, depth),
            maybe=some(pick([None, 8]), depth),
            ratio=some(0.5, depth),
            text=some("text", depth),
            flag=some(True, depth),
            kind=some(Kind.SPEND, depth),
            level=some(pick([Level.LOW, None]), depth),
            when=some(datetime(2026, 2, 3, tzinfo=UTC), depth),
            amount=some(Decimal("12.50"), depth),
            points=some(2**50, depth),
            tags=some(lambda deep: many("tag", deep), depth),
            codes=some(lambda deep: many(pick([4, None]), deep), depth),
            kinds=some(lambda deep: many(Kind.EARN, deep), depth),
            matrix=some(lambda deep: many(lambda below: many(1, below), deep), depth),
            child=some(self.item, depth + 1),
            must=some(self.box, depth + 1),
            boxes=some(lambda deep: many(self.box, deep), depth + 1),
            loose_boxes=some(lambda deep: many(self.box, deep), depth + 1),
            grid=some(lambda deep: many(lambda below: many(self.item, below), deep), depth + 1),
            node=some(node, depth + 1),
            nodes=some(lambda deep: many(node, deep), depth + 1),
            thing=some(thing, depth + 1),
            things=some(lambda deep: many(thing, deep), depth + 1),
            loose=some(self.loose, depth + 1),
            looses=some(lambda deep: many(self.loose, deep), depth + 1),
        )

    def root(self) -> Any:
        return Query(
            item=self.some(self.item, 0),
            items=self.some(lambda deep: self.many(self.item, deep), 0),
            node=self.some(self.box, 0),
        )


class Writer:
    """Random documents over a schema, mostly valid ones."""

    def __init__(self, schema: graphql.GraphQLSchema, seed: int) -> None:
        self.schema = schema
        self.random = random.Random(seed)
        self.fragments: list[str] = []
        self.names = 0
        self.conditions = self.random.random() < 0.4

    def document(self) -> str:
        body = self.selections(self.schema.query_type, 0)
        head = ""
        if self.conditions:
            head = "query($yes: Boolean = true, $no: Boolean = false) "
            body = body.replace("{", "{ c1: __typename @skip(if: $yes) c2: __typename @include(if: $no) ", 1)
        return "\n".join([head + body, *self.fragments])

    def selections(self, type_: Any, depth: int) -> str:
        parts = [self.selection(type_, depth) for _ in range(self.random.randint(1, 6))]
        return "{ " + " ".join(filter(None, parts)) + " __typename }"

    def condition(self) -> str:
        if not self.conditions or self.random.random() < 0.7:
            return ""
        what = self.random.choice(["skip", "include"])
        return f" @{what}(if: {self.random.choice(['$yes', '$no', 'true', 'false'])})"

    def selection(self, type_: Any, depth: int) -> str:
        roll = self.random.random()
        if roll < 0.15 and depth < 5:
            possible = (
                [type_]
                if isinstance(type_, graphql.GraphQLObjectType)
                else [*self.schema.get_possible_types(type_), type_]
            )
            on = self.random.choice(possible)
            if roll < 0.06:
                self.names += 1
                name = f"F{self.names}"
                self.fragments.append(f"fragment {name} on {on.name} {self.selections(on, depth + 1)}")
                return f"...{name}{self.condition()}"
            return f"... on {on.name}{self.condition()} {self.selections(on, depth + 1)}"
        if isinstance(type_, graphql.GraphQLUnionType):
            return "__typename"
        name, field = self.random.choice(list(type_.fields.items()))
        below = graphql.get_named_type(field.type)
        arguments = ""
        if field.args and self.random.random() < 0.6:
            choices = {
                "greeting": ['(name: "Ada")', '(name: "nobody")'],
                "later": ["(ticks: 0)", "(ticks: 2)"],
            }
            arguments = self.random.choice(choices[name])
        self.names += 1
        alias = f"a{self.names}: " if arguments or self.random.random() < 0.3 else ""
        if graphql.is_leaf_type(below):
            return f"{alias}{name}{arguments}{self.condition()}"
        if depth >= 5:
            return ""
        return f"{alias}{name}{arguments}{self.condition()} {self.selections(below, depth + 1)}"


@pytest.fixture(scope="module")
def schema() -> graphql.GraphQLSchema:
    built = strawberry.Schema(Query, types=[Box, Item], config=StrawberryConfig(scalar_map=SCALARS))
    return built._schema


async def answer(schema: Any, document: Any, root: Any, executor: Any, **options: Any) -> tuple[Any, Any]:
    result = graphql.execute(
        schema,
        document,
        root_value=root,
        executor_class=executor,
        is_awaitable=optimized_is_awaitable,
        operation_extensions=None,
        **options,
    )
    if isinstance(result, Awaitable):
        result = await result
    return result.data, [error.formatted for error in result.errors or []]


@pytest.mark.parametrize("queries", QUERIES)
async def test_any_query_on_any_data_is_answered_as_by_the_stock_executor(schema: Any, queries: int) -> None:
    compared = with_errors = with_data = 0
    for number in range(queries):
        writer = Writer(schema, number)
        document = parse(writer.document())
        if validate(schema, document):
            continue
        plans = None if writer.conditions else PlanCache()
        for run in range(RUNS):
            seed = number * RUNS + run
            expected = await answer(
                schema, document, Generator(seed).root(), StrawberryGraphQLCoreExecutionContext
            )
            found = await answer(schema, document, Generator(seed).root(), FastExecutor, plans=plans)
            assert found == expected, graphql.print_ast(document)
            assert str(found) == str(expected), "the order of the keys differs"
            compared += 1
            with_errors += bool(expected[1])
            with_data += expected[0] is not None
    assert compared > 12 * queries
    assert with_errors > 2 * queries
    assert with_data > 4 * queries
    assert compared - with_errors > queries

"""Input types that are filled by a plan come out as Strawberry's own conversion makes them."""

import random
from copy import copy
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from graphql import GraphQLInputObjectType, Undefined
from graphql.utilities import coerce_input_value
from strawberry.types.arguments import convert_argument

from graphql_schema.inputs import MemberRef
from graphql_schema.recording import ActionInput, EventInput, PurchaseInput, PurchaseLineInput
from graphql_schema.root import laurel_schema
from graphql_schema.stores import StoreRef

PLANNED = (EventInput, PurchaseInput, PurchaseLineInput, ActionInput, StoreRef, MemberRef)
SCHEMA = laurel_schema()


def _convert(value: Any, cls: type) -> Any:
    converter = SCHEMA.schema_converter
    return convert_argument(value, cls, converter.scalar_registry, SCHEMA.config)


def _reference(value: Any, cls: type, monkeypatch: pytest.MonkeyPatch) -> Any:
    with monkeypatch.context() as patch:
        for each in PLANNED:
            patch.setattr(each.__strawberry_definition__, "from_input", None)
        return _convert(copy(value), cls)


def _maybe(chance: random.Random, value: dict[str, Any], name: str, *choices: Any) -> None:
    if chance.random() < 0.6:
        value[name] = chance.choice((None, *choices))


def _line(chance: random.Random) -> dict[str, Any]:
    value: dict[str, Any] = {"sku": "TEA-1", "amount": "7.90"}
    for name in ("name", "category", "brand"):
        _maybe(chance, value, name, "Earl Grey")
    _maybe(chance, value, "quantity", "2", "0.5")
    return value


def _purchase(chance: random.Random) -> dict[str, Any]:
    ref = chance.choice(({"externalId": "m"}, {"id": "x"}, {"email": "a@b.example"}))
    value: dict[str, Any] = {"member": ref, "externalId": "o-1"}
    _maybe(chance, value, "occurredAt", "2026-02-03T10:00:00Z")
    _maybe(chance, value, "amount", "12.50")
    _maybe(chance, value, "currency", "EUR")
    _maybe(chance, value, "data", {"a": [1, None]})
    _maybe(chance, value, "processing", "NOW", "DEFERRED")
    _maybe(chance, value, "lines", [], [_line(chance) for _ in range(chance.randrange(4))])
    _maybe(chance, value, "store", {"id": "x"}, {"externalId": "berlin"})
    return value


def _action(chance: random.Random) -> dict[str, Any]:
    value: dict[str, Any] = {"member": {"externalId": "m"}, "externalId": "d-1", "action": "quiz"}
    _maybe(chance, value, "occurredAt", "2026-02-03T10:00:00Z")
    _maybe(chance, value, "data", {"a": [1, None]})
    _maybe(chance, value, "processing", "NOW", "DEFERRED")
    return value


def test_plans_fill_inputs_as_strawberry_does(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(3)
    core = SCHEMA._schema.type_map["EventInput"]
    assert isinstance(core, GraphQLInputObjectType)
    for _ in range(1000):
        sent = chance.choice(({"purchase": _purchase(chance)}, {"action": _action(chance)}))
        coerced = coerce_input_value(sent, core)
        assert coerced is not Undefined
        assert _convert(coerced, EventInput) == _reference(coerced, EventInput, monkeypatch)


def test_a_plan_keeps_values_and_defaults() -> None:
    core = SCHEMA._schema.type_map["PurchaseInput"]
    sent = {
        "member": {"externalId": "m"},
        "externalId": "o-1",
        "occurredAt": "2026-02-03T11:00:00+01:00",
        "lines": [{"sku": "TEA-1", "amount": "7.90"}],
    }
    purchase = _convert(coerce_input_value(sent, core), PurchaseInput)  # type: ignore[arg-type]
    assert purchase.occurred_at == datetime(2026, 2, 3, 10, tzinfo=UTC)
    assert purchase.lines == [PurchaseLineInput(sku="TEA-1", amount=Decimal("7.90"), quantity=Decimal(1))]
    assert (purchase.currency, purchase.data, purchase.processing) == (None, None, "NOW")
    assert purchase.member.value().external_id == "m"


def test_lists_that_are_left_out_are_not_shared() -> None:
    core = SCHEMA._schema.type_map["PurchaseInput"]
    sent = {"member": {"externalId": "m"}, "externalId": "o-1"}
    first, second = (
        _convert(coerce_input_value(sent, core), PurchaseInput)  # type: ignore[arg-type]
        for _ in range(2)
    )
    assert first.lines == second.lines == []
    assert first.lines is not second.lines

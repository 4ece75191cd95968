"""Ways to redeem through the API, and to look at what came of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app import clock
from tests.api.client import (
    UPLOAD_CODES,
    World,
)

SHOWN = "id status quantity points amount codes orderId reservedUntil createdAt updatedAt"
READ = f"""query ($id: ID!) {{
    redemption(id: $id) {{ {SHOWN} member {{ id }} reward {{ id }} }}
    node(id: $id) {{ ... on Redemption {{ {SHOWN} member {{ id }} reward {{ id }} }} }}
}}"""
OWN = f"""query ($status: RedemptionStatus) {{ viewer {{
    redemptions(first: 100, status: $status) {{ nodes {{ {SHOWN} member {{ id }} reward {{ id }} }} }}
}} }}"""
OF_MEMBER = OWN.replace("$status: RedemptionStatus", "$id: ID!, $status: RedemptionStatus").replace(
    "viewer", "member(by: {id: $id})"
)
LISTED = f"""query ($status: RedemptionStatus) {{
    redemptions(first: 100, status: $status) {{ nodes {{ {SHOWN} member {{ id }} reward {{ id }} }} }}
}}"""
LEDGER = """{ viewer {
    balance { available reserved lifetimeSpent }
    ledger { nodes { kind points reservedChange reason redemption { id } event { id } } }
} }"""


async def attempt(world: World, query: str, token: str | None = None, **input: Any) -> Any:
    """Run a mutation of one input, whatever comes of it."""
    (payload,) = (await world.api.call(query, {"input": input}, token or world.key)).values()
    return payload


async def called(world: World, query: str, token: str | None = None, **arguments: Any) -> Any:
    """Run a mutation without an input object, whatever comes of it."""
    (payload,) = (await world.api.call(query, arguments, token or world.key)).values()
    return payload


def wrong(payload: Any) -> list[tuple[str, list[str] | None]]:
    """Return what is wrong, with nothing done."""
    assert (payload["redemption"], payload["member"], payload["replayed"]) == (None, None, False)
    return [(error["code"], error["field"]) for error in payload["userErrors"]]


def done(payload: Any) -> Any:
    """Return the redemption of a mutation that nothing is wrong with."""
    assert payload["userErrors"] == [], payload
    return payload["redemption"]


async def read(world: World, redemption: str, token: str | None = None) -> Any:
    data = await world.api.call(READ, {"id": redemption}, token or world.key)
    assert data["redemption"] == (data["node"] or None)
    return data["redemption"]


async def own(world: World, **asked: Any) -> Any:
    return (await world.api.call(OWN, asked, world.token))["viewer"]["redemptions"]["nodes"]


async def balance(world: World, member: str | None = None) -> tuple[int, int]:
    query = "query ($id: ID!) { member(by: {id: $id}) { balance { available reserved } } }"
    found = (await world.call(query, {"id": member or world.member}))["member"]["balance"]
    return found["available"], found["reserved"]


async def with_codes(world: World, *codes: str, **reward: Any) -> str:
    """Set up a voucher with a pool of codes, and return its id."""
    voucher = (await world.reward("VOUCHER", **reward))["id"]
    loaded = await called(world, UPLOAD_CODES, rewardId=voucher, codes=codes)
    assert loaded["added"] == len(codes)
    return voucher


def pass_by(monkeypatch: pytest.MonkeyPatch, **time: int) -> None:
    """Set the clock ahead."""
    later = datetime.now(UTC) + timedelta(**time)
    monkeypatch.setattr(clock, "now", lambda: later)

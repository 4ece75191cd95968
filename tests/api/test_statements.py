"""How many statements each operation of the README's tour costs: the same for a page of 2 and of 50.

The numbers are (statements, transactions): what is sent beside BEGIN and COMMIT, and how often those. What
shows balances, redemptions or rewards asks once, before all else, which reservations have run out.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.client import ADJUST, CREATE_KEY, ENROL, REDEEM, REFUND, Api, World, make_world, unique
from tests.api.statements import counting
from tests.api.test_events import BATCH

MEMBER = """query ($id: ID!) { member(by: {id: $id}) {
    name balance { available pending debt }
    ledger(first: 20) { nodes { sequence kind points reason event { externalId } } }
} }"""
MEMBERS = """query ($first: Int!) { members(first: $first) {
    nodes { name email balance { available pending } } pageInfo { hasNextPage endCursor }
} }"""
DETAILS = "points amount lines { sku } awards { points rule { name version } steps { label } }"
EVENT = f"query ($id: ID!) {{ event(by: {{id: $id}}) {{ {DETAILS} member {{ name }} }} }}"
EVENTS = f"""query ($id: ID!, $first: Int!) {{ member(by: {{id: $id}}) {{
    events(first: $first) {{ nodes {{ {DETAILS} member {{ name balance {{ available }} }} }} }}
}} }}"""
PURCHASE = """mutation ($input: PurchaseInput!) { recordPurchase(input: $input) {
    event { points } member { balance { available } } userErrors { code }
} }"""
ACTION = """mutation ($input: ActionInput!) { recordAction(input: $input) {
    event { points } member { balance { available } } userErrors { code }
} }"""
RULES = "query ($first: Int!) { earningRules(first: $first) { nodes { name version } } }"
KEYS = "query ($first: Int!) { apiKeys(first: $first) { nodes { name } } }"
STORES = "query ($first: Int!) { stores(first: $first) { nodes { name timezone } } }"
NODES = "query ($ids: [ID!]!) { nodes(ids: $ids) { id ... on Event { points } ... on Member { name } } }"


@pytest.fixture(scope="module")
async def busy(api: Api) -> World:
    """A program with 60 members, 30 rules, 30 stores, and a member with 30 purchases that two rules paid."""
    world = await make_world(api)
    for n in range(2):
        await world.rule(name=f"Paying {n}")
    for _ in range(28):
        await world.rule(status="DRAFT")
    for _ in range(30):
        await world.store()
    await asyncio.gather(*(world.enrol() for _ in range(60)))
    for n in range(30):
        await world.purchase(str(n + 1), lines=[{"sku": "a", "amount": str(n + 1)}])
    return world


async def cost(
    world: World,
    query: str,
    variables: dict[str, Any] | Callable[[], dict[str, Any]],
    token: str | None = None,
) -> tuple[int, int]:
    """Return what an operation costs once what is remembered for a second or two is fresh.

    The least of three: a memory may come of age, or a key's last use be written, in the middle of one.
    """
    numbers = []
    for _ in range(4):
        async with counting() as counted:
            sent = variables() if callable(variables) else variables
            data = await world.api.call(query, sent, token or world.key)
        assert "'userErrors': [{" not in str(data)
        numbers.append(counted.numbers)
    return min(numbers[1:])


async def test_member_with_balance_and_the_last_twenty_entries(busy: World) -> None:
    assert await cost(busy, MEMBER, {"id": busy.member}) == (5, 0)


@pytest.mark.parametrize("first", [2, 50])
async def test_page_of_members_with_balances(busy: World, first: int) -> None:
    assert await cost(busy, MEMBERS, {"first": first}) == (3, 0)


async def test_event_with_awards_steps_and_rules(busy: World) -> None:
    event = (await busy.purchase("3"))["event"]["id"]
    assert await cost(busy, EVENT, {"id": event}) == (4, 0)


@pytest.mark.parametrize("first", [2, 20])
async def test_events_with_awards_and_rules(busy: World, first: int) -> None:
    assert await cost(busy, EVENTS, {"id": busy.member, "first": first}) == (7, 0)


REFUNDS = "refundedAmount refunds { points lines { quantity } event { points } }"


@pytest.mark.parametrize("first", [2, 20])
async def test_events_with_refunds_cost_one_more(busy: World, first: int) -> None:
    for n, event in enumerate(
        (await busy.call(IDS, {"member": busy.member}))["member"]["events"]["nodes"][:3]
    ):
        await busy.do(REFUND, purchase={"id": event["id"]}, externalId=f"r{n}", amount="0.01")
    plain = EVENTS.replace(DETAILS, "points")
    statements, _ = await cost(busy, plain, {"id": busy.member, "first": first})
    query = EVENTS.replace(DETAILS, REFUNDS.replace("event { points }", ""))
    assert await cost(busy, query, {"id": busy.member, "first": first}) == (statements + 1, 0)
    query = EVENTS.replace(DETAILS, REFUNDS)
    assert await cost(busy, query, {"id": busy.member, "first": first}) == (statements + 2, 0)


async def test_refund(busy: World) -> None:
    for lines in (1, 100):
        bought = [{"sku": f"s{n}", "amount": "1"} for n in range(lines)]
        sales = [await busy.purchase(None, lines=bought) for _ in range(4)]

        def refund(sales: list[Any] = sales, lines: int = lines) -> dict[str, Any]:
            back = [{"number": n + 1, "quantity": "1"} for n in range(lines)]
            event = sales.pop()["event"]
            return {"input": {"purchase": {"id": event["id"]}, "externalId": unique("r"), "lines": back}}

        assert await cost(busy, REFUND, refund) == (20, 1)


@pytest.mark.parametrize("first", [2, 30])
async def test_page_of_rules_or_stores_or_keys(busy: World, first: int) -> None:
    assert await cost(busy, RULES, {"first": first}) == (1, 0)
    assert await cost(busy, STORES, {"first": first}) == (1, 0)
    assert await cost(busy, KEYS, {"first": first}) == (1, 0)


async def test_purchase_recorded_now_with_points_and_balance(busy: World) -> None:
    for lines in (1, 100):

        def sale(lines: int = lines) -> dict[str, Any]:
            bought = [{"sku": f"s{n}", "amount": "1"} for n in range(lines)]
            return {"input": {"member": {"id": busy.member}, "externalId": unique("sale"), "lines": bought}}

        assert await cost(busy, PURCHASE, sale) == (8, 1)


async def test_action_recorded_now_costs_what_a_purchase_does(world: World) -> None:
    await world.rule(trigger="ACTION", action="quiz", fixedPoints=1)

    def played() -> dict[str, Any]:
        return {"input": {"member": {"id": world.member}, "externalId": unique("deed"), "action": "quiz"}}

    assert await cost(world, ACTION, played) == (8, 1)


async def test_many_purchases_at_once_share_their_statements(busy: World) -> None:
    inputs = [{"member": {"id": busy.member}, "externalId": unique("sale"), "amount": "1"} for _ in range(50)]
    query = "mutation ($input: PurchaseInput!) { recordPurchase(input: $input) { event { points } } }"
    await busy.call("{ program { id } }")
    async with counting() as counted:
        await asyncio.gather(*(busy.call(query, {"input": each}) for each in inputs))
    assert len(counted.statements) < 2 * len(inputs)


@pytest.mark.parametrize("size", [2, 500])
async def test_batch_of_events(busy: World, size: int) -> None:
    # Somebody else's, because they wait for a worker, and would be in the way of what others read.
    member = {"externalId": (await busy.enrol())["externalId"]}

    def batch() -> dict[str, Any]:
        sales = [{"member": member, "externalId": unique("sale"), "amount": "1"} for _ in range(size)]
        return {"input": [{"purchase": sale} for sale in sales]}

    assert await cost(busy, BATCH, batch) == (2, 1)


async def test_enrolment(busy: World) -> None:
    assert await cost(busy, ENROL, lambda: {"input": {"externalId": unique("member")}}) == (1, 1)


async def test_adjustment(busy: World) -> None:
    """Points that are taken may be among those of reservations that ran out: they are released before."""
    for points, statements in ((1, 8), (-1, 9)):

        def sent(points: int = points) -> dict[str, Any]:
            said = {"points": points, "reason": "x", "idempotencyKey": unique("key")}
            return {"input": {"member": {"id": busy.member}} | said}

        assert await cost(busy, ADJUST, sent) == (statements, 1)


IDS = """query ($member: ID!) {
    members(first: 20) { nodes { id } }
    earningRules(first: 20) { nodes { id } }
    stores(first: 20) { nodes { id } }
    apiKeys(first: 20) { nodes { id } }
    member(by: {id: $member}) {
        ledger(first: 20) { nodes { id } } events(first: 20) { nodes { id awards { id } } }
    }
}"""


@pytest.mark.parametrize(
    "kind", ["members", "earningRules", "stores", "apiKeys", "events", "awards", "ledger"]
)
async def test_nodes_of_one_type_are_found_together(busy: World, kind: str) -> None:
    for _ in range(2):
        await busy.done(CREATE_KEY, name="Another", scopes=["program:read"])
    listed = await busy.call(IDS, {"member": busy.member})
    lists = {name: listed[name]["nodes"] for name in ("members", "earningRules", "stores", "apiKeys")}
    lists |= {name: listed["member"][name]["nodes"] for name in ("ledger", "events")}
    lists["awards"] = [award for event in lists["events"] for award in event["awards"]]
    ids = [each["id"] for each in lists[kind]]
    assert len(ids) >= 3
    expected = (2 if kind == "awards" else 1, 0)
    assert await cost(busy, NODES, {"ids": ids[:2]}) == expected
    assert await cost(busy, NODES, {"ids": ids}) == expected


async def test_balances_behind_many_aliases_are_read_together(busy: World) -> None:
    listed = await busy.call(MEMBERS.replace("name email", "id"), {"first": 20})
    ids = [member["id"] for member in listed["members"]["nodes"]]

    def query(size: int) -> str:
        parts = (
            f'm{n}: node(id: "{each}") {{ ... on Member {{ balance {{ available }} }} }}'
            for n, each in enumerate(ids[:size])
        )
        return f"query {{ {' '.join(parts)} }}"

    assert await cost(busy, query(2), {}) == await cost(busy, query(20), {}) == (3, 0)


async def test_nothing_is_asked_of_the_database_for_what_is_refused(busy: World) -> None:
    await busy.api.call("{ viewer { id } }", token=busy.token)
    await busy.call("{ program { slug } }")
    async with counting() as counted:
        assert (await busy.api.post("{ program { debtLimit } }", token=busy.token)).codes == ["FORBIDDEN"]
        assert (await busy.api.post(MEMBERS, {"first": 5})).codes == ["UNAUTHENTICATED"]
        assert (await busy.post("{ nope }")).codes == ["GRAPHQL_VALIDATION_FAILED"]
    assert counted.all == []


@pytest.mark.parametrize(
    "each",
    [
        "balance { expiring { points } }",
        "ledger(first: 3) { nodes { points } }",
        "events(first: 3) { nodes { points } }",
    ],
    ids=["expiring", "ledger", "events"],
)
async def test_lists_within_a_page_of_members(busy: World, each: str) -> None:
    query = f"query ($first: Int!) {{ members(first: $first) {{ nodes {{ {each} }} }} }}"
    assert await cost(busy, query, {"first": 2}) == await cost(busy, query, {"first": 50})


@pytest.fixture(scope="module")
async def catalog(api: Api) -> World:
    """A program with 60 rewards for its tiers, of which a member has had 30, most with a code."""
    world = await make_world(api)
    tiers = [(await world.tier(threshold))["id"] for threshold in ("0", "100")]
    await world.adjust(10_000)
    for n in range(60):
        reward = await world.reward(
            "VOUCHER" if n % 3 else "PRODUCT",
            **({"generateCodes": True} if n % 3 else {}),
            tierIds=tiers,
            stock=50,
            limits={"maxPerMember": 5, "maxPerMemberPerMonth": 2},
        )
        if n % 2:
            await world.redeem(reward["id"])
    return world


CATALOG = """query ($first: Int!, $for: MemberRef, $filter: CatalogFilter) {
    catalog(first: $first, forMember: $for, filter: $filter) { nodes {
        name points stock tiers { name } eligibility { redeemable reasons pointsMissing }
    } }
}"""
REDEMPTIONS = """status points amount codes reward { name stock tiers { name } }
    member { name } updatedAt"""


@pytest.mark.parametrize("only", [False, True], ids=["all", "redeemable"])
@pytest.mark.parametrize("first", [2, 50])
async def test_catalog_with_eligibility_tiers_and_stock(catalog: World, first: int, only: bool) -> None:
    """What ran out, the rewards, their tiers, how the member stands, and what they have had.

    And a key looks the member up.
    """
    asked = {"first": first, "filter": {"redeemableOnly": only}}
    assert await cost(catalog, CATALOG, asked, catalog.token) == (5, 0)
    named = asked | {"for": {"externalId": catalog.external_id}}
    assert await cost(catalog, CATALOG, named) == (6, 0)


@pytest.mark.parametrize("first", [2, 30])
async def test_redemptions_with_codes_rewards_and_members(catalog: World, first: int) -> None:
    whole = f"query ($first: Int!) {{ redemptions(first: $first) {{ nodes {{ {REDEMPTIONS} }} }} }}"
    assert await cost(catalog, whole, {"first": first}) == (6, 0)
    own = whole.replace("{ redemptions", "{ viewer { redemptions") + " }"
    assert await cost(catalog, own, {"first": first}, catalog.token) == (6, 0)
    ledger = f"""query ($first: Int!) {{ viewer {{
        ledger(first: $first) {{ nodes {{ redemption {{ {REDEMPTIONS} }} }} }}
    }} }}"""
    assert await cost(catalog, ledger, {"first": first}, catalog.token) == (8, 0)


async def test_redemptions_within_a_page_of_members(catalog: World) -> None:
    for _ in range(20):
        await catalog.enrol()
    query = f"""query ($first: Int!) {{ members(first: $first) {{ nodes {{
        redemptions(first: 3) {{ nodes {{ {REDEMPTIONS} }} }}
    }} }} }}"""
    assert await cost(catalog, query, {"first": 1}) == await cost(catalog, query, {"first": 20})


async def test_redemption_with_its_codes_and_the_balance(catalog: World) -> None:
    reward = (await catalog.reward("VOUCHER", generateCodes=True))["id"]
    for token in (catalog.key, catalog.token):
        assert await cost(catalog, REDEEM, lambda: {"input": catalog.wanted(reward)}, token) == (11, 1)


async def test_balance_of_members_who_hold_something_costs_no_more(world: World) -> None:
    reward = (await world.reward())["id"]
    members = [world.member, *[(await world.enrol())["id"] for _ in range(4)]]
    before = await cost(world, MEMBERS, {"first": 10})
    for member in members:
        await world.adjust(100, member={"id": member})
        await world.reserve(reward, member={"id": member})
    assert await cost(world, MEMBERS, {"first": 1}) == before
    assert await cost(world, MEMBERS, {"first": 10}) == before


async def test_a_request_asks_once_what_has_run_out_whatever_it_shows(catalog: World) -> None:
    query = """{
        catalog(first: 5) { nodes { name stock eligibility { redeemable } } }
        viewer {
            balance { available } redemptions(first: 5) { nodes { status reward { stock } } }
            ledger(first: 5) { nodes { redemption { status } } }
        }
    }"""
    await catalog.api.call(query, token=catalog.token)
    async with counting() as counted:
        await catalog.api.call(query, token=catalog.token)
    asked = [each for each in counted.statements if "status = 'RESERVED' AND reserved_until <= $1" in each]
    assert len(asked) == 1
    assert counted.transactions == 0


@pytest.mark.parametrize("kind", ["catalog", "redemptions"])
async def test_rewards_and_redemptions_are_found_together_by_their_ids(catalog: World, kind: str) -> None:
    listed = await catalog.call(f"{{ {kind}(first: 30) {{ nodes {{ id }} }} }}")
    ids = [each["id"] for each in listed[kind]["nodes"]]
    query = """query ($ids: [ID!]!) { nodes(ids: $ids) { id
        ... on Reward { stock eligibility { redeemable } } ... on Redemption { codes reward { name } }
    } }"""
    for token in (catalog.key, catalog.token):
        few, many = [await cost(catalog, query, {"ids": some}, token) for some in (ids[:2], ids)]
        assert few == many
        assert many <= (4, 0)

"""The catalog through the API: what rewards say, who sees which, and who can have them."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app import clock
from tests.api.client import (
    CREATE_REWARD,
    REFUND,
    UPLOAD_CODES,
    Api,
    World,
    make_world,
    unique,
)

ALL = """id kind name description imageUrl status points pointsPerCurrencyUnit faceValue stock startsAt endsAt
    limits { maxPerMember maxPerMemberPerMonth maxTotal maxShareOfOrder minPoints } tiers { id }
    drawSeedHash drawSeed"""
CREATE = f"""mutation ($input: RewardInput!) {{ createReward(input: $input) {{
    reward {{ {ALL} }} userErrors {{ code field message }}
}} }}"""
UPDATE = f"""mutation ($id: ID!, $input: RewardInput!) {{ updateReward(id: $id, input: $input) {{
    reward {{ {ALL} }} userErrors {{ code field message }}
}} }}"""
SET_STATUS = """mutation ($id: ID!, $status: RewardStatus!) { setRewardStatus(id: $id, status: $status) {
    reward { id status } userErrors { code field message }
} }"""
READ = f"""query ($id: ID!) {{
    reward(id: $id) {{ {ALL} }} node(id: $id) {{ ... on Reward {{ {ALL} }} }}
}}"""
CATALOG = """query ($filter: CatalogFilter, $for: MemberRef) {
    catalog(first: 100, filter: $filter, forMember: $for) { nodes {
        id name eligibility { redeemable reasons pointsMissing }
    } }
}"""
NO_LIMITS = dict.fromkeys(
    ("maxPerMember", "maxPerMemberPerMonth", "maxTotal", "maxShareOfOrder", "minPoints")
)
EMPTY: dict[str, Any] = {
    "description": None, "imageUrl": None, "status": "ACTIVE", "points": None, "pointsPerCurrencyUnit": None,
    "faceValue": None, "stock": None, "startsAt": None, "endsAt": None, "limits": NO_LIMITS, "tiers": [],
    "drawSeedHash": None, "drawSeed": None,
}  # fmt: skip
FULL: dict[str, Any] = {
    "description": "Two of them", "imageUrl": "https://example.com/mug.png", "status": "PAUSED",
    "faceValue": "4.5", "stock": 7, "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2990-01-01T00:00:00Z",
    "limits": NO_LIMITS | {"maxPerMember": 3, "maxPerMemberPerMonth": 2, "maxTotal": 9},
}  # fmt: skip


async def create(world: World, **reward: Any) -> dict[str, Any]:
    base = {"kind": "PRODUCT", "name": unique("Reward"), "points": 100}
    return (await world.done(CREATE, **(base | reward)))["reward"]


async def update(world: World, reward: dict[str, Any], **changes: Any) -> Any:
    base = {"kind": reward["kind"], "name": reward["name"]}
    return (await world.call(UPDATE, {"id": reward["id"], "input": base | changes}))["updateReward"]


async def read(world: World, reward: str, token: str | None = None) -> Any:
    """Read a reward by its id, both ways."""
    data = await world.api.call(READ, {"id": reward}, token or world.key)
    assert data["reward"] == (data["node"] or None)
    return data["reward"]


async def listed(world: World, token: str | None = None, **asked: Any) -> list[dict[str, Any]]:
    return (await world.api.call(CATALOG, asked, token or world.key))["catalog"]["nodes"]


async def names(world: World, token: str | None = None, **asked: Any) -> list[str]:
    return [reward["id"] for reward in await listed(world, token, **asked)]


def wrong_fields(payload: Any) -> list[tuple[str, list[str]]]:
    assert payload["reward"] is None
    return [(error["code"], error["field"]) for error in payload["userErrors"]]


async def test_reward_comes_back_as_it_was_given_by_every_way(world: World) -> None:
    tiers = [await world.tier(), await world.tier("100")]
    given = FULL | {"name": unique("Mug"), "kind": "PRODUCT", "points": 250}
    reward = await create(world, **given, tierIds=[each["id"] for each in tiers])
    tier_ids = [{"id": each["id"]} for each in tiers]
    assert reward == EMPTY | given | {"id": reward["id"], "tiers": tier_ids}
    for token in (world.key, world.token):
        assert await read(world, reward["id"], token) == reward


async def test_reward_that_says_little_is_active_for_everybody_and_without_end(world: World) -> None:
    nothing = {"description": None, "imageUrl": None, "stock": None, "limits": None, "tierIds": None}
    for given in ({}, nothing):
        reward = await create(world, **given)
        same = {"kind": "PRODUCT", "points": 100, "id": reward["id"], "name": reward["name"]}
        assert reward == EMPTY | same


@pytest.mark.parametrize(
    ("kind", "price"),
    [
        ("VOUCHER", {"points": 5}),
        ("GIFT_CARD", {"points": 5, "faceValue": "25"}),
        ("PRODUCT", {"points": 5}),
        ("DISCOUNT", {"pointsPerCurrencyUnit": "99.5"}),
        ("SERVICE", {"points": 5}),
        ("DONATION", {"points": 5}),
        ("GIVEAWAY", {"points": 5}),
    ],
)
async def test_every_kind_has_its_price(world: World, kind: str, price: dict[str, Any]) -> None:
    reward = await create(world, kind=kind, **({"points": None} | price))
    assert {name: reward[name] for name in price} == price
    assert (reward["points"] is None) is (kind == "DISCOUNT")
    assert (reward["drawSeedHash"] is not None) is (kind == "GIVEAWAY")
    assert reward["stock"] == (0 if kind in ("VOUCHER", "GIFT_CARD") else None)


async def test_discount_has_limits_of_its_own(world: World) -> None:
    limits = {"maxShareOfOrder": "0.5", "minPoints": 20}
    reward = await create(world, kind="DISCOUNT", points=None, pointsPerCurrencyUnit="100", limits=limits)
    assert reward["limits"] == NO_LIMITS | limits


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": ""}, ["name"]),
        ({"name": "x" * 201}, ["name"]),
        ({"description": "x" * 5001}, ["description"]),
        ({"imageUrl": "javascript:alert(1)"}, ["imageUrl"]),
        ({"status": None}, ["status"]),
        ({"generateCodes": None}, ["generateCodes"]),
        ({"generateCodes": True}, ["generateCodes"]),
        ({"points": None}, ["points"]),
        ({"points": 0}, ["points"]),
        ({"pointsPerCurrencyUnit": "1"}, ["pointsPerCurrencyUnit"]),
        ({"faceValue": "0"}, ["faceValue"]),
        ({"faceValue": "1.001"}, ["faceValue"]),
        ({"stock": -1}, ["stock"]),
        ({"startsAt": "2027-01-01T00:00:00Z", "endsAt": "2027-01-01T00:00:00Z"}, ["endsAt"]),
        ({"limits": {"maxPerMember": 0}}, ["limits", "maxPerMember"]),
        ({"limits": {"maxPerMemberPerMonth": 0}}, ["limits", "maxPerMemberPerMonth"]),
        ({"limits": {"maxTotal": -1}}, ["limits", "maxTotal"]),
        ({"limits": {"maxShareOfOrder": "0.5"}}, ["limits", "maxShareOfOrder"]),
        ({"limits": {"minPoints": 5}}, ["limits", "minPoints"]),
    ],
)
async def test_reward_that_cannot_be_is_refused_by_field(world: World, wrong: Any, field: list[str]) -> None:
    given = {"kind": "PRODUCT", "name": unique("Reward"), "points": 100}
    assert await world.refused(CREATE, **(given | wrong)) == [("INVALID", field)]
    reward = await create(world, **given)
    assert wrong_fields(await update(world, reward, **wrong)) == [("INVALID", field)]
    assert await read(world, reward["id"]) == reward


@pytest.mark.parametrize("tier", ["", "none", "U3RvcmU6"])
async def test_tier_that_is_not_there_is_told_by_its_place(world: World, tier: str) -> None:
    ids = [(await world.tier())["id"], tier, world.member]
    given = {"kind": "PRODUCT", "name": "Mug", "points": 1, "tierIds": ids}
    expected = [("NOT_FOUND", ["tierIds", "1"]), ("NOT_FOUND", ["tierIds", "2"])]
    assert await world.refused(CREATE, **given) == expected


async def test_setting_up_the_same_reward_again_answers_with_it(world: World) -> None:
    given = FULL | {"name": unique("Mug"), "points": 250}
    reward = await create(world, **given)
    assert await create(world, **given) == reward
    assert (await create(world, **(given | {"points": 251})))["id"] != reward["id"]


async def test_field_that_is_left_out_of_an_update_stays_and_null_clears(world: World) -> None:
    reward = await create(world, **FULL)
    tier = await world.tier()
    for name, value in (
        ("name", unique("Cup")),
        ("description", "One"),
        ("description", None),
        ("imageUrl", None),
        ("status", "ACTIVE"),
        ("points", 99),
        ("faceValue", None),
        ("stock", 3),
        ("stock", None),
        ("limits", NO_LIMITS | {"maxTotal": 4}),
        ("startsAt", None),
        ("endsAt", "2991-01-01T00:00:00Z"),
        ("endsAt", None),
    ):
        payload = await update(world, reward, **{name: value})
        assert payload == {"reward": reward | {name: value}, "userErrors": []}
        reward = payload["reward"]
    for given, tiers in (([tier["id"]], [tier]), ([], []), ([tier["id"]] * 2, [tier]), (None, [])):
        payload = await update(world, reward, tierIds=given)
        assert payload["reward"]["tiers"] == [{"id": each["id"]} for each in tiers]
    cleared = await update(world, reward, limits=None)
    assert cleared["reward"] == reward | {"limits": NO_LIMITS}
    assert await read(world, reward["id"]) == cleared["reward"]


async def test_kind_of_a_reward_is_for_good(world: World) -> None:
    reward = await create(world)
    assert wrong_fields(await update(world, reward, kind="SERVICE")) == [("INVALID", ["kind"])]


async def test_status_is_set_and_archived_is_for_good(world: World) -> None:
    reward = await create(world)
    for status in ("PAUSED", "ACTIVE", "DRAFT", "ARCHIVED", "ARCHIVED"):
        set_to = await world.call(SET_STATUS, {"id": reward["id"], "status": status})
        assert set_to["setRewardStatus"] == {
            "reward": {"id": reward["id"], "status": status},
            "userErrors": [],
        }
    back = (await world.call(SET_STATUS, {"id": reward["id"], "status": "ACTIVE"}))["setRewardStatus"]
    assert wrong_fields(back) == [("WRONG_STATE", ["id"])]
    assert wrong_fields(await update(world, reward, points=5)) == [("WRONG_STATE", ["id"])]


@pytest.mark.parametrize("reward_id", ["", "none", "\0", "U3RvcmU6", "x" * 500])
async def test_unknown_reward_is_not_found(world: World, reward_id: str) -> None:
    assert await world.call("query ($id: ID!) { reward(id: $id) { id } }", {"id": reward_id}) == {
        "reward": None
    }
    payload = await update(world, {"id": reward_id, "kind": "PRODUCT", "name": "Mug"})
    assert wrong_fields(payload) == [("NOT_FOUND", ["id"])]
    set_to = (await world.call(SET_STATUS, {"id": reward_id, "status": "ACTIVE"}))["setRewardStatus"]
    assert wrong_fields(set_to) == [("NOT_FOUND", ["id"])]
    assert await upload(world, reward_id, "A") == [("NOT_FOUND", ["rewardId"])]


async def upload(world: World, reward: str, *codes: str) -> Any:
    """Load codes; return how many are new and how many were there, or what is wrong."""
    payload = (await world.call(UPLOAD_CODES, {"rewardId": reward, "codes": codes}))["uploadRewardCodes"]
    if payload["userErrors"]:
        assert (payload["added"], payload["duplicates"], payload["reward"]) == (0, 0, None)
        return [(error["code"], error["field"]) for error in payload["userErrors"]]
    assert payload["reward"]["id"] == reward
    return payload["added"], payload["duplicates"], payload["reward"]["stock"]


async def test_codes_are_loaded_once_and_given_out_in_their_order(world: World) -> None:
    await world.adjust(1000)
    reward = (await world.reward("VOUCHER"))["id"]
    assert await upload(world, reward, "c-3", " c-1 ", "c-3", "c-2") == (3, 1, 3)
    assert await upload(world, reward, "c-1", "C-1") == (1, 1, 4)
    other = (await world.reward("VOUCHER"))["id"]
    assert await upload(world, other, "c-1", "c-2") == (0, 2, 0)
    handed_out = [(await world.redeem(reward))["redemption"]["codes"] for _ in range(3)]
    assert handed_out == [["c-3"], ["c-1"], ["c-2"]]
    assert await upload(world, reward, "c-1") == (0, 1, 1)


async def test_ten_thousand_codes_go_in_one_call(world: World) -> None:
    reward = (await world.reward("VOUCHER"))["id"]
    codes = [f"{unique('code')}-{n}" for n in range(10_000)]
    assert await upload(world, reward, *codes) == (10_000, 0, 10_000)
    assert await upload(world, reward, *codes, "one more") == [("INVALID", ["codes"])]


async def test_codes_that_cannot_be_are_told_by_their_place(world: World) -> None:
    reward = (await world.reward("VOUCHER"))["id"]
    wrong = await upload(world, reward, "good", "", "x" * 256, "a\nb")
    assert wrong == [("INVALID", ["codes", str(n)]) for n in (1, 2, 3)]
    assert await upload(world, reward) == [("INVALID", ["codes"])]
    assert (await read(world, reward))["stock"] == 0


async def test_only_pools_of_vouchers_and_gift_cards_take_codes(world: World) -> None:
    card = (await world.reward("GIFT_CARD"))["id"]
    assert await upload(world, card, "card-1") == (1, 0, 1)
    assert await upload(world, (await world.reward())["id"], "a") == [("INVALID", ["rewardId"])]
    made = await world.reward("VOUCHER", generateCodes=True)
    assert made["stock"] is None
    assert await upload(world, made["id"], "a") == [("WRONG_STATE", ["rewardId"])]
    gone = await world.reward("VOUCHER", status="ARCHIVED")
    assert await upload(world, gone["id"], "a") == [("WRONG_STATE", ["rewardId"])]


async def test_stock_is_the_smaller_of_pieces_and_codes(world: World) -> None:
    await world.adjust(1000)
    reward = (await world.reward("VOUCHER", stock=2))["id"]
    assert await upload(world, reward, "s-1", "s-2", "s-3") == (3, 0, 2)
    await world.redeem(reward)
    assert (await read(world, reward))["stock"] == 1
    raised = await update(world, await read(world, reward), stock=10)
    assert raised["reward"]["stock"] == 2


async def test_seed_of_a_giveaway_is_shown_once_it_is_drawn(world: World) -> None:
    await world.adjust(1000)
    reward = await create(world, kind="GIVEAWAY")
    assert reward["drawSeed"] is None
    await world.redeem(reward["id"])
    drawn = await world.call(
        """mutation ($id: ID!) { drawGiveaway(rewardId: $id, idempotencyKey: "d") {
            winner { id } userErrors { code } } }""",
        {"id": reward["id"]},
    )
    assert drawn["drawGiveaway"]["userErrors"] == []
    for token in (world.key, world.token):
        shown = await read(world, reward["id"], token)
        assert shown["drawSeedHash"] == reward["drawSeedHash"]
        assert hashlib.sha256(bytes.fromhex(shown["drawSeed"])).hexdigest() == shown["drawSeedHash"]


async def varied(world: World) -> dict[str, str]:
    """Set up rewards that the world's member, with 500 points, can have and cannot have; return their ids."""
    await world.tier()
    gold = (await world.tier("100"))["id"]
    await world.adjust(1500)
    made = {
        "plain": await world.reward(name="Plain mug"),
        "dear": await world.reward(name="Dear MUG", points=501),
        "exact": await world.reward(points=500, description="A blue mug"),
        "draft": await world.reward(status="DRAFT"),
        "paused": await world.reward(status="PAUSED"),
        "archived": await world.reward(status="ARCHIVED"),
        "soon": await world.reward(startsAt="2990-01-01T00:00:00Z"),
        "over": await world.reward(startsAt="2020-01-01T00:00:00Z", endsAt="2020-02-01T00:00:00Z"),
        "sold out": await world.reward(stock=0),
        "no codes": await world.reward("VOUCHER"),
        "gold": await world.reward(tierIds=[gold]),
        "once": await world.reward(limits={"maxPerMember": 1}),
        "monthly": await world.reward(limits={"maxPerMemberPerMonth": 1}),
        "total": await world.reward(limits={"maxTotal": 2}),
        "twice": await world.reward(limits={"maxPerMember": 2, "maxPerMemberPerMonth": 2}),
        "discount": await world.reward("DISCOUNT", limits={"minPoints": 500}),
        "big discount": await world.reward("DISCOUNT", limits={"minPoints": 600}),
        "everything": await world.reward(
            status="PAUSED", startsAt="2990-01-01T00:00:00Z", stock=0, tierIds=[gold], points=10_000
        ),
    }
    ids = {name: reward["id"] for name, reward in made.items()}
    for name, times in (("once", 1), ("monthly", 1), ("total", 2), ("twice", 1)):
        for _ in range(times):
            await world.redeem(ids[name])
    await world.redeem(ids["plain"], quantity=5)
    return ids


VERDICTS: dict[str, tuple[list[str], int]] = {
    "plain": ([], 0),
    "dear": (["NOT_ENOUGH_POINTS"], 1),
    "exact": ([], 0),
    "draft": (["NOT_ACTIVE"], 0),
    "paused": (["NOT_ACTIVE"], 0),
    "archived": (["NOT_ACTIVE"], 0),
    "soon": (["NOT_STARTED"], 0),
    "over": (["ENDED"], 0),
    "sold out": (["OUT_OF_STOCK"], 0),
    "no codes": (["OUT_OF_STOCK"], 0),
    "gold": (["TIER_TOO_LOW"], 0),
    "once": (["LIMIT_REACHED"], 0),
    "monthly": (["LIMIT_REACHED"], 0),
    "total": (["LIMIT_REACHED"], 0),
    "twice": ([], 0),
    "discount": ([], 0),
    "big discount": (["NOT_ENOUGH_POINTS"], 100),
    "everything": (
        ["NOT_ACTIVE", "NOT_STARTED", "OUT_OF_STOCK", "TIER_TOO_LOW", "NOT_ENOUGH_POINTS"],
        9500,
    ),
}
HIDDEN = {"draft", "paused", "archived", "over", "everything"}
"""What members do not find in the catalog."""


async def test_eligibility_tells_everything_that_stands_against_a_reward(world: World) -> None:
    ids = await varied(world)
    by_key = {reward["id"]: reward["eligibility"] for reward in await listed(world, **for_(world))}
    expected = {
        ids[name]: {"redeemable": not reasons, "reasons": reasons, "pointsMissing": missing}
        for name, (reasons, missing) in VERDICTS.items()
    }
    assert by_key == expected
    for how in ({"id": world.member}, {"email": world.email.upper()}):
        again = await listed(world, **{"for": how})
        assert {reward["id"]: reward["eligibility"] for reward in again} == expected
    own = {reward["id"]: reward["eligibility"] for reward in await listed(world, world.token)}
    assert own == {ids[name]: expected[ids[name]] for name in VERDICTS if name not in HIDDEN}
    query = "query ($id: ID!) { reward(id: $id) { eligibility { redeemable reasons pointsMissing } } }"
    for name in VERDICTS:
        found = (await world.api.call(query, {"id": ids[name]}, world.token))["reward"]
        assert found == (None if name == "draft" else {"eligibility": expected[ids[name]]}), name
        assert (await world.call(query, {"id": ids[name]}))["reward"] == {"eligibility": None}
    assert all(reward["eligibility"] is None for reward in await listed(world))


def for_(world: World) -> dict[str, Any]:
    return {"for": {"externalId": world.external_id}}


async def in_debt(world: World, reward: str) -> str:
    """Enrol a member who spends 100 points on a reward, and then gives back what earned them."""
    member = {"id": (await world.enrol())["id"]}
    limit = "mutation ($input: UpdateProgramInput!) { updateProgram(input: $input) { userErrors { code } } }"
    await world.done(limit, debtLimit=100)
    await world.rule()
    sale = await world.purchase("100", member=member)
    await world.redeem(reward, member=member)
    refunded = await world.done(REFUND, purchase={"id": sale["event"]["id"]}, externalId=unique("refund"))
    assert refunded["member"]["balance"]["debt"] == 100
    return member["id"]


async def suspend(world: World, member: str) -> None:
    await world.done(
        "mutation ($input: UpdateMemberInput!) { updateMember(input: $input) { userErrors { code } } }",
        member={"id": member},
        status="SUSPENDED",
    )


async def test_redeemable_only_is_what_eligibility_says_of_each(world: World) -> None:
    ids = await varied(world)
    poor, suspended = await world.enrol(), await world.enrol()
    owing = await in_debt(world, ids["plain"])
    await world.adjust(600, member={"id": suspended["id"]})
    await suspend(world, suspended["id"])
    only = {"redeemableOnly": True}
    for member in (world.member, poor["id"], owing, suspended["id"]):
        asked = {"for": {"id": member}}
        expected = [each["id"] for each in await listed(world, **asked) if each["eligibility"]["redeemable"]]
        assert await names(world, filter=only, **asked) == expected
    assert await names(world, filter=only, **for_(world)) == [
        ids[name] for name, (reasons, _) in VERDICTS.items() if not reasons
    ]
    assert await names(world, world.token, filter=only) == await names(world, filter=only, **for_(world))
    assert await names(world, filter=only, **{"for": {"id": poor["id"]}}) == []


async def test_member_who_owes_points_is_told_so_and_how_many_are_missing(world: World) -> None:
    reward = (await world.reward())["id"]
    member = await in_debt(world, reward)
    (found,) = await listed(world, **{"for": {"id": member}})
    assert found["eligibility"] == {
        "redeemable": False,
        "reasons": ["IN_DEBT", "NOT_ENOUGH_POINTS"],
        "pointsMissing": 200,
    }


async def test_member_who_is_suspended_is_told_so(world: World) -> None:
    await world.reward()
    await suspend(world, world.member)
    (reward,) = await listed(world, **for_(world))
    assert reward["eligibility"] == {
        "redeemable": False,
        "reasons": ["MEMBER_NOT_ACTIVE", "NOT_ENOUGH_POINTS"],
        "pointsMissing": 100,
    }


async def test_points_of_a_reservation_that_ran_out_count_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.adjust(100)
    reward = (await world.reward(limits={"maxPerMember": 1}))["id"]
    await world.reserve(reward, holdSeconds=60)
    (held,) = await listed(world, **for_(world))
    assert held["eligibility"]["reasons"] == ["LIMIT_REACHED", "NOT_ENOUGH_POINTS"]
    later = datetime.now(UTC) + timedelta(seconds=61)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert await names(world, filter={"redeemableOnly": True}, **for_(world)) == [reward]
    (free,) = await listed(world, **for_(world))
    assert free["eligibility"] == {"redeemable": True, "reasons": [], "pointsMissing": 0}


async def test_catalog_is_filtered_by_kind_price_and_text(world: World) -> None:
    ids = await varied(world)
    everything = list(ids.values())
    assert await names(world) == everything
    for nothing in (None, {}, {"kinds": None, "maxPoints": None, "redeemableOnly": None, "search": None},
                    {"kinds": [], "redeemableOnly": False, "search": " "}):  # fmt: skip
        assert await names(world, filter=nothing) == everything
    vouchers = [ids["no codes"]]
    discounts = [ids["discount"], ids["big discount"]]
    assert await names(world, filter={"kinds": ["VOUCHER"]}) == vouchers
    assert await names(world, filter={"kinds": ["DISCOUNT", "VOUCHER"]}) == vouchers + discounts
    assert await names(world, filter={"kinds": ["SERVICE"]}) == []
    dear = {"dear", "everything", "big discount"}
    assert await names(world, filter={"maxPoints": 500}) == [ids[name] for name in ids if name not in dear]
    assert await names(world, filter={"maxPoints": 99}) == []
    mugs = [ids["plain"], ids["dear"], ids["exact"]]
    assert await names(world, filter={"search": "MuG"}) == mugs
    assert await names(world, filter={"search": "mug", "maxPoints": 500}) == [ids["plain"], ids["exact"]]
    assert await names(world, filter={"search": "%"}) == []
    both = {"search": "mug", "redeemableOnly": True, "kinds": ["PRODUCT"], "maxPoints": 100}
    assert await names(world, world.token, filter=both) == [ids["plain"]]


@pytest.mark.parametrize("search", ["x" * 201, "a\nb", "\0"])
async def test_search_that_cannot_be_is_refused(world: World, search: str) -> None:
    answer = await world.post(CATALOG, {"filter": {"search": search}})
    assert answer.codes == ["BAD_USER_INPUT"]
    assert answer.error["extensions"]["field"] == ["filter", "search"]


async def test_member_finds_what_is_on_display_and_by_id_all_but_drafts(world: World) -> None:
    ids = await varied(world)
    assert await names(world, world.token) == [each for name, each in ids.items() if name not in HIDDEN]
    for name, each in ids.items():
        assert (await read(world, each, world.token) is None) is (name == "draft"), name
        assert await read(world, each)


async def test_catalog_for_somebody_is_for_keys(api: Api, world: World) -> None:
    await world.reward()
    other, stranger = await world.enrol(), await make_world(api)
    nobody = {"externalId": "nobody"}
    for own in ({"id": world.member}, {"email": world.email}):
        assert len(await listed(world, world.token, **{"for": own})) == 1
    for named in ({"id": other["id"]}, {"externalId": other["externalId"]}, nobody, {"id": stranger.member}):
        answer = await world.api.post(CATALOG, {"for": named}, world.token)
        assert answer.codes == ["FORBIDDEN"]
    for named in (nobody, {"id": stranger.member}, {"email": "\0"}, {"id": "x"}):
        answer = await world.post(CATALOG, {"for": named})
        assert answer.codes == ["BAD_USER_INPUT"]
        (how,) = named
        told = answer.error["extensions"]
        assert (told["reason"], told["field"]) == ("NOT_FOUND", ["forMember", how])


async def test_key_that_asks_what_can_be_redeemed_has_to_say_by_whom(world: World) -> None:
    answer = await world.post(CATALOG, {"filter": {"redeemableOnly": True}})
    assert answer.codes == ["BAD_USER_INPUT"]
    told = answer.error["extensions"]
    assert (told["reason"], told["field"]) == ("INVALID", ["filter", "redeemableOnly"])


async def test_filtered_catalog_is_paged_like_the_whole(world: World) -> None:
    for n in range(7):
        await world.reward(points=1 + n % 2)
    await world.adjust(1)
    query = """query ($after: String, $for: MemberRef) {
        catalog(first: 2, after: $after, forMember: $for, filter: {redeemableOnly: true}) {
            nodes { id } pageInfo { hasNextPage endCursor }
        }
    }"""
    seen, asked = [], dict(for_(world))
    while True:
        found = (await world.call(query, asked))["catalog"]
        seen += [each["id"] for each in found["nodes"]]
        if not found["pageInfo"]["hasNextPage"]:
            break
        asked["after"] = found["pageInfo"]["endCursor"]
    assert seen == await names(world, filter={"redeemableOnly": True}, **for_(world))
    assert len(seen) == 4


@pytest.mark.parametrize("scope", ["catalog:read", "catalog:write", "redemptions:read", "redemptions:write"])
async def test_what_reads_the_catalog_and_what_writes_it(world: World, scope: str) -> None:
    reward = (await world.reward("VOUCHER"))["id"]
    key = await world.scoped_key(frozenset({scope}))
    assert (await world.api.call("{ catalog { nodes { id } } }", token=key))["catalog"]["nodes"]
    new = {"input": {"kind": "PRODUCT", "name": unique("Mug"), "points": 1}}
    allowed = [] if scope == "catalog:write" else ["FORBIDDEN"]
    for query, variables in (
        (CREATE_REWARD, new),
        (SET_STATUS, {"id": reward, "status": "PAUSED"}),
        (UPLOAD_CODES, {"rewardId": reward, "codes": ["a"]}),
    ):
        assert (await world.api.post(query, variables, key)).codes == allowed
        assert (await world.api.post(query, variables, world.token)).codes == ["FORBIDDEN"]

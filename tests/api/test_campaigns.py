"""Campaigns through the API: set up, changed, ended, and seen by members while they run."""

from typing import Any

import pytest

from tests.api.client import CREATE_CAMPAIGN, Api, World, make_world, unique
from tests.api.statements import counting

ALL = "id name status startsAt endsAt multiplier appliesTo audience { tiers { id } stores { id } }"
UPDATE = f"""mutation ($id: ID!, $input: CampaignInput!) {{ updateCampaign(id: $id, input: $input) {{
    campaign {{ {ALL} }} userErrors {{ code field message }}
}} }}"""
END = f"""mutation ($id: ID!) {{ endCampaign(id: $id) {{
    campaign {{ {ALL} }} userErrors {{ code field message }}
}} }}"""
CAMPAIGN = f"query ($id: ID!) {{ campaign(id: $id) {{ {ALL} }} }}"
LIST = f"query ($status: CampaignStatus) {{ campaigns(status: $status) {{ nodes {{ {ALL} }} }} }}"
KINDS = ["PURCHASE", "ACTION", "CHECK_IN", "REFERRAL"]

BEFORE = {"startsAt": "2020-01-01T00:00:00Z", "endsAt": "2021-01-01T00:00:00Z"}
NOW = {"startsAt": "2020-01-01T00:00:00Z", "endsAt": "2999-01-01T00:00:00Z"}
AFTER = {"startsAt": "2998-01-01T00:00:00Z", "endsAt": "2999-01-01T00:00:00Z"}
BASE: dict[str, Any] = {"name": "Double", "multiplier": "2.5"} | NOW


async def read(world: World, campaign: str) -> Any:
    return (await world.call(CAMPAIGN, {"id": campaign}))["campaign"]


async def update(world: World, campaign: str, **changes: Any) -> Any:
    return (await world.call(UPDATE, {"id": campaign, "input": BASE | changes}))["updateCampaign"]


async def end(world: World, campaign: str) -> Any:
    return (await world.call(END, {"id": campaign}))["endCampaign"]


def problems(payload: Any) -> list[tuple[str, list[str] | None]]:
    return [(error["code"], error["field"]) for error in payload["userErrors"]]


async def audience(world: World) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return an audience as it is given, and as it comes back."""
    tiers = [(await world.tier(threshold))["id"] for threshold in ("0", "1")]
    stores = [(await world.store())["id"] for _ in range(2)]
    back = {"tiers": [{"id": each} for each in tiers], "stores": [{"id": each} for each in stores]}
    return {"tierIds": tiers, "storeIds": stores}, back


async def test_campaign_comes_back_as_it_was_given(world: World) -> None:
    given, back = await audience(world)
    full = BASE | {"appliesTo": ["PURCHASE", "CHECK_IN"], "audience": given}
    campaign = (await world.done(CREATE_CAMPAIGN, **full))["campaign"]
    assert campaign == full | {"id": campaign["id"], "status": "ACTIVE", "audience": back}
    assert await read(world, campaign["id"]) == campaign
    node = f"query ($id: ID!) {{ node(id: $id) {{ ... on Campaign {{ {ALL} }} }} }}"
    assert (await world.call(node, {"id": campaign["id"]}))["node"] == campaign


@pytest.mark.parametrize(
    "little", [{}, {"audience": None}, {"audience": {}}, {"audience": {"tierIds": None, "storeIds": []}}]
)
async def test_campaign_that_says_little_is_for_everything_and_everybody(
    world: World, little: dict[str, Any]
) -> None:
    campaign = await world.campaign(**little)
    assert (campaign["appliesTo"], campaign["audience"]) == (KINDS, None)


async def test_audience_of_tiers_alone_is_for_all_stores(world: World) -> None:
    given, back = await audience(world)
    campaign = await world.campaign(audience={"tierIds": given["tierIds"]})
    assert campaign["audience"] == back | {"stores": []}


@pytest.mark.parametrize(("window", "status"), [(BEFORE, "ENDED"), (NOW, "ACTIVE"), (AFTER, "SCHEDULED")])
async def test_status_follows_the_window(world: World, window: dict[str, str], status: str) -> None:
    assert (await world.campaign(**window))["status"] == status


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": ""}, ["name"]),
        ({"name": "x" * 201}, ["name"]),
        ({"endsAt": NOW["startsAt"]}, ["endsAt"]),
        ({"endsAt": "2019-01-01T00:00:00Z"}, ["endsAt"]),
        ({"multiplier": "1"}, ["multiplier"]),
        ({"multiplier": "1.00"}, ["multiplier"]),
        ({"multiplier": "0"}, ["multiplier"]),
        ({"multiplier": "-2"}, ["multiplier"]),
        ({"multiplier": "1000.5"}, ["multiplier"]),
        ({"appliesTo": []}, ["appliesTo"]),
        ({"appliesTo": None}, ["appliesTo"]),
        ({"audience": {"tierIds": ["none"] * 101}}, ["audience", "tierIds"]),
        ({"audience": {"storeIds": ["none"] * 101}}, ["audience", "storeIds"]),
    ],
)
async def test_campaign_that_cannot_be_is_refused_by_field(
    world: World, wrong: Any, field: list[str]
) -> None:
    assert await world.refused(CREATE_CAMPAIGN, **(BASE | wrong)) == [("INVALID", field)]
    campaign = await world.campaign(**BASE)
    payload = await update(world, campaign["id"], **wrong)
    assert (payload["campaign"], problems(payload)) == (None, [("INVALID", field)])
    assert await read(world, campaign["id"]) == campaign


async def test_audience_that_is_not_there_is_told_id_by_id(world: World, api: Api) -> None:
    other = await make_world(api)
    given, _ = await audience(world)
    tier, store = given["tierIds"][0], given["storeIds"][0]
    wrong = {
        # Ids of another type, of another program, and such as nothing has.
        "tierIds": [tier, store, (await other.tier())["id"], "none"],
        "storeIds": [tier, (await other.store())["id"], store, ""],
    }
    expected = [
        *(("NOT_FOUND", ["audience", "tierIds", place]) for place in "123"),
        *(("NOT_FOUND", ["audience", "storeIds", place]) for place in "013"),
    ]
    assert await world.refused(CREATE_CAMPAIGN, **BASE, audience=wrong) == expected
    campaign = await world.campaign(**BASE)
    assert problems(await update(world, campaign["id"], audience=wrong)) == expected


async def test_same_campaign_again_answers_with_the_one_that_is_there(world: World) -> None:
    first = await world.campaign(**BASE)
    assert await world.campaign(**BASE, appliesTo=KINDS[::-1], audience={}) == first
    assert (await world.campaign(**(BASE | {"name": "Other"})))["id"] != first["id"]
    assert len((await world.call(LIST))["campaigns"]["nodes"]) == 2


async def test_field_that_is_left_out_of_an_update_stays(world: World) -> None:
    given, back = await audience(world)
    full = BASE | {"appliesTo": ["PURCHASE"], "audience": given}
    campaign = (await world.done(CREATE_CAMPAIGN, **full))["campaign"]
    assert (await update(world, campaign["id"]))["campaign"] == campaign
    changes: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"name": "Other"}, {"name": "Other"}),
        ({}, {"name": "Double"}),
        ({"multiplier": "3"}, {"multiplier": "3"}),
        ({"startsAt": "2019-01-01T00:00:00Z"}, {"multiplier": "2.5", "startsAt": "2019-01-01T00:00:00Z"}),
        ({"endsAt": "2998-01-01T00:00:00Z"}, BASE | {"endsAt": "2998-01-01T00:00:00Z"}),
        ({"appliesTo": ["ACTION", "ACTION"]}, BASE | {"appliesTo": ["ACTION"]}),
        (
            {"audience": {"storeIds": given["storeIds"][:1]}},
            {"audience": {"tiers": [], "stores": back["stores"][:1]}},
        ),
        ({"audience": None}, {"audience": None}),
    ]
    for sent, became in changes:
        campaign |= became
        assert (await update(world, campaign["id"], **sent))["campaign"] == campaign, sent
    assert await read(world, campaign["id"]) == campaign


async def test_window_can_be_moved_while_the_campaign_has_not_ended(world: World) -> None:
    campaign = await world.campaign(**BASE)
    for window, status in ((AFTER, "SCHEDULED"), (NOW, "ACTIVE"), (BEFORE, "ENDED")):
        assert (await update(world, campaign["id"], **window))["campaign"]["status"] == status


async def test_of_a_campaign_that_has_ended_nothing_but_the_name_can_change(world: World) -> None:
    campaign = await world.campaign(**(BASE | BEFORE))
    renamed = (await update(world, campaign["id"], **BEFORE, name="Gone"))["campaign"]
    assert renamed == campaign | {"name": "Gone"}
    for name, value in (
        ("endsAt", "2022-01-01T00:00:00Z"), ("startsAt", "2019-01-01T00:00:00Z"), ("multiplier", "9"),
        ("appliesTo", ["ACTION"]), ("audience", {"tierIds": [(await world.tier())["id"]]}),
    ):  # fmt: skip
        payload = await update(world, campaign["id"], **(BEFORE | {"name": "Gone", name: value}))
        assert problems(payload) == [("WRONG_STATE", [name])]
    assert await read(world, campaign["id"]) == renamed


async def test_campaign_that_runs_is_ended_once(world: World) -> None:
    campaign = await world.campaign(**BASE)
    ended = (await end(world, campaign["id"]))["campaign"]
    assert ended == campaign | {"status": "ENDED", "endsAt": ended["endsAt"]}
    assert campaign["startsAt"] < ended["endsAt"] < campaign["endsAt"]
    assert (await end(world, campaign["id"])) == {"campaign": ended, "userErrors": []}
    assert await read(world, campaign["id"]) == ended


async def test_campaign_that_has_not_begun_is_ended_before_it_does(world: World) -> None:
    campaign = await world.campaign(**(BASE | AFTER))
    ended = (await end(world, campaign["id"]))["campaign"]
    assert ended == campaign | {"status": "ENDED", "endsAt": AFTER["startsAt"]}


@pytest.mark.parametrize("campaign_id", ["", "none", "\0", "Q2FtcGFpZ246", "x" * 500])
async def test_unknown_campaign_is_not_found(world: World, campaign_id: str) -> None:
    assert await read(world, campaign_id) is None
    assert problems(await end(world, campaign_id)) == [("NOT_FOUND", ["id"])]
    assert problems(await update(world, campaign_id)) == [("NOT_FOUND", ["id"])]


async def test_campaign_of_another_program_is_not_found(world: World, api: Api) -> None:
    other = await make_world(api)
    theirs = await other.campaign(**BASE)
    assert await read(world, theirs["id"]) is None
    assert problems(await end(world, theirs["id"])) == [("NOT_FOUND", ["id"])]
    assert problems(await update(world, theirs["id"], name="")) == [("NOT_FOUND", ["id"])]
    assert await read(other, theirs["id"]) == theirs


async def test_list_can_be_narrowed_by_status(world: World) -> None:
    made = {
        status: await world.campaign(name=unique(status), **window)
        for status, window in (("SCHEDULED", AFTER), ("ACTIVE", NOW), ("ENDED", BEFORE))
    }
    assert (await world.call(LIST))["campaigns"]["nodes"] == list(made.values())
    for status, campaign in made.items():
        assert (await world.call(LIST, {"status": status}))["campaigns"]["nodes"] == [campaign]


async def test_narrowed_list_is_read_in_pages(world: World) -> None:
    made = []
    for _ in range(3):
        made.append((await world.campaign(**NOW))["id"])
        await world.campaign(**AFTER)
    query = """query ($after: String, $before: String) {
        forward: campaigns(status: ACTIVE, first: 2, after: $after) {
            nodes { id } pageInfo { endCursor hasNextPage }
        }
        backward: campaigns(status: ACTIVE, last: 2, before: $before) {
            nodes { id } pageInfo { startCursor hasPreviousPage }
        }
    }"""
    one = await world.call(query)
    after = one["forward"]["pageInfo"]["endCursor"]
    two = await world.call(query, {"after": after, "before": one["backward"]["pageInfo"]["startCursor"]})
    assert [node["id"] for each in (one, two) for node in each["forward"]["nodes"]] == made
    assert [node["id"] for each in (two, one) for node in each["backward"]["nodes"]] == made
    assert [each["forward"]["pageInfo"]["hasNextPage"] for each in (one, two)] == [True, False]


async def test_member_sees_the_campaigns_that_run(world: World) -> None:
    made = {status: await world.campaign(name=status, **window) for status, window in (
        ("SCHEDULED", AFTER), ("ACTIVE", NOW), ("ENDED", BEFORE),
    )}  # fmt: skip
    query = """query ($id: ID!, $status: CampaignStatus) {
        campaign(id: $id) { id } node(id: $id) { id } nodes(ids: [$id]) { id }
        campaigns(status: $status) { nodes { id } edges { node { id } } }
    }"""
    seen, nothing = {"id": made["ACTIVE"]["id"]}, {"nodes": [], "edges": []}
    for status, campaign in made.items():
        data = await world.api.call(query, {"id": campaign["id"], "status": status}, world.token)
        found = seen if status == "ACTIVE" else None
        assert (data["campaign"], data["node"], data["nodes"]) == (found, found, [found])
        assert data["campaigns"] == (
            {"nodes": [seen], "edges": [{"node": seen}]} if status == "ACTIVE" else nothing
        )
    everything = "{ campaigns { nodes { id } } }"
    assert (await world.api.call(everything, token=world.token))["campaigns"]["nodes"] == [seen]


async def test_member_sees_whom_a_campaign_is_meant_for(world: World) -> None:
    given, back = await audience(world)
    campaign = await world.campaign(audience=given)
    data = await world.api.call(CAMPAIGN, {"id": campaign["id"]}, world.token)
    assert data["campaign"]["audience"] == back


@pytest.mark.parametrize("first", [2, 10])
async def test_audiences_of_a_page_cost_two_statements(world: World, first: int) -> None:
    given, _ = await audience(world)
    for n in range(10):
        await world.campaign(audience={name: ids[n % 2 :] for name, ids in given.items()})
    query = "query ($first: Int!) { campaigns(first: $first) { nodes { name multiplier %s } } }"

    async def cost(selected: str) -> int:
        costs = []
        for _ in range(3):
            async with counting() as counted:
                await world.call(query % selected, {"first": first})
            costs.append(len(counted.statements))
        return min(costs)

    assert await cost("") == 1
    assert await cost("audience { tiers { name } stores { name } }") == 3

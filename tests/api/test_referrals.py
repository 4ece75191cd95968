"""Referrals through the API: codes at enrolment, lists, what members' tokens see, and what a page costs."""

from typing import Any

import pytest

from tests.api.client import CREATE_RULE, ENROL, REFUND, Api, World, make_world, unique
from tests.api.statements import counting
from tests.helpers import find_differences, work_all

REFERRAL = """{
    id status rejection referrerPoints referredPoints createdAt creditedAt
    referrer { id externalId } referred { id externalId }
}"""
MEMBER = f"""query ($id: ID!) {{ member(by: {{id: $id}}) {{
    referralCode referredBy {{ id }} referrals(first: 10) {{ nodes {REFERRAL} }}
}} }}"""
REFERRALS = f"""query ($first: Int, $after: String, $status: ReferralStatus) {{
    referrals(first: $first, after: $after, status: $status) {{
        nodes {REFERRAL} pageInfo {{ hasNextPage endCursor }}
    }}
}}"""
OWN = """{ viewer {
    referralCode referrals(first: 10) { nodes { id status rejection referrerPoints referredPoints } }
} }"""
EVENTS = """query ($id: ID!) { member(by: {id: $id}) { events(first: 5) { nodes {
    kind points refundedAmount refunds { id } awards { points rule { name } steps { label } }
    explanation { paid reason message rule { name } }
} } ledger(first: 5) { nodes { kind points reason event { id } } } } }"""


async def friends_world(api: Api, **rule: Any) -> tuple[World, str]:
    """Return a world with a rule for friends, and the code of its member."""
    world = await make_world(api)
    base = {"name": "Friends", "trigger": "REFERRAL", "fixedPoints": 100, "referredPoints": 30}
    await world.done(CREATE_RULE, **(base | {"referralTrigger": "FIRST_PURCHASE"} | rule))
    return world, (await member(world, world.member))["referralCode"]


async def member(world: World, global_id: str) -> Any:
    return (await world.call(MEMBER, {"id": global_id}))["member"]


async def work(world: World) -> None:
    await work_all(world)  # type: ignore[arg-type] # anything with the program's id


async def test_a_referral_from_the_code_to_the_points_and_back(api: Api) -> None:
    world, code = await friends_world(api)
    friend = await world.enrol(referralCode=code.lower())
    seen = await member(world, friend["id"])
    assert seen["referredBy"] == {"id": world.member}
    assert seen["referrals"]["nodes"] == []
    (pending,) = (await member(world, world.member))["referrals"]["nodes"]
    assert pending["status"] == "PENDING"
    assert (pending["referrer"]["id"], pending["referred"]["id"]) == (world.member, friend["id"])

    sale = await world.purchase(member={"id": friend["id"]})
    await work(world)
    (credited,) = (await world.call(REFERRALS))["referrals"]["nodes"]
    assert (credited["status"], credited["referrerPoints"], credited["referredPoints"]) == (
        "CREDITED",
        100,
        30,
    )
    assert credited["creditedAt"] >= credited["createdAt"]
    (event,) = (await world.call(EVENTS, {"id": world.member}))["member"]["events"]["nodes"]
    assert (event["kind"], event["points"], event["refunds"]) == ("REFERRAL", 100, [])
    assert event["awards"][0]["steps"] == [{"label": "100 points for bringing a friend"}]
    assert [(each["paid"], each["reason"]) for each in event["explanation"]] == [(True, "PAID")]

    await world.done(REFUND, purchase={"id": sale["event"]["id"]}, externalId=unique("refund"))
    await work(world)
    (back,) = (await world.call(REFERRALS))["referrals"]["nodes"]
    assert back == pending
    entries = (await world.call(EVENTS, {"id": world.member}))["member"]["ledger"]["nodes"]
    assert [(each["kind"], each["reason"]) for each in entries] == [
        ("CLAWBACK", "The friend's first purchase was refunded"),
        ("EARN", "Friends"),
    ]
    assert await find_differences(world.program_id) == []


async def test_a_code_that_nobody_has_is_refused_at_its_field(api: Api) -> None:
    world, _ = await friends_world(api)
    assert await world.refused(ENROL, externalId="ben", referralCode="NOBODY") == [
        ("NOT_FOUND", ["referralCode"])
    ]


async def test_members_see_their_own_referrals_and_not_who_the_friends_are(api: Api) -> None:
    world, code = await friends_world(api, referralTrigger="REGISTRATION")
    friend = await world.enrol(referralCode=code, email=f"{unique('ben')}@example.com")
    await work(world)
    viewer = (await api.call(OWN, None, world.token))["viewer"]
    assert viewer["referralCode"] == code
    (own,) = viewer["referrals"]["nodes"]
    assert (own["status"], own["referrerPoints"], own["referredPoints"]) == ("CREDITED", 100, 30)
    node = "query ($id: ID!) { node(id: $id) { ... on Referral { status } } }"
    assert (await api.call(node, {"id": own["id"]}, world.token))["node"] == {"status": "CREDITED"}

    theirs = await world.token_for(friend["id"])
    assert (await api.call(OWN, None, theirs))["viewer"]["referrals"]["nodes"] == []
    assert (await api.call(node, {"id": own["id"]}, theirs))["node"] is None
    for forbidden in (
        "{ viewer { referrals { nodes { referred { email } } } } }",
        "{ viewer { referrals { nodes { referrer { id } } } } }",
        "{ viewer { referredBy { email } } }",
        "{ referrals { nodes { id } } }",
    ):
        assert (await api.post(forbidden, None, theirs)).codes == ["FORBIDDEN"], forbidden


async def test_pages_go_on_where_they_ended_and_by_status(api: Api) -> None:
    world, code = await friends_world(api, referralTrigger="REGISTRATION", limits={"maxTimesPerMember": 2})
    friends = [await world.enrol(referralCode=code) for _ in range(3)]
    await work(world)
    seen, after = [], None
    for more in (True, True, False):
        page = (await world.call(REFERRALS, {"first": 1, "after": after}))["referrals"]
        assert page["pageInfo"]["hasNextPage"] is more
        after = page["pageInfo"]["endCursor"]
        seen += page["nodes"]
    assert [each["referred"]["id"] for each in seen] == [each["id"] for each in reversed(friends)]
    rejected = (await world.call(REFERRALS, {"status": "REJECTED"}))["referrals"]["nodes"]
    assert [each["rejection"] for each in rejected] == ["LIMIT_REACHED"]
    assert (await world.call(REFERRALS, {"status": "PENDING"}))["referrals"]["nodes"] == []


@pytest.mark.parametrize("first", [2, 20])
async def test_a_page_of_referrals_costs_the_same_whatever_its_size(api: Api, first: int) -> None:
    world, code = await friends_world(api, referralTrigger="REGISTRATION")
    for _ in range(first):
        await world.enrol(referralCode=code)
    await work(world)
    query = REFERRALS.replace("externalId", "externalId referralCode referredBy { id }")
    await world.call(query, {"first": first})
    numbers = []
    for _ in range(3):
        async with counting() as counted:
            await world.call(query, {"first": first})
        numbers.append(counted.numbers)
    # The page with its points, the members on both sides, and by whom those were brought.
    assert min(numbers) == (3, 0)

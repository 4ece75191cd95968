"""A program with an object of every kind, and everything about it that a stranger may try."""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from app.clock import now
from app.database import transaction
from app.outbox.service import Queue, put_aside
from tests.api.client import ADJUST, CREATE_KEY, RECORD, REFUND, UPLOAD_CODES, World, unique, uuid_of

EVERYTHING = """{
    program { id slug name currency timezone rounding multiplierStacking maxPointsPerDay pendingDays
        expiry { kind months } debtLimit pointCost createdAt }
    apiKeys(first: 100) { nodes { id name scopes prefix createdAt revokedAt } }
    earningRules(first: 100) { nodes {
        id version name status priority updatedAt products { skus } audience { tiers { id } stores { id } }
    } }
    tiers { id name rank threshold multiplier benefits }
    campaigns(first: 100) { nodes { id name startsAt endsAt multiplier audience { tiers { id } } } }
    stores(first: 100) { nodes { id externalId name timezone latitude longitude radiusMeters } }
    catalog(first: 100) { nodes {
        id kind name description status points stock startsAt endsAt tiers { id } drawSeedHash drawSeed
        limits { maxPerMember maxTotal }
    } }
    referrals(first: 100) { nodes {
        id status rejection referrerPoints referredPoints creditedAt referrer { id } referred { id }
    } }
    failedJobs(first: 100) { nodes { id name error attempts firstFailedAt lastFailedAt } }
    messages(first: 100) { nodes { id topic payload createdAt member { id } } }
    webhooks { id url topics createdAt failingSince lastError disabledAt }
    redemptions(first: 100) { nodes {
        id status quantity points amount codes orderId reservedUntil updatedAt member { id } reward { id }
    } }
    members(first: 100) { nodes {
        id externalId email phone name birthday locale attributes status joinedAt
        tier { id } referralCode referredBy { id } referrals(first: 20) { nodes { id status } }
        balance { available pending reserved debt lifetimeEarned lifetimeSpent lifetimeExpired }
        ledger(first: 20) { nodes { id sequence kind points reason redemption { id } } }
        redemptions(first: 20) { nodes { id codes } }
        events(first: 20) { nodes {
            id externalId status points data action store { id } awards { id points steps { label } }
            explanation { message rule { id } } refundedAmount refunds { id externalId amount points }
        } }
    } }
}"""
"""All that a program has, in one answer: the same before and after means that nothing has changed."""

CURSORS = """query ($member: MemberRef!) {
    apiKeys(first: 1) { pageInfo { endCursor } }
    earningRules(first: 1) { pageInfo { endCursor } }
    stores(first: 1) { pageInfo { endCursor } }
    members(first: 1) { pageInfo { endCursor } }
    campaigns(first: 1) { pageInfo { endCursor } }
    catalog(first: 1) { pageInfo { endCursor } }
    redemptions(first: 1) { pageInfo { endCursor } }
    referrals(first: 1) { nodes { id } pageInfo { endCursor } }
    failedJobs(first: 1) { nodes { id } pageInfo { endCursor } }
    messages(first: 1) { nodes { id } pageInfo { endCursor } }
    member(by: $member) {
        ledger(first: 1) { pageInfo { endCursor } }
        events(first: 1) { pageInfo { endCursor } }
    }
}"""

CODE = "query ($member: MemberRef!) { member(by: $member) { referralCode } }"

WEBHOOK = """mutation ($input: WebhookInput!) {
    createWebhook(input: $input) { webhook { id } secret userErrors { code field } }
}"""

LISTS = (
    "apiKeys", "earningRules", "members", "campaigns", "stores", "catalog", "redemptions", "referrals",
    "failedJobs", "messages",
)  # fmt: skip
"""The lists of the program; those of a member are apart."""


@dataclass
class Objects:
    """What a populated world has: an id of each type, other names, and cursors by the name of their list."""

    nodes: dict[str, str]
    event_external_id: str
    refund_external_id: str
    store_external_id: str
    idempotency_key: str
    reward_code: str
    """Of the redemption."""
    cursors: dict[str, str]
    marks: list[str]
    """Texts that occur in what belongs to this world, and nowhere else."""


async def populate(world: World) -> Objects:
    """Put an object of every type into a world, two of those that are listed."""
    mark = unique("secret")
    rule = await world.rule(name=f"{mark} rule")
    await world.rule(name=f"{mark} other rule", fixedPoints=3)
    start = await world.tier(name=f"{mark} start")
    tier = await world.tier("100", name=f"{mark} tier", benefits=[f"{mark} benefit"])
    campaign = await world.campaign(name=f"{mark} campaign", audience={"tierIds": [tier["id"]]})
    await world.campaign(name=f"{mark} other campaign")
    store = await world.store(externalId=f"{mark}-store", name=f"{mark} store")
    await world.store(name=f"{mark} other store")
    audience = {"tierIds": [start["id"], tier["id"]], "storeIds": [store["id"]]}
    await world.rule(name=f"{mark} rule of the store", fixedPoints=1, audience=audience)
    sale = {"member": {"id": world.member}, "amount": "40", "data": {"note": mark}}
    first = await world.done(RECORD, externalId=f"{mark}-sale", store={"id": store["id"]}, **sale)
    await world.done(RECORD, externalId=f"{mark}-sale-2", **sale)
    adjusted = await world.done(
        ADJUST, member={"id": world.member}, points=7, reason=f"{mark} reason", idempotencyKey=f"{mark}-key"
    )
    refunded = await world.done(
        REFUND, purchase={"id": first["event"]["id"]}, externalId=f"{mark}-refund", amount="1"
    )
    reward = await world.reward("VOUCHER", name=f"{mark} reward", points=1, tierIds=[start["id"]])
    uploaded = await world.call(UPLOAD_CODES, {"rewardId": reward["id"], "codes": [f"{mark}-1", f"{mark}-2"]})
    assert uploaded["uploadRewardCodes"]["added"] == 2
    await world.reserve(reward["id"], points=None)
    redeemed = await world.redeem(reward["id"], orderId=f"{mark}-order", idempotencyKey=f"{mark}-key")
    key = await world.done(CREATE_KEY, name=f"{mark} key", scopes=["program:read"])
    code = (await world.call(CODE, {"member": {"id": world.member}}))["member"]["referralCode"]
    friend = {"email": f"{mark}@example.com", "name": f"{mark} name"}
    await world.enrol(externalId=f"{mark}-member", referralCode=code, **friend)
    await world.enrol(externalId=f"{mark}-friend", referralCode=code)
    event = await world.call(
        "query ($id: ID!) { event(by: {id: $id}) { awards { id } } }", {"id": first["event"]["id"]}
    )
    async with transaction() as sql:
        for member_id in (uuid_of(world.member), uuid4()):
            error = {member_id: f"{mark} error"}
            await put_aside(sql, Queue.EARNING, world.program_id, error, 4, now(), now())
    job = await world.call("mutation { recalculateTiers { job { id } } }")
    webhook = await world.done(WEBHOOK, url=f"https://{mark}.invalid/{mark}", topics=["tier.up"])
    listed = await world.call(CURSORS, {"member": {"id": world.member}})
    cursors = {name: listed[name] for name in LISTS}
    cursors |= {name: listed["member"][name] for name in ("ledger", "events")}
    nodes = {
        "Program": world.program,
        "ApiKey": key["apiKey"]["id"],
        "Member": world.member,
        "LedgerEntry": adjusted["entry"]["id"],
        "Event": first["event"]["id"],
        "Award": event["event"]["awards"][0]["id"],
        "Refund": refunded["refunds"][0]["id"],
        "EarningRule": rule["id"],
        "Tier": tier["id"],
        "Campaign": campaign["id"],
        "Store": store["id"],
        "Reward": reward["id"],
        "Redemption": redeemed["redemption"]["id"],
        "Referral": listed["referrals"]["nodes"][0]["id"],
        "Job": job["recalculateTiers"]["job"]["id"],
        "Message": listed["messages"]["nodes"][0]["id"],
        "FailedJob": listed["failedJobs"]["nodes"][0]["id"],
        "Webhook": webhook["webhook"]["id"],
    }
    return Objects(
        nodes,
        f"{mark}-sale",
        f"{mark}-refund",
        f"{mark}-store",
        f"{mark}-key",
        redeemed["redemption"]["codes"][0],
        {name: page["pageInfo"]["endCursor"] for name, page in cursors.items()},
        [mark, code, world.slug, world.external_id, world.email, *nodes.values()],
    )


async def everything(world: World) -> Any:
    """Return all that a world has."""
    return await world.call(EVERYTHING)

"""The real application under test, and worlds to use it in: a program, its key, a member, a token."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from starlette.applications import Starlette

from app import database
from app.earning.processing import earn_batch
from app.ids import from_global_id
from app.keyring import admin_key
from app.main import create_app
from app.settings import Settings
from tests.helpers import stamp_all

URL = "http://laurel.test"
_serial = count(1)


@dataclass(frozen=True)
class Answer:
    """One answer of the API, taken apart."""

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def data(self) -> Any:
        """The data of an answer that has no errors."""
        assert self.status == 200, self
        assert "errors" not in self.body, self.body["errors"]
        return self.body["data"]

    @property
    def errors(self) -> list[Any]:
        return self.body.get("errors", [])

    @property
    def codes(self) -> list[str]:
        return [error["extensions"]["code"] for error in self.errors]

    @property
    def error(self) -> Any:
        """The only error."""
        (error,) = self.errors
        return error


@dataclass
class Api:
    """One running application."""

    application: Starlette
    http: httpx.AsyncClient
    settings: Settings

    async def post(
        self,
        query: str,
        variables: Mapping[str, Any] | None = None,
        token: str | None = None,
        **headers: str,
    ) -> Answer:
        """Send an operation and return whatever comes back."""
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        body = {"query": query, "variables": variables}
        response = await self.http.post("/graphql", json=body, headers=headers)
        return Answer(response.status_code, response.json(), response.headers)

    async def call(
        self, query: str, variables: Mapping[str, Any] | None = None, token: str | None = None
    ) -> Any:
        """Send an operation that has to succeed, and return its data."""
        return (await self.post(query, variables, token)).data

    @property
    def admin(self) -> str:
        """The platform administrator's key."""
        return admin_key(self.settings)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Api]:
    """Run an application of one's own in this process, on the connection that all tests share."""
    application = create_app(settings)
    with pytest.MonkeyPatch.context() as patch:
        # Every test uses the pool of this process: an application must not close it at its end.
        patch.setattr(database, "connect", _nothing)
        patch.setattr(database, "disconnect", _nothing)
        async with application.router.lifespan_context(application):
            transport = httpx.ASGITransport(application, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url=URL) as http:
                yield Api(application, http, settings)


async def _nothing(*_: object) -> None:
    pass


CREATE_PROGRAM = """mutation ($input: CreateProgramInput!) {
    createProgram(input: $input) { program { id slug } secret userErrors { code field message } }
}"""
CREATE_KEY = """mutation ($input: CreateApiKeyInput!) {
    createApiKey(input: $input) { apiKey { id } secret userErrors { code field } }
}"""
ENROL = """mutation ($input: EnrollMemberInput!) {
    enrollMember(input: $input) { member { id externalId email } replayed userErrors { code field message } }
}"""
TOKEN = """mutation ($input: CreateMemberTokenInput!) {
    createMemberToken(input: $input) { token expiresAt userErrors { code field message } }
}"""
CREATE_RULE = """mutation ($input: EarningRuleInput!) {
    createEarningRule(input: $input) {
        earningRule { id version status name } userErrors { code field message }
    }
}"""
CREATE_TIER = """mutation ($input: TierInput!) {
    createTier(input: $input) {
        tier { id name rank threshold multiplier benefits } userErrors { code field message }
    }
}"""
CREATE_CAMPAIGN = """mutation ($input: CampaignInput!) {
    createCampaign(input: $input) {
        campaign {
            id name status startsAt endsAt multiplier appliesTo audience { tiers { id } stores { id } }
        }
        userErrors { code field message }
    }
}"""
CREATE_STORE = """mutation ($input: StoreInput!) {
    createStore(input: $input) { store { id externalId name } userErrors { code field message } }
}"""
RECORD = """mutation ($input: PurchaseInput!) {
    recordPurchase(input: $input) {
        event { id externalId status points amount occurredAt rejection }
        member { id balance { available pending } }
        replayed userErrors { code field message }
    }
}"""
REFUND = """mutation ($input: RefundPurchaseInput!) {
    refundPurchase(input: $input) {
        refunds { id externalId amount points debt writtenOff lines { number quantity amount } event { id } }
        unmatched { sku quantity } member { id balance { available pending debt } }
        replayed userErrors { code field message }
    }
}"""
RETURN = """mutation ($input: ReturnItemsInput!) {
    returnItems(input: $input) {
        refunds { id externalId amount points debt writtenOff lines { number quantity amount } event { id } }
        unmatched { sku quantity } member { id balance { available pending debt } }
        replayed userErrors { code field message }
    }
}"""
ADJUST = """mutation ($input: AdjustPointsInput!) {
    adjustPoints(input: $input) {
        entry { id sequence kind points availableAfter reason }
        member { id balance { available } }
        replayed userErrors { code field message }
    }
}"""
CREATE_REWARD = """mutation ($input: RewardInput!) {
    createReward(input: $input) {
        reward { id kind name status points stock } userErrors { code field message }
    }
}"""
UPLOAD_CODES = """mutation ($rewardId: ID!, $codes: [String!]!) {
    uploadRewardCodes(rewardId: $rewardId, codes: $codes) {
        added duplicates reward { id stock } userErrors { code field message }
    }
}"""
REDEMPTION = """{
    redemption { id status quantity points amount codes orderId reservedUntil createdAt updatedAt }
    member { id balance { available reserved } } replayed userErrors { code field message }
}"""
REDEEM = f"mutation ($input: RedeemInput!) {{ redeem(input: $input) {REDEMPTION} }}"
RESERVE = f"mutation ($input: ReserveInput!) {{ reserve(input: $input) {REDEMPTION} }}"
CAPTURE = f"mutation ($input: CaptureInput!) {{ capture(input: $input) {REDEMPTION} }}"
CANCEL = f"mutation ($input: CancelRedemptionInput!) {{ cancelRedemption(input: $input) {REDEMPTION} }}"
FULFIL = f"""mutation ($id: ID!, $note: String) {{
    markRedemptionFulfilled(id: $id, note: $note) {REDEMPTION}
}}"""
USE_CODE = f"""mutation ($code: String!, $key: String!) {{
    useRewardCode(code: $code, idempotencyKey: $key) {REDEMPTION}
}}"""


def unique(what: str) -> str:
    """Return a name that nobody has used before."""
    return f"{what}-{next(_serial)}-{uuid4().hex[:8]}"


@dataclass
class World:
    """A program of its own, with what a test needs in it."""

    api: Api
    program: str
    slug: str
    key: str
    member: str
    external_id: str
    email: str
    token: str
    keys: dict[frozenset[str], str] = field(default_factory=dict)

    @property
    def program_id(self) -> UUID:
        return uuid_of(self.program)

    async def call(self, query: str, variables: Mapping[str, Any] | None = None) -> Any:
        """Call with the program's first key, which may everything, and return the data."""
        return await self.api.call(query, variables, self.key)

    async def post(self, query: str, variables: Mapping[str, Any] | None = None) -> Answer:
        return await self.api.post(query, variables, self.key)

    async def do(self, query: str, **input: Any) -> Any:
        """Run a mutation of one field by its input, and return the field's payload."""
        (payload,) = (await self.call(query, {"input": input})).values()
        return payload

    async def done(self, query: str, **input: Any) -> Any:
        """Run a mutation that nothing must be wrong with."""
        payload = await self.do(query, **input)
        assert payload["userErrors"] == [], payload
        return payload

    async def refused(self, query: str, **input: Any) -> list[tuple[str, list[str] | None]]:
        """Run a mutation that is refused, and return the codes and fields of its errors."""
        payload = await self.do(query, **input)
        assert payload["userErrors"], payload
        rest = {name: value for name, value in payload.items() if name not in ("userErrors", "replayed")}
        assert not any(rest.values()), payload
        return [(error["code"], error["field"]) for error in payload["userErrors"]]

    async def scoped_key(self, scopes: frozenset[str]) -> str:
        """Return a key that has just these scopes."""
        if scopes not in self.keys:
            made = await self.done(CREATE_KEY, name=unique("key"), scopes=sorted(scopes))
            self.keys[scopes] = made["secret"]
        return self.keys[scopes]

    async def enrol(self, **profile: Any) -> dict[str, Any]:
        return (await self.done(ENROL, **({"externalId": unique("member")} | profile)))["member"]

    async def token_for(self, member: str, **options: Any) -> str:
        return (await self.done(TOKEN, member={"id": member}, **options))["token"]

    async def rule(self, **rule: Any) -> dict[str, Any]:
        """Set up a rule: a point for every euro, unless told otherwise."""
        rule = {"name": unique("Rule"), "trigger": "PURCHASE"} | rule
        if "fixedPoints" not in rule:
            rule.setdefault("pointsPerAmount", {"points": "1"})
        return (await self.done(CREATE_RULE, **rule))["earningRule"]

    async def tier(self, threshold: str = "0", **tier: Any) -> dict[str, Any]:
        """Make a tier: the one where everybody starts, unless told otherwise."""
        return (await self.done(CREATE_TIER, **({"name": unique("Tier"), "threshold": threshold} | tier)))[
            "tier"
        ]

    async def campaign(self, **campaign: Any) -> dict[str, Any]:
        """Set up a campaign: points are doubled for a thousand years, unless told otherwise."""
        base = {"name": unique("Campaign"), "multiplier": "2"}
        window = {"startsAt": "2020-01-01T00:00:00Z", "endsAt": "3020-01-01T00:00:00Z"}
        return (await self.done(CREATE_CAMPAIGN, **(base | window | campaign)))["campaign"]

    async def store(self, **store: Any) -> dict[str, Any]:
        """Set up a store without a position, unless told otherwise."""
        return (await self.done(CREATE_STORE, **({"externalId": unique("store"), "name": "Store"} | store)))[
            "store"
        ]

    async def purchase(self, amount: str | None = "10", **purchase: Any) -> dict[str, Any]:
        base = {"member": {"id": self.member}, "externalId": unique("sale"), "amount": amount}
        return await self.done(RECORD, **(base | purchase))

    async def adjust(self, points: int, **adjustment: Any) -> dict[str, Any]:
        base = {"member": {"id": self.member}, "reason": "Goodwill", "idempotencyKey": unique("key")}
        return await self.done(ADJUST, **(base | {"points": points} | adjustment))

    async def reward(self, kind: str = "PRODUCT", **reward: Any) -> dict[str, Any]:
        """Set up a reward: for 100 points (a DISCOUNT: 100 for one euro), unless told otherwise."""
        base: dict[str, Any] = {"kind": kind, "name": unique("Reward")}
        base |= {"pointsPerCurrencyUnit": "100"} if kind == "DISCOUNT" else {"points": 100}
        if kind == "GIFT_CARD":
            base["faceValue"] = "10"
        return (await self.done(CREATE_REWARD, **(base | reward)))["reward"]

    async def redeem(self, reward: str, **said: Any) -> dict[str, Any]:
        """Redeem one piece of a reward for the member, unless told otherwise."""
        return await self.done(REDEEM, **self.wanted(reward, **said))

    async def reserve(self, reward: str, **said: Any) -> dict[str, Any]:
        """Reserve one piece of a reward for the member, unless told otherwise."""
        return await self.done(RESERVE, **self.wanted(reward, **said))

    def wanted(self, reward: str, **said: Any) -> dict[str, Any]:
        """Return the input that redeems or reserves a reward, under a key of its own."""
        return {"member": {"id": self.member}, "rewardId": reward, "idempotencyKey": unique("key")} | said

    async def work(self) -> None:
        """Do what a worker does: earn everything that waits."""
        for batch in await stamp_all(self):  # type: ignore[arg-type] # anything with the program's id
            await earn_batch(batch)

    @property
    def id(self) -> UUID:
        """What helpers of the other tests know a program by."""
        return self.program_id


def uuid_of(global_id: str) -> UUID:
    """Return the key inside a global id."""
    found = from_global_id(global_id)
    assert found
    assert isinstance(found[1], UUID)
    return found[1]


async def make_world(api: Api, **settings: Any) -> World:
    """Make a program with its first key, a member and the member's token, all through the API."""
    slug = unique("world")
    defaults = {"slug": slug, "name": "World", "currency": "EUR", "timezone": "Europe/Berlin"}
    created = (await api.call(CREATE_PROGRAM, {"input": defaults | settings}, api.admin))["createProgram"]
    assert created["userErrors"] == [], created
    world = World(api, created["program"]["id"], slug, created["secret"], "", "", "", "")
    email = f"{unique('ada')}@example.com"
    member = await world.enrol(email=email, name="Ada")
    world.member, world.external_id, world.email = member["id"], member["externalId"], email
    world.token = await world.token_for(world.member)
    return world

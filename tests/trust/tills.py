"""Tills: real clients that write, remember what they were promised, and send again what is in doubt."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from uuid import uuid4

import httpx

from tests.trust.place import ADMIN_KEY

MEMBERS = 12
FIXED_POINTS = 5
IN_DOUBT_PAUSE_SECONDS = 0.1
# The API's own limit for a request is 30 seconds.
ANSWER_SECONDS = 35

_PROGRAM = """mutation ($input: CreateProgramInput!) {
    createProgram(input: $input) { secret userErrors { message } }
}"""
_RULE = "mutation ($input: EarningRuleInput!) { createEarningRule(input: $input) { userErrors { message } } }"
_ENROL = "mutation ($input: EnrollMemberInput!) { enrollMember(input: $input) { userErrors { message } } }"
_PURCHASE = """mutation Purchase($input: PurchaseInput!) {
    answer: recordPurchase(input: $input) { event { status points } replayed userErrors { code message } }
}"""
_EVENTS = """mutation Events($input: [EventInput!]!) {
    answer: recordEvents(input: $input) { accepted replayed userErrors { code message } }
}"""
_ADJUST = """mutation Adjust($input: AdjustPointsInput!) {
    answer: adjustPoints(input: $input) { replayed userErrors { code message } }
}"""


@dataclass
class Request:
    """One thing that a till wants: its document and input, and what it comes to for whom."""

    query: str
    input: Any
    events: dict[str, tuple[str, int]] = field(default_factory=dict)
    adjustments: dict[str, tuple[str, int]] = field(default_factory=dict)


@dataclass
class Journal:
    """What was intended, what was promised, and what was answered meanwhile."""

    events: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Points by the event's id that was acknowledged, with its member."""
    adjustments: dict[str, tuple[str, int]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    """Adjustments that would have taken more than there was."""
    answers: Counter[str] = field(default_factory=Counter)
    acknowledged: list[tuple[float, float]] = field(default_factory=list)
    """When each write that was acknowledged was sent, and when it was answered."""
    replays: int = 0
    longest_seconds: float = 0.0

    def first_after(self, moment: float) -> float:
        """Return how long after a moment the first write that was sent since then was acknowledged."""
        return min(answered for sent, answered in self.acknowledged if sent >= moment) - moment


class Shop:
    """A program of its own, with members, and tills that write."""

    def __init__(self, http: httpx.AsyncClient, slug: str, key: str, seed: int) -> None:
        self.http = http
        self.slug = slug
        self.journal = Journal()
        self.members = [f"m{n}" for n in range(MEMBERS)]
        self.in_doubt: list[Request] = []
        self._key = key
        self._random = random.Random(seed)
        self._serial = 0

    async def post(self, query: str, input: Any) -> Any:
        """Send one operation that has to succeed, and return its payload."""
        response = await _post(self.http, self._key, query, input)
        body = response.json()
        assert not body.get("errors"), body
        (payload,) = body["data"].values()
        assert not payload["userErrors"], payload
        return payload

    async def ask(self, query: str, **variables: Any) -> Any:
        """Send one operation with variables of its own, and return what its one field gives."""
        response = await self.http.post(
            "/graphql",
            json={"query": query, "variables": variables},
            headers={"authorization": f"Bearer {self._key}"},
            timeout=ANSWER_SECONDS,
        )
        body = response.json()
        assert not body.get("errors"), body
        (answer,) = body["data"].values()
        return answer

    def _purchase(self, member: str, processing: str | None = None) -> tuple[str, int, dict[str, Any]]:
        self._serial += 1
        name, euros = f"e{self._serial}", self._random.randint(1, 200)
        purchase = {
            "member": {"externalId": member},
            "externalId": name,
            "amount": f"{euros}.{self._random.randint(0, 99):02}",
        }
        if processing:
            purchase["processing"] = processing
        return name, euros + FIXED_POINTS, purchase

    def purchase(self, processing: str, member: str | None = None) -> Request:
        """Make a purchase that nobody has sent."""
        member = member or self._random.choice(self.members)
        name, points, purchase = self._purchase(member, processing)
        return Request(_PURCHASE, purchase, events={name: (member, points)})

    def batch(self, size: int, members: list[str] | None = None) -> Request:
        """Make a batch of events that nobody has sent."""
        events, inputs = {}, []
        for _ in range(size):
            member = self._random.choice(members or self.members)
            name, points, purchase = self._purchase(member)
            events[name] = (member, points)
            inputs.append({"purchase": purchase})
        return Request(_EVENTS, inputs, events=events)

    def adjustment(self) -> Request:
        """Make an adjustment that nobody has sent; one in three takes points."""
        self._serial += 1
        key, member = f"a{self._serial}", self._random.choice(self.members)
        points = self._random.randint(1, 50) * self._random.choice((1, 1, -1))
        # Its reason is its key, so that the books can be asked for it.
        adjustment = {"member": {"externalId": member}, "points": points, "reason": key}
        return Request(_ADJUST, adjustment | {"idempotencyKey": key}, adjustments={key: (member, points)})

    def anything(self) -> Request:
        """Make a request such as a busy shop's."""
        kind = self._random.random()
        if kind < 0.4:
            return self.purchase("NOW")
        if kind < 0.65:
            return self.purchase("DEFERRED")
        if kind < 0.85:
            return self.batch(self._random.randint(2, 30))
        return self.adjustment()

    async def send(self, request: Request, seconds: float = 60) -> None:
        """Send a request, again with the same ids while its outcome is in doubt, until it is answered."""
        deadline = monotonic() + seconds
        while not await self.try_once(request):
            assert monotonic() < deadline, f"no answer within {seconds:g} seconds: {self.journal.answers}"
            await asyncio.sleep(IN_DOUBT_PAUSE_SECONDS)

    async def try_once(self, request: Request) -> bool:
        """Send a request once; return whether it was answered."""
        started = monotonic()
        outcome = "ok"
        try:
            response = await _post(self.http, self._key, request.query, request.input)
            body = response.json()
            if errors := body.get("errors"):
                outcome = errors[0]["extensions"]["code"]
        except (httpx.HTTPError, ValueError) as error:
            outcome = type(error).__name__
        finally:
            self.journal.longest_seconds = max(self.journal.longest_seconds, monotonic() - started)
        self.journal.answers[outcome] += 1
        if outcome != "ok":
            return False
        self._remember(request, body["data"]["answer"])
        self.journal.acknowledged.append((started, monotonic()))
        return True

    def _remember(self, request: Request, answer: Any) -> None:
        journal, codes = self.journal, {error["code"] for error in answer["userErrors"]}
        if request.adjustments and codes == {"INSUFFICIENT_POINTS"}:
            journal.refused.update(request.adjustments)
            return
        assert not codes, answer
        journal.events.update(request.events)
        journal.adjustments.update(request.adjustments)
        if "accepted" in answer:
            assert answer["accepted"] + answer["replayed"] == len(request.events), answer
        journal.replays += int(answer["replayed"])
        event = answer.get("event")
        if event and event["status"] == "PROCESSED":
            ((_, points),) = request.events.values()
            assert event["points"] == points, (request, answer)

    @asynccontextmanager
    async def busy(self, tills: int = 6, pause_seconds: float = 0.02) -> AsyncIterator[None]:
        """Let tills write; at the end each finishes what it is about, however often it has to send it."""
        closing = asyncio.Event()

        async def work() -> None:
            while not closing.is_set():
                await self.send(self.anything())
                await asyncio.sleep(pause_seconds * self._random.uniform(0.5, 1.5))

        running = [asyncio.create_task(work()) for _ in range(tills)]
        try:
            yield
            closing.set()
            await asyncio.wait_for(asyncio.gather(*running), 90)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


async def _post(http: httpx.AsyncClient, key: str, query: str, input: Any) -> httpx.Response:
    return await http.post(
        "/graphql",
        json={"query": query, "variables": {"input": input}},
        headers={"authorization": f"Bearer {key}"},
        timeout=ANSWER_SECONDS,
    )


@asynccontextmanager
async def open_shop(url: str, admin_key: str = ADMIN_KEY, seed: int = 1) -> AsyncIterator[Shop]:
    """Make a program of its own, in which a purchase earns a point for each whole euro, and five."""
    slug = f"shop-{uuid4().hex[:12]}"
    async with httpx.AsyncClient(base_url=url) as http:
        platform = Shop(http, slug, admin_key, seed)
        program = {"slug": slug, "name": slug, "currency": "EUR", "timezone": "Europe/Berlin"}
        shop = Shop(http, slug, (await platform.post(_PROGRAM, program))["secret"], seed)
        by_amount = {"name": "By amount", "trigger": "PURCHASE", "pointsPerAmount": {"points": "1"}}
        fixed = {"name": "Each purchase", "trigger": "PURCHASE", "fixedPoints": FIXED_POINTS}
        for rule in (by_amount, fixed):
            await shop.post(_RULE, rule)
        for member in shop.members:
            await shop.post(_ENROL, {"externalId": member})
        yield shop

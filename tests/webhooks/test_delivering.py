"""Webhooks are delivered: signed, at least once, and each member's messages in their order."""

import asyncio
from datetime import timedelta

import pytest

from app import clock
from app.ids import to_global_id
from app.jobs import health
from app.messages.feed import number_program, number_waiting
from app.messages.topics import Topic
from app.programs.models import Program
from app.settings import settings
from tests.helpers import new_member
from tests.webhooks.receiver import Receiver, deliver, hook, row_of, status, tell, waiting
from workers.messages import number_forever
from workers.webhooks import deliver_forever


async def test_message_goes_out_signed_and_says_who_what_and_when(
    program: Program, receiver: Receiver
) -> None:
    member = await new_member(program, external_id="ada")
    webhook, secret = await hook(program, receiver.url)
    await tell(program, 1, member=member)
    await deliver(program)
    (request,) = receiver.got
    body = request.verified(secret)
    assert request.headers[":line"] == "POST /hooks?shop=1 HTTP/1.1"
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert request.headers["content-type"] == "application/json"
    assert body["type"] == "points.earned"
    assert body["data"]["n"] == 1
    assert body["data"]["member"] == {"id": to_global_id("Member", member.id), "externalId": "ada"}
    assert await waiting(webhook) == []
    row = await row_of(webhook)
    assert (row["lease"], row["due_at"], row["failures"]) == (None, None, 0)


async def test_webhook_hears_of_its_topics_and_of_nothing_before_it(
    program: Program, receiver: Receiver
) -> None:
    await tell(program, 0)
    await hook(program, receiver.url, "points.*", "tier.up")
    for n, topic in enumerate((Topic.POINTS_EARNED, Topic.TIER_DOWN, Topic.TIER_UP, Topic.POINTS_EXPIRED), 1):
        await tell(program, n, topic=topic)
    await deliver(program)
    assert [request.n for request in receiver.got] == [1, 3, 4]
    assert receiver.got[0].json["data"]["member"] is None


async def test_worker_delivers_soon_after_the_commit_and_stops_at_once(
    program: Program, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings(), "allow_private_webhooks", True)
    webhook, secret = await hook(program, receiver.url)
    # What other tests have left comes first, and is none of our business.
    async with asyncio.timeout(60):
        while await number_waiting():
            pass
    loops = [asyncio.create_task(number_forever()), asyncio.create_task(deliver_forever())]
    loop = asyncio.get_running_loop()
    delays = []
    try:
        for n in range(1, 6):
            await tell(program, n)
            committed = loop.time()
            await receiver.has(n)
            delays.append(loop.time() - committed)
    finally:
        stopped = loop.time()
        for task in loops:
            task.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
    assert loop.time() - stopped < 2
    assert min(delays) < 0.5, delays
    assert [request.verified(secret)["data"]["n"] for request in receiver.got] == [1, 2, 3, 4, 5]
    assert await waiting(webhook) == []
    assert (await row_of(webhook))["lease"] is None


async def test_what_waits_for_a_worker_is_told_and_what_waits_for_the_receiver_is_not(
    program: Program, receiver: Receiver
) -> None:
    webhook, _ = await hook(program, receiver.url)
    await tell(program, 1, 2)
    await number_program(program.id)
    (waits,) = await health.waiting(program.id)
    assert (waits.queue, waits.items) == ("webhooks", 2)
    assert clock.now() - waits.oldest < timedelta(seconds=10)
    receiver.behaviour = status(500)
    await deliver(program)
    assert len(await waiting(webhook)) == 2
    assert await health.waiting(program.id) == []

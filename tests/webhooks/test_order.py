"""Each member's messages arrive in their order, and none is lost, whatever fails, is killed or deleted."""

import asyncio
import random
from datetime import timedelta

import pytest

from app import clock
from app.database import connection
from app.messages.feed import number_program
from app.programs.models import Program
from app.webhooks import deliveries, delivering
from app.webhooks.delivering import Deliverer
from app.webhooks.sending import Limits, Sender
from app.webhooks.service import delete_webhook
from tests.helpers import new_member
from tests.webhooks.receiver import (
    Behaviour,
    Receiver,
    Request,
    deliver,
    hang,
    hang_up,
    hook,
    row_of,
    status,
    tell,
    vault,
    waiting,
)


def _by_chance(chance: random.Random, taken: list[Request]) -> Behaviour:
    """Fail every third time in one way or another; what was taken is noted."""

    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(chance.random() * 0.005)
        if chance.random() < 0.35:
            await chance.choice([status(500), status(429), hang_up])(request, writer)
        else:
            taken.append(request)
            await status(200)(request, writer)

    return behave


@pytest.mark.parametrize("seed", [1, 2])
async def test_order_of_each_member_survives_random_failures_and_killed_workers(
    program: Program, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    offset = timedelta()
    real = clock.now
    monkeypatch.setattr(clock, "now", lambda: real() + offset)
    receiver.behaviour = _by_chance(chance, receiver.taken)
    members = [await new_member(program, external_id=f"m{n}") for n in range(8)]
    webhook, _ = await hook(program, receiver.url)
    sent: dict[str | None, list[int]] = {}
    for n in range(160):
        member = chance.choice([*members, None])
        sent.setdefault(member and member.external_id, []).append(n)
        await tell(program, n, member=member)
    await number_program(program.id)
    killed = 0
    async with Sender(allow_private=True) as sender:
        for _ in range(400):
            deliverer = Deliverer(sender, vault())
            begun = await deliverer.begin()
            if begun and killed < 6 and chance.random() < 0.5:
                # Killed: nothing is written down, and the lease is nobody's until it has run out.
                killed += 1
                await asyncio.sleep(chance.random() * 0.05)
                for task, session in deliverer._sessions.items():
                    monkeypatch.setattr(session, "_end", _nothing)
                    for line in list(session._running.values()):
                        line.cancel()
                    task.cancel()
                await asyncio.gather(*deliverer._sessions, return_exceptions=True)
                offset += deliveries.LEASE
            await deliverer.finish()
            if not await waiting(webhook) and (await row_of(webhook))["position"] == 160:
                break
            offset += timedelta(minutes=20)
    assert killed >= 2
    assert await waiting(webhook) == []
    firsts: dict[str | None, list[int]] = {}
    for request in receiver.taken:
        numbers = firsts.setdefault(request.member, [])
        if request.n not in numbers:
            numbers.append(request.n)
    assert firsts == sent
    ids = {request.headers["webhook-id"] for request in receiver.taken}
    assert len(ids) == 160


async def _nothing() -> None:
    pass


async def test_two_workers_do_not_deliver_a_webhook_at_once(program: Program, receiver: Receiver) -> None:
    webhook, _ = await hook(program, receiver.url)
    await tell(program, *range(30))
    await number_program(program.id)
    async with (
        Sender(allow_private=True) as sender,
        Deliverer(sender, vault()) as one,
        Deliverer(sender, vault()) as two,
    ):
        assert sum(await asyncio.gather(one.begin(), two.begin())) == 1
        await asyncio.gather(one.finish(), two.finish())
    assert [request.n for request in receiver.got] == list(range(30))
    assert await waiting(webhook) == []


async def test_worker_whose_lease_was_taken_over_stops_and_writes_nothing(
    program: Program, receiver: Receiver
) -> None:
    release = asyncio.Event()

    async def wait(request: Request, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await status(200)(request, writer)

    receiver.behaviour = wait
    webhook, _ = await hook(program, receiver.url)
    await tell(program, 1, 2)
    await number_program(program.id)
    async with Sender(allow_private=True) as sender, Deliverer(sender, vault()) as deliverer:
        await deliverer.begin()
        await receiver.has(1)
        async with connection() as sql:
            await sql.execute("UPDATE webhook SET lease = gen_random_uuid() WHERE id = $1", webhook.id)
        release.set()
        await deliverer.finish()
    assert len(await waiting(webhook)) == 2
    assert (await row_of(webhook))["lease"] is not None


async def test_stopped_worker_ends_what_it_can_and_gives_its_lease_back(
    program: Program, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "_GRACE_SECONDS", 0.3)
    ada, bob = await new_member(program, external_id="ada"), await new_member(program, external_id="bob")

    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.member == "ada":
            await hang(request, writer)
        await asyncio.sleep(0.1)
        await status(200)(request, writer)

    receiver.behaviour = behave
    webhook, _ = await hook(program, receiver.url)
    await tell(program, 1, member=ada)
    await tell(program, 2, 3, member=bob)
    await number_program(program.id)
    loop = asyncio.get_running_loop()
    async with Sender(allow_private=True, limits=Limits(5, 15)) as sender:
        async with Deliverer(sender, vault()) as deliverer:
            await deliverer.begin()
            await receiver.has(2)
            started = loop.time()
        assert loop.time() - started < 2
    assert [each["position"] for each in await waiting(webhook)] == [1, 3]
    row = await row_of(webhook)
    assert row["lease"] is None
    receiver.behaviour = status(200)
    await deliver(program)
    assert receiver.by_member() == {"ada": [1], "bob": [2, 3]}
    assert await waiting(webhook) == []


async def test_webhook_is_deleted_while_it_is_delivered(program: Program, receiver: Receiver) -> None:
    async def slow(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02)
        await status(200)(request, writer)

    receiver.behaviour = slow
    webhook, _ = await hook(program, receiver.url)
    await tell(program, *range(200))
    await number_program(program.id)
    async with Sender(allow_private=True) as sender, Deliverer(sender, vault()) as deliverer:
        await deliverer.begin()
        await receiver.has(5)
        await delete_webhook(program.id, webhook.id)
        await deliverer.finish()
    assert len(receiver.got) < 30
    assert await waiting(webhook) == []


async def test_more_than_is_written_down_at_once_arrives_whole(
    program: Program, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "_FAN_OUT", 40)
    monkeypatch.setattr(deliveries, "_TAKE", 25)
    monkeypatch.setattr(deliveries, "_MAX_FAN_OUTS", 2)
    members = [await new_member(program, external_id=f"m{n}") for n in range(7)]
    webhook, _ = await hook(program, receiver.url)
    for n in range(300):
        await tell(program, n, member=members[n % 7])
    await deliver(program)
    assert sorted(receiver.by_member().values()) == [list(range(n, 300, 7)) for n in range(7)]
    assert await waiting(webhook) == []


async def test_receiver_that_takes_nothing_lets_only_so_much_be_written_down(
    program: Program, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "MAX_WAITING", 30)
    monkeypatch.setattr(deliveries, "_FAN_OUT", 10)
    monkeypatch.setattr(deliveries, "_TAKE", 5)
    receiver.behaviour = status(500)
    webhook, _ = await hook(program, receiver.url)
    await tell(program, *range(100))
    await deliver(program)
    assert len(receiver.got) == 1
    row = await row_of(webhook)
    assert (len(await waiting(webhook)), row["backed_up"], row["position"]) == (30, True, 30)
    async with connection() as sql:
        await sql.execute("UPDATE webhook SET due_at = now() WHERE id = $1", webhook.id)
        await sql.execute("UPDATE webhook_delivery SET next_at = now() WHERE webhook_id = $1", webhook.id)
    receiver.behaviour = status(200)
    await deliver(program)
    assert [request.n for request in receiver.got[1:]] == list(range(100))
    assert (await row_of(webhook))["backed_up"] is False

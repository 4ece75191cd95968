"""What is not taken is sent again for three days; then it is put aside, or the webhook is switched off."""

import asyncio
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest

from app import clock
from app.catalog.vault import Vault
from app.database import connection
from app.ids import key_id, to_global_id
from app.jobs.failed import list_failed, retry_failed
from app.jobs.jobs import JobStatus, get_jobs
from app.messages.feed import number_program
from app.metrics import WEBHOOK_DELIVERIES
from app.paging import make_page
from app.programs.models import Program
from app.settings import settings
from app.webhooks import backoff, reads
from app.webhooks.delivering import Deliverer
from app.webhooks.retrying import deliver_again
from app.webhooks.sending import Sender
from app.webhooks.service import enable_webhook
from tests.helpers import new_member, work_all
from tests.webhooks.receiver import (
    Receiver,
    Request,
    deliver,
    hook,
    row_of,
    status,
    tell,
    waiting,
)


class Clock:
    """The clock, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = clock.now()
        monkeypatch.setattr(clock, "now", lambda: self.now)

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def _feed(program: Program) -> list[Any]:
    await number_program(program.id)
    async with connection() as sql:
        return await sql.fetch("SELECT * FROM feed WHERE program_id = $1 ORDER BY position", program.id)


async def _failed_jobs(program: Program) -> list[Any]:
    return list((await list_failed(program.id, make_page())).items)


async def test_message_is_tried_again_for_three_days_and_then_put_aside(
    program: Program, receiver: Receiver, moved: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def not_ada(request: Request, writer: asyncio.StreamWriter) -> None:
        await status(500 if request.member == "ada" and request.n == 1 else 200, "no")(request, writer)

    ada, bob = await new_member(program, external_id="ada"), await new_member(program, external_id="bob")
    receiver.behaviour = not_ada
    webhook, _ = await hook(program, receiver.url)
    started = moved.now
    await tell(program, 1, 2, member=ada)
    await deliver(program)
    attempts = [moved.now]
    for n in range(100):
        head, *_ = await waiting(webhook)
        moved.now = head["next_at"]
        # Others are taken all the time: it is this message, and not the receiver.
        await tell(program, 100 + n, member=bob)
        if head["attempts"] and moved.now - started < timedelta(days=3):
            assert receiver.by_member()["ada"] == [1]
        await deliver(program)
        attempts.append(moved.now)
        if not await waiting(webhook):
            break
    assert moved.now - started == timedelta(days=3)
    assert 20 < len(attempts) < 60
    gaps = [(after - before).total_seconds() for before, after in pairwise(attempts)]
    assert 2.5 <= gaps[0] <= 7.5
    assert max(gaps) <= 1.5 * 4 * 3600
    assert all(gap <= 7.5 * 2.0**n for n, gap in enumerate(gaps))
    # Its attempts have one id and one body; what came after it went out when it was given up.
    tries = [request for request in receiver.got if request.n == 1]
    assert len(tries) == len(attempts)
    assert len({(request.headers["webhook-id"], request.body) for request in tries}) == 1
    assert len({request.headers["webhook-signature"] for request in tries}) == len(tries)
    assert receiver.by_member()["ada"] == [1, 2]
    assert (await row_of(webhook))["disabled_at"] is None
    (failed,) = await _failed_jobs(program)
    assert (failed.queue, failed.subject) == ("webhooks", key_id(webhook.id, 1))
    assert failed.payload == {"webhook": str(webhook.id), "position": 1}
    assert failed.attempts == len(attempts)
    assert failed.error == "The receiver answered 500: no"
    assert (failed.first_failed_at, failed.last_failed_at) == (started, moved.now)

    # A person has it sent again: in vain at first.
    monkeypatch.setattr(settings(), "allow_private_webhooks", True)
    job = await retry_failed(program.id, failed.id)
    await work_all(program)
    (job,) = await get_jobs(program.id, [job.id])
    assert (job.status, "answered 500" in job.error) == (JobStatus.FAILED, True)
    receiver.behaviour = status(200)
    job = await retry_failed(program.id, failed.id)
    await work_all(program)
    (job,) = await get_jobs(program.id, [job.id])
    assert job.status is JobStatus.SUCCEEDED
    assert receiver.got[-1].headers["webhook-id"] == tries[0].headers["webhook-id"]
    assert receiver.got[-1].body == tries[0].body
    assert await _failed_jobs(program) == []


async def test_receiver_that_takes_nothing_for_three_days_is_switched_off_and_that_is_told(
    program: Program, receiver: Receiver, moved: Clock
) -> None:
    receiver.behaviour = status(500)
    webhook, _ = await hook(program, receiver.url)
    other, _ = await hook(program, receiver.url + "&other", "webhook.*")
    await tell(program, 1, 2, 3)
    started = moved.now
    await deliver(program)
    for _ in range(100):
        row = await row_of(webhook)
        if row["disabled_at"]:
            break
        assert row["failing_since"] == started
        moved.now = row["due_at"]
        await deliver(program)
    assert row["disabled_at"] - started == timedelta(days=3)
    assert len(receiver.got) < 60
    assert len(await waiting(webhook)) == 3
    assert await _failed_jobs(program) == []
    (told,) = [row for row in await _feed(program) if row["topic"] == "webhook.disabled"]
    assert told["payload"] == {
        "webhookId": to_global_id("Webhook", webhook.id),
        "url": webhook.url,
        "error": "The receiver answered 500.",
    }

    # While it is off nothing is sent; the others hear of it.
    receiver.got.clear()
    receiver.behaviour = status(200)
    await tell(program, 4)
    moved.forward(days=30)
    await deliver(program)
    assert [request.headers[":line"] for request in receiver.got] == ["POST /hooks?shop=1&other HTTP/1.1"]
    assert receiver.got[0].json["type"] == "webhook.disabled"
    assert await reads.count_waiting(program.id, [webhook.id, other.id]) == [5, 0]

    # Switched on again it goes on where it stopped, and has its three days again.
    receiver.got.clear()
    receiver.behaviour = status(503)
    enabled = await enable_webhook(program.id, webhook.id)
    assert (enabled.disabled_at, enabled.failing_since, enabled.last_error) == (None, None, None)
    await deliver(program)
    assert (await row_of(webhook))["failing_since"] == moved.now
    moved.forward(days=2)
    receiver.behaviour = status(200)
    await deliver(program)
    assert [request.n for request in receiver.got] == [1, 1, 2, 3, None, 4]
    assert await waiting(webhook) == []
    assert (await row_of(webhook))["failing_since"] is None
    assert (await enable_webhook(program.id, webhook.id)).disabled_at is None


async def test_receiver_that_is_gone_is_switched_off_at_once(program: Program, receiver: Receiver) -> None:
    receiver.behaviour = status(410)
    webhook, _ = await hook(program, receiver.url)
    await tell(program, 1, 2)
    await deliver(program)
    assert len(receiver.got) == 1
    assert (await row_of(webhook))["disabled_at"] is not None
    assert len(await waiting(webhook)) == 2


async def test_receiver_that_is_down_is_asked_now_and_then_and_hears_everything_when_it_is_back(
    program: Program, receiver: Receiver, moved: Clock
) -> None:
    failed = WEBHOOK_DELIVERIES.labels("failed")._value.get()
    receiver.behaviour = status(503)
    members = [await new_member(program) for _ in range(60)]
    webhook, _ = await hook(program, receiver.url)
    for n, member in enumerate(members):
        await tell(program, n, 1000 + n, member=member)
    await deliver(program)
    # Some at once, and then no more of the sixty.
    assert backoff.PAUSE_AFTER <= len(receiver.got) <= backoff.PAUSE_AFTER + 16
    assert WEBHOOK_DELIVERIES.labels("failed")._value.get() - failed == len(receiver.got)
    pauses = []
    for _ in range(12):
        row = await row_of(webhook)
        pauses.append((row["paused_until"] - moved.now).total_seconds())
        moved.now = row["paused_until"]
        receiver.got.clear()
        await deliver(program)
        assert len(receiver.got) == 1
    assert 2.5 <= pauses[0] <= 7.5
    assert 300 <= pauses[-1] <= 900
    receiver.behaviour = status(200)
    moved.now = (await row_of(webhook))["paused_until"]
    receiver.got.clear()
    await deliver(program)
    assert await waiting(webhook) == []
    assert receiver.most_at_once <= 16
    assert sorted(receiver.by_member().values()) == [[n, 1000 + n] for n in range(60)]
    row = await row_of(webhook)
    assert (row["failures"], row["failing_since"], row["paused_until"]) == (0, None, None)


async def test_one_message_that_fails_for_ever_pauses_nothing(
    program: Program, receiver: Receiver, moved: Clock
) -> None:
    receiver.behaviour = status(400)
    webhook, _ = await hook(program, receiver.url)
    await tell(program, 1)
    await deliver(program)
    for _ in range(15):
        moved.now = (await row_of(webhook))["due_at"]
        await deliver(program)
    row = await row_of(webhook)
    assert (len(receiver.got), row["failures"], row["paused_until"]) == (16, 1, None)


async def test_secret_that_cannot_be_opened_is_told_and_tried_again(
    program: Program, receiver: Receiver, moved: Clock
) -> None:
    webhook, _ = await hook(program, receiver.url)
    await tell(program, 1)
    await number_program(program.id)
    async with (
        Sender(allow_private=True) as sender,
        Deliverer(sender, Vault("another key")) as other,
    ):
        assert await other.begin() == 1
        await other.finish()
        assert await other.begin() == 0
    row = await row_of(webhook)
    assert "LAUREL_CODES_KEY" in row["last_error"]
    assert receiver.got == []
    moved.forward(minutes=2)
    await deliver(program)
    assert len(receiver.got) == 1


async def test_what_was_given_up_cannot_be_sent_without_its_webhook(program: Program) -> None:
    payload = {"webhook": str(UUID(int=1)), "position": 1}
    with pytest.raises(Exception, match="not there any more"):
        await deliver_again(program.id, payload)


def test_backoff_grows_within_its_bounds_and_ends_with_the_three_days() -> None:
    now = datetime.fromisoformat("2026-03-01T00:00:00+00:00")
    for attempts in (1, 5, 12, 1000):
        for _ in range(50):
            wait = (backoff.next_attempt(attempts, now, now) - now).total_seconds()
            base = min(5 * 2.0 ** min(attempts - 1, 30), 4 * 3600)
            assert 0.5 * base <= wait <= 1.5 * base
            assert (backoff.next_probe(9 + attempts, now) - now).total_seconds() <= 900
    first = now - timedelta(days=2, hours=23, minutes=59)
    assert backoff.next_attempt(30, first, now) == now + timedelta(minutes=1)
    assert len({backoff.next_attempt(3, now, now) for _ in range(20)}) > 10

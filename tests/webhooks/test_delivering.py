"""Webhooks are delivered: signed, at least once, and each member's messages in their order."""

from app.ids import to_global_id
from app.messages.topics import Topic
from app.programs.models import Program
from tests.helpers import new_member
from tests.webhooks.receiver import Receiver, deliver, hook, row_of, tell, waiting


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

"""Webhooks through the API: set up, listed, deleted, switched on; and what is refused."""

from typing import Any

import pytest

from app.messages.topics import Topic
from app.settings import settings
from tests.api.client import World, make_world
from tests.webhooks.receiver import deliver, receiving, status, tell

WEBHOOK = "{ id url topics createdAt disabledAt failingSince lastError waiting }"
WEBHOOKS = f"{{ webhooks {WEBHOOK} }}"
NODE = f"query ($id: ID!) {{ node(id: $id) {{ ... on Webhook {WEBHOOK} }} }}"
CREATE = f"""mutation ($input: WebhookInput!) {{ createWebhook(input: $input) {{
    webhook {WEBHOOK} secret userErrors {{ code field message }}
}} }}"""
DELETE = "mutation ($id: ID!) { deleteWebhook(id: $id) { webhook { id url } userErrors { code field } } }"
ENABLE = f"""mutation ($id: ID!) {{ enableWebhook(id: $id) {{
    webhook {WEBHOOK} secret userErrors {{ code field }}
}} }}"""
ADDRESS = "https://shop.example/hooks"


async def test_webhook_is_made_listed_and_deleted_and_its_secret_is_shown_once(world: World) -> None:
    made = await world.done(CREATE, url=ADDRESS, topics=["points.*", "tier.up", "tier.up"])
    webhook = made["webhook"]
    assert made["secret"].startswith("whsec_")
    assert (webhook["url"], webhook["topics"]) == (ADDRESS, ["points.*", "tier.up"])
    assert (webhook["waiting"], webhook["disabledAt"], webhook["lastError"]) == (0, None, None)
    other = (await world.done(CREATE, url="https://bücher.example/a b?x=1#top", topics=[]))["webhook"]
    assert other["url"] == "https://xn--bcher-kva.example/a%20b?x=1"
    assert await world.call(WEBHOOKS) == {"webhooks": [webhook, other]}
    assert (await world.call(NODE, {"id": webhook["id"]}))["node"] == webhook
    assert made["secret"] not in str(await world.call(WEBHOOKS))
    stranger = await make_world(world.api)
    assert await stranger.call(WEBHOOKS) == {"webhooks": []}
    assert (await stranger.call(NODE, {"id": webhook["id"]}))["node"] is None
    missing = [{"code": "NOT_FOUND", "field": ["id"]}]
    for mutation, name in ((DELETE, "deleteWebhook"), (ENABLE, "enableWebhook")):
        assert (await stranger.call(mutation, {"id": webhook["id"]}))[name]["userErrors"] == missing
    gone = (await world.call(DELETE, {"id": webhook["id"]}))["deleteWebhook"]
    assert gone == {"webhook": {"id": webhook["id"], "url": ADDRESS}, "userErrors": []}
    assert (await world.call(DELETE, {"id": webhook["id"]}))["deleteWebhook"]["userErrors"] == missing
    assert await world.call(WEBHOOKS) == {"webhooks": [other]}
    await world.call(DELETE, {"id": other["id"]})


@pytest.mark.parametrize(
    ("wrong", "fields"),
    [
        ({"url": ""}, [["url"]]),
        ({"url": "text"}, [["url"], ["url"]]),
        ({"url": "http://shop.example/"}, [["url"]]),
        ({"url": "ftp://shop.example/"}, [["url"]]),
        ({"url": "https://"}, [["url"]]),
        ({"url": "https:///hooks"}, [["url"]]),
        ({"url": "https://ada:secret@shop.example/"}, [["url"]]),
        ({"url": "https://shop.example:99999/"}, [["url"]]),
        ({"url": "https://shop.example/" + "x" * 2000}, [["url"]]),
        ({"url": "https://sh op.example/"}, [["url"]]),
        ({"url": "https://shop.example/\0"}, [["url"]]),
        ({"url": "https://10.0.0.1/"}, [["url"]]),
        ({"url": "https://[::ffff:127.0.0.1]/"}, [["url"]]),
        ({"topics": ["points.earned", "points", "nothing.*", "."]}, [["topics", str(n)] for n in (1, 2, 3)]),
        ({"topics": ["points.earned"] * 51}, [["topics"]]),
    ],
)
async def test_wrong_webhook_is_refused_by_field(world: World, wrong: Any, fields: Any) -> None:
    refused = await world.refused(CREATE, **({"url": ADDRESS, "topics": []} | wrong))
    assert refused == [("INVALID", field) for field in fields]


async def test_unknown_topic_is_answered_with_all_that_there_are(world: World) -> None:
    payload = await world.do(CREATE, url=ADDRESS, topics=["tea.drunk"])
    (error,) = payload["userErrors"]
    assert all(topic in error["message"] for topic in (*Topic, "points.*", "*"))


async def test_program_has_twenty_webhooks_at_most(world: World) -> None:
    for n in range(20):
        await world.done(CREATE, url=f"{ADDRESS}/{n}", topics=["*"])
    assert await world.refused(CREATE, url=ADDRESS, topics=[]) == [("LIMIT_REACHED", None)]
    for webhook in (await world.call(WEBHOOKS))["webhooks"]:
        await world.call(DELETE, {"id": webhook["id"]})


async def test_webhook_that_was_switched_off_shows_why_and_goes_on_when_it_is_enabled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await world.refused(CREATE, url="http://127.0.0.1:1/", topics=[]))[0] == ("INVALID", ["url"])
    monkeypatch.setattr(settings(), "allow_private_webhooks", True)
    async with receiving() as receiver:
        receiver.behaviour = status(410, "moved away")
        made = await world.done(CREATE, url=receiver.url, topics=[])
        await world.purchase("10.00")
        program: Any = type("Program", (), {"id": world.program_id})
        await tell(program, 1)
        await tell(program, 2)
        await deliver(program)
        (webhook,) = (await world.call(WEBHOOKS))["webhooks"]
        assert webhook["disabledAt"]
        assert webhook["failingSince"]
        assert webhook["lastError"] == "The receiver answered 410: moved away"
        assert webhook["waiting"] >= 2
        receiver.behaviour = status(200)
        receiver.got.clear()
        enabled = (await world.call(ENABLE, {"id": webhook["id"]}))["enableWebhook"]
        assert (enabled["secret"], enabled["userErrors"]) == (None, [])
        assert (enabled["webhook"]["disabledAt"], enabled["webhook"]["lastError"]) == (None, None)
        await deliver(program)
        (webhook,) = (await world.call(WEBHOOKS))["webhooks"]
        assert webhook["waiting"] == 0
        bodies = [request.verified(made["secret"]) for request in receiver.got]
        assert [body["data"].get("n") for body in bodies if "n" in body["data"]] == [1, 2]
        await world.call(DELETE, {"id": webhook["id"]})


async def test_consumer_reads_on_from_the_cursor_of_a_delivery(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings(), "allow_private_webhooks", True)
    async with receiving() as receiver:
        made = await world.done(CREATE, url=receiver.url, topics=[])
        program: Any = type("Program", (), {"id": world.program_id})
        await tell(program, 1, 2, 3)
        await deliver(program)
        by_n = {request.n: request for request in receiver.got}
        query = "query ($after: String) { messages(after: $after) { edges { cursor node { id payload } } } }"
        after = by_n[1].json["data"]["cursor"]
        edges = (await world.call(query, {"after": after}))["messages"]["edges"]
        assert [edge["node"]["payload"] for edge in edges] == [{"n": 2}, {"n": 3}]
        for edge in edges:
            request = by_n[edge["node"]["payload"]["n"]]
            assert request.headers["webhook-id"] == edge["node"]["id"]
            assert request.json["data"]["cursor"] == edge["cursor"]
        await world.call(DELETE, {"id": made["webhook"]["id"]})


async def test_scopes_tell_who_may_read_webhooks_and_who_may_make_them(world: World) -> None:
    reader = await world.scoped_key(frozenset({"messages:read"}))
    admin = await world.scoped_key(frozenset({"webhooks:admin"}))
    other = await world.scoped_key(frozenset({"program:read"}))
    create = {"input": {"url": ADDRESS, "topics": []}}
    assert (await world.api.post(CREATE, create, reader)).codes == ["FORBIDDEN"]
    made = (await world.api.call(CREATE, create, admin))["createWebhook"]
    for key in (reader, admin):
        assert len((await world.api.call(WEBHOOKS, token=key))["webhooks"]) == 1
    assert (await world.api.post(WEBHOOKS, token=other)).codes == ["FORBIDDEN"]
    assert (await world.api.post(WEBHOOKS, token=world.token)).codes == ["FORBIDDEN"]
    await world.call(DELETE, {"id": made["webhook"]["id"]})

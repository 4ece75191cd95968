"""The README's tour, sent as it stands there: every answer is the one that is printed below it."""

import dataclasses
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from standardwebhooks import WebhookVerificationError

from app import clock, demo
from app.access.principal import Principal, PrincipalKind
from app.access.scopes import PROGRAM_SCOPES
from app.access.tokens import MemberTokens
from app.catalog.vault import Vault
from app.cli import work
from app.coalescing import Coalescer
from app.earning.recording import record_now
from app.ids import to_global_id
from app.live.hub import Hub
from app.messages.topics import Topic
from app.metrics import WORKERS
from app.programs.service import create_program
from app.redemptions.taking import take
from app.referrals.referrals import ReferralRejection
from app.stores.codes import CheckInCodes
from app.webhooks.letters import Letter, body_of, headers_of, new_secret, spelled
from graphql_schema.context import Context, Services
from graphql_schema.root import laurel_schema
from tests.helpers import work_all
from workers.main import NAMES

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"```graphql\n(.*?)```(?:\n\n```json\n(.*?)```)?", re.S)
RECEIVER = re.compile(r"```python\n(.*?)```", re.S)
VARIABLE = re.compile(r"\$(\w+):")


@pytest.fixture
async def context(settings):
    program, _ = await create_program(dataclasses.replace(demo.PROGRAM, slug=f"readme-{uuid4().hex[:12]}"))
    vault = Vault("secret")
    await demo.fill(program, vault)
    recorder = Coalescer(record_now, "recording")
    redeemer = Coalescer(partial(take, vault=vault), "redeeming")
    await recorder.start()
    await redeemer.start()
    services = Services(
        MemberTokens("secret"), recorder, redeemer, CheckInCodes("secret"), vault, Hub(settings)
    )
    principal = Principal(PrincipalKind.API_KEY, "readme", PROGRAM_SCOPES, program.id)
    yield program, lambda: Context(principal, maybe_services=services)
    await recorder.stop()
    await redeemer.stop()


def fields(answer: Any) -> Iterator[tuple[str, Any]]:
    """Yield every field of an answer with its name, however deep it lies."""
    if isinstance(answer, list):
        for item in answer:
            yield from fields(item)
    elif isinstance(answer, dict):
        for name, value in answer.items():
            yield name, value
            yield from fields(value)


async def test_the_tour_in_the_readme_answers_as_it_says(context):
    program, new_context = context
    steps = BLOCK.findall(README.read_text())
    answers = 0
    told: dict[str, Any] = {}
    for document, answer in steps:
        # What a step takes as a variable, a step before it has answered under the same name.
        variables = {name: told[name] for name in VARIABLE.findall(document) if name in told}
        result = await laurel_schema().execute(document, variables, context_value=new_context())
        assert result.errors is None, document
        told.update(fields(result.data))
        if answer:
            answers += 1
            assert result.data == json.loads(answer), document
        else:
            assert [value for name, value in fields(result.data) if name == "userErrors" and value] == []
        # Workers do the rest before the reader has come to the next step.
        await work_all(program)
    assert len(steps) >= 14
    assert answers >= 12


def test_the_readme_names_what_there_is():
    text = README.read_text()
    assert list(WORKERS) == list(NAMES)
    assert [name for name in NAMES if f"| `{name}` |" not in text] == []
    kinds: dict[str, list[str]] = defaultdict(list)
    for topic in Topic:
        kinds[topic.partition(".")[0]].append(topic.partition(".")[2])
    for kind, names in kinds.items():
        (row,) = re.findall(rf"\| `{kind}\.\*` \| (.*) \|", text)
        assert re.findall(r"`(\w+)`", row) == names
    assert [each.name for each in ReferralRejection if f"| `{each.name}` |" not in text] == []


def test_the_help_names_what_a_worker_can_be_told_to_do():
    text = work.__doc__ or ""
    assert re.findall(r"- \*\*(\w+)\*\*:", text) == list(NAMES)


def test_the_receiver_in_the_readme_knows_what_is_ours():
    known: dict[str, Any] = {}
    exec(*RECEIVER.findall(README.read_text()), known)
    secret, now = new_secret(), clock.now()
    letter = Letter(7, uuid4(), "tier.up", uuid4(), "ada", {"qualifying": "500"}, now, 0, None)
    body = body_of(letter)
    headers = {name.decode(): value.decode() for name, value in headers_of(letter, body, secret, now)}
    message_id, topic, data = known["receive"](spelled(secret), body, headers)
    assert message_id == to_global_id("Message", letter.id)
    assert (topic, data["qualifying"], data["member"]["externalId"]) == ("tier.up", "500", "ada")
    with pytest.raises(WebhookVerificationError):
        known["receive"](spelled(secret), body.replace(b"500", b"900"), headers)

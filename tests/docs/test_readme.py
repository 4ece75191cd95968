"""The README's tour, sent as it stands there: every answer is the one that is printed below it."""

import dataclasses
import json
import re
from pathlib import Path
from uuid import uuid4

import pytest

from app import demo
from app.access.principal import Principal, PrincipalKind
from app.access.scopes import PROGRAM_SCOPES
from app.access.tokens import MemberTokens
from app.earning.coalescer import Coalescer
from app.earning.rule_service import create_rule
from app.earning.rules import RuleStatus
from app.programs.service import create_program
from app.stores.codes import CheckInCodes
from graphql_schema.context import Context, Services
from graphql_schema.root import laurel_schema

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"```graphql\n(.*?)```(?:\n\n```json\n(.*?)```)?", re.S)


@pytest.fixture
async def context():
    program, _ = await create_program(dataclasses.replace(demo.PROGRAM, slug=f"readme-{uuid4().hex[:12]}"))
    for definition in demo.rules():
        await create_rule(program.id, definition, RuleStatus.ACTIVE)
    coalescer = Coalescer()
    await coalescer.start()
    yield lambda: Context(
        Principal(PrincipalKind.API_KEY, "readme", PROGRAM_SCOPES, program.id),
        maybe_services=Services(MemberTokens("secret"), coalescer, CheckInCodes("secret")),
    )
    await coalescer.stop()


async def test_the_tour_in_the_readme_answers_as_it_says(context):
    steps = BLOCK.findall(README.read_text())
    answers = 0
    for document, answer in steps:
        result = await laurel_schema().execute(document, context_value=context())
        assert result.errors is None, document
        if answer:
            answers += 1
            assert result.data == json.loads(answer), document
    assert len(steps) >= 6
    assert answers >= 5

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from app.access.keys import (
    MAX_LIVE_KEYS,
    add_key,
    create_api_key,
    get_api_keys,
    hash_secret,
    list_api_keys,
    looks_like_key,
    revoke_api_key,
)
from app.access.models import ApiKey
from app.access.scopes import PROGRAM_SCOPES, Scope
from app.access.tenancy import scoped
from app.database import transaction
from app.errors import ErrorCode, Refused
from app.paging import make_page
from app.settings import Settings
from tests.programs.making import make_program
from tests.programs.test_service import refusal


async def test_a_secret_is_shown_once_and_kept_as_a_hash() -> None:
    program = await make_program()

    key, secret = await create_api_key(program.id, "Till", ["members:read", "events:write", "members:read"])

    assert re.fullmatch(r"laurel_[a-z0-9]{8}_[A-Za-z0-9_-]{43}", secret)
    assert looks_like_key(secret)
    assert key.prefix == secret[:15]
    (stored,) = await get_api_keys(program.id, [key.id])
    assert stored is not None
    assert stored.secret_hash == hash_secret(secret)
    assert secret not in str(dict(stored))
    assert stored.scopes == ["members:read", "events:write"]
    assert (stored.last_used_at, stored.revoked_at) == (None, None)


@pytest.mark.parametrize(
    ("name", "scopes", "fields"),
    [
        ("", ["members:read"], {("name",)}),
        ("x" * 101, ["members:read"], {("name",)}),
        ("Till", [], {("scopes",)}),
        ("Till", ["members:read", "all", ""], {("scopes", "1"), ("scopes", "2")}),
        ("Till", ["platform:admin"], {("scopes", "0")}),
        (" ", ["MEMBERS_READ"], {("name",), ("scopes", "0")}),
    ],
)
async def test_what_is_wrong_with_a_key_names_its_field(
    name: str, scopes: list[str], fields: set[tuple[str, ...]]
) -> None:
    wrong = create_api_key(uuid4(), name, scopes)
    assert await refusal(wrong) == {(ErrorCode.INVALID, field) for field in fields}


async def test_nobody_hands_on_scopes_that_they_do_not_have() -> None:
    program = await make_program()
    granted = {Scope.KEYS_ADMIN, Scope.MEMBERS_READ}

    await create_api_key(program.id, "Reader", ["members:read"], granted=granted)
    wrong = create_api_key(program.id, "Writer", ["members:read", "members:write"], granted=granted)

    assert await refusal(wrong) == {(ErrorCode.NOT_ELIGIBLE, ("scopes",))}


async def test_a_program_has_at_most_a_hundred_keys_in_use_whoever_asks_at_once() -> None:
    program = await make_program()
    async with transaction():
        for _ in range(MAX_LIVE_KEYS - 3):
            key, _ = await add_key(program.id, "Key", PROGRAM_SCOPES)

    made = await asyncio.gather(
        *(create_api_key(program.id, "One more", ["events:write"]) for _ in range(6)), return_exceptions=True
    )

    refused = [result for result in made if isinstance(result, Refused)]
    assert len(refused) == 4
    assert {error.code for result in refused for error in result.errors} == {ErrorCode.LIMIT_REACHED}
    await revoke_api_key(program.id, key.id)
    await create_api_key(program.id, "Room again", ["events:write"])


async def test_revoking_again_changes_nothing() -> None:
    program = await make_program()
    key, _ = await create_api_key(program.id, "Till", ["events:write"])

    first = await revoke_api_key(program.id, key.id)
    again = await revoke_api_key(program.id, key.id)

    assert first.revoked_at is not None
    assert again.revoked_at == first.revoked_at


async def test_another_programs_key_is_not_there() -> None:
    program, other = await make_program(), await make_program()
    key, _ = await create_api_key(program.id, "Till", ["events:write"])

    assert await get_api_keys(other.id, [key.id]) == [None]
    assert await refusal(revoke_api_key(other.id, key.id)) == {(ErrorCode.NOT_FOUND, ("id",))}
    assert await refusal(revoke_api_key(program.id, uuid4())) == {(ErrorCode.NOT_FOUND, ("id",))}
    assert (await scoped(ApiKey, program.id).get(id=key.id)).revoked_at is None


async def test_keys_are_listed_page_by_page_in_both_directions() -> None:
    program = await make_program()
    names = ["First key", *(f"Key {n}" for n in range(4))]
    for name in names[1:]:
        await create_api_key(program.id, name, ["events:write"])

    first = await list_api_keys(program.id, make_page(first=3))
    rest = await list_api_keys(program.id, make_page(first=3, after=(first.items[-1].id,)))
    back = await list_api_keys(program.id, make_page(last=2, before=(rest.items[0].id,)))

    assert [key.name for key in (*first.items, *rest.items)] == names
    assert (first.has_next, rest.has_next) == (True, False)
    assert [key.name for key in back.items] == names[1:3]
    assert back.has_previous


async def test_an_operator_makes_lists_and_revokes_keys(settings: Settings) -> None:
    program = await make_program()

    async def laurel(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from app.commands.keys import app; app()", *args]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        return await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, env=environment, timeout=60, check=False
        )

    made = await laurel("create", "--program", program.slug, "--name", "Till", "--scope", "events:write")
    secret = made.stdout.strip()
    assert looks_like_key(secret), made.stderr
    listed = await laurel("list", "--program", program.slug)
    key_id = next(line.split()[0] for line in listed.stdout.splitlines() if secret[:15] in line)
    assert secret not in listed.stdout
    assert "opens nothing any more" in (await laurel("revoke", key_id)).stdout
    assert (await scoped(ApiKey, program.id).get(name="Till")).revoked_at is not None
    assert "There is no program nobodys." in (await laurel("list", "--program", "nobodys")).stderr
    assert "There is no key nonsense." in (await laurel("revoke", "nonsense")).stderr

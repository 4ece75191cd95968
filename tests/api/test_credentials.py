"""Keys and tokens through the API: what they open, and how they stop doing so."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from app import clock
from app.access.tokens import MemberTokens
from app.keyring import secret_key
from tests.api.client import CREATE_KEY, TOKEN, Api, World, make_world, uuid_of

KEYS = "{ apiKeys(first: 100) { nodes { id name scopes prefix createdAt lastUsedAt revokedAt } } }"
CREATE = """mutation ($input: CreateApiKeyInput!) { createApiKey(input: $input) {
    apiKey { id name scopes prefix createdAt lastUsedAt revokedAt } secret userErrors { code field message }
} }"""
REVOKE = """mutation ($id: ID!) { revokeApiKey(id: $id) {
    apiKey { id revokedAt } userErrors { code field message }
} }"""
PROGRAM = "{ program { id } }"
VIEWER = "{ viewer { id } }"


async def test_new_key_opens_what_its_scopes_say_and_no_more(world: World) -> None:
    made = await world.done(CREATE, name="Till 4", scopes=["events:write", "program:read", "events:write"])
    key = made["apiKey"]
    assert (key["name"], set(key["scopes"])) == ("Till 4", {"events:write", "program:read"})
    assert len(key["scopes"]) == 2
    assert made["secret"].startswith(key["prefix"])
    assert (key["lastUsedAt"], key["revokedAt"]) == (None, None)
    assert (await world.api.call(PROGRAM, token=made["secret"]))["program"]["id"] == world.program
    assert (await world.api.post(KEYS, token=made["secret"])).codes == ["FORBIDDEN"]


async def test_secret_is_shown_once_and_kept_nowhere(world: World) -> None:
    made = await world.done(CREATE, name="Till", scopes=["program:read"])
    listed = await world.post(KEYS)
    assert made["secret"] not in str(listed.body)
    assert made["apiKey"]["id"] in str(listed.body)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"name": ""}, [("INVALID", ["name"])]),
        ({"name": "x" * 101}, [("INVALID", ["name"])]),
        ({"name": "a\0b"}, [("INVALID", ["name"])]),
        ({"scopes": []}, [("INVALID", ["scopes"])]),
        ({"scopes": ["program:read", "everything"]}, [("INVALID", ["scopes", "1"])]),
        ({"scopes": ["platform:admin"]}, [("INVALID", ["scopes", "0"])]),
        ({"scopes": ["__proto__"]}, [("INVALID", ["scopes", "0"])]),
    ],
)
async def test_wrong_key_is_refused_by_field(world: World, wrong: dict[str, Any], expected: Any) -> None:
    assert await world.refused(CREATE, **({"name": "Till", "scopes": ["program:read"]} | wrong)) == expected


async def test_key_hands_on_no_scope_that_it_lacks(world: World) -> None:
    token = await world.scoped_key(frozenset({"keys:admin", "program:read"}))
    wanted = {"name": "More", "scopes": ["program:read", "ledger:adjust"]}
    payload = (await world.api.call(CREATE_KEY, {"input": wanted}, token))["createApiKey"]
    assert payload == {
        "apiKey": None,
        "secret": None,
        "userErrors": [{"code": "NOT_ELIGIBLE", "field": ["scopes"]}],
    }


async def test_revoked_key_is_refused_at_once(world: World) -> None:
    made = await world.done(CREATE, name="Lost", scopes=["program:read"])
    await world.api.call(PROGRAM, token=made["secret"])
    ended = (await world.call(REVOKE, {"id": made["apiKey"]["id"]}))["revokeApiKey"]["apiKey"]
    assert ended["revokedAt"]
    answer = await world.api.post(PROGRAM, token=made["secret"])
    assert (answer.status, answer.codes) == (401, ["UNAUTHENTICATED"])
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_revoking_again_changes_nothing_and_the_key_stays_listed(world: World) -> None:
    made = await world.done(CREATE, name="Lost", scopes=["program:read"])
    first = await world.call(REVOKE, {"id": made["apiKey"]["id"]})
    assert await world.call(REVOKE, {"id": made["apiKey"]["id"]}) == first
    assert made["apiKey"]["id"] in str(await world.call(KEYS))


async def test_key_may_revoke_itself(world: World) -> None:
    made = await world.done(CREATE, name="Own", scopes=["keys:admin"])
    done = await world.api.call(REVOKE, {"id": made["apiKey"]["id"]}, made["secret"])
    assert done["revokeApiKey"]["userErrors"] == []
    assert (await world.api.post(KEYS, token=made["secret"])).status == 401


@pytest.mark.parametrize("wrong", ["", "none", "\0", "QXBpS2V5Og", "__proto__"])
async def test_unknown_key_cannot_be_revoked(world: World, wrong: str) -> None:
    payload = (await world.call(REVOKE, {"id": wrong}))["revokeApiKey"]
    assert [(e["code"], e["field"]) for e in payload["userErrors"]] == [("NOT_FOUND", ["id"])]


async def test_id_of_another_kind_is_no_key(world: World) -> None:
    payload = (await world.call(REVOKE, {"id": world.member}))["revokeApiKey"]
    assert [(e["code"], e["field"]) for e in payload["userErrors"]] == [("NOT_FOUND", ["id"])]


async def test_a_hundred_keys_in_use_are_the_limit(world: World) -> None:
    made = await world.done(CREATE, name="One", scopes=["program:read"])
    others = (world.do(CREATE, name="Many", scopes=["program:read"]) for _ in range(98))
    assert not any(each["userErrors"] for each in await asyncio.gather(*others))
    assert await world.refused(CREATE, name="Over", scopes=["program:read"]) == [("LIMIT_REACHED", None)]
    await world.call(REVOKE, {"id": made["apiKey"]["id"]})
    await world.done(CREATE, name="Again", scopes=["program:read"])


@pytest.mark.parametrize(
    "header",
    [
        "Bearer laurel_abcdefgh_" + "x" * 43,
        "Bearer x",
        "Bearer ",
        "Bearer",
        "Basic YTpi",
        "",
        "Bearer a.b.c",
        "Bearer " + "x" * 10_000,
        "bearer\tx",
    ],
)
async def test_credential_that_opens_nothing_is_refused_and_not_taken_for_none(api: Api, header: str) -> None:
    answer = await api.post("{ __typename }", None, None, authorization=header)
    assert (answer.status, answer.codes) == (401, ["UNAUTHENTICATED"])


async def test_scheme_is_read_without_regard_to_case(world: World) -> None:
    answer = await world.api.post(PROGRAM, None, None, authorization=f"bEARER  {world.key}")
    assert answer.data["program"]["id"] == world.program


async def test_token_signs_its_member_in(world: World) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    made = await world.done(TOKEN, member={"email": world.email.upper()}, expiresInSeconds=60)
    assert (await world.api.call(VIEWER, token=made["token"]))["viewer"]["id"] == world.member
    expires_at = datetime.fromisoformat(made["expiresAt"])
    assert before + timedelta(seconds=60) <= expires_at <= datetime.now(UTC) + timedelta(seconds=60)


async def test_token_lasts_an_hour_unless_told_otherwise(world: World) -> None:
    for asked in ({}, {"expiresInSeconds": None}):
        made = await world.done(TOKEN, member={"id": world.member}, **asked)
        left = datetime.fromisoformat(made["expiresAt"]) - datetime.now(UTC)
        assert timedelta(minutes=59) < left <= timedelta(hours=1)


@pytest.mark.parametrize("seconds", [59, 86_401, 0, -1, 2**31 - 1])
async def test_token_of_another_length_is_refused(world: World, seconds: int) -> None:
    wrong = {"member": {"id": world.member}, "expiresInSeconds": seconds}
    assert await world.refused(TOKEN, **wrong) == [("INVALID", ["expiresInSeconds"])]


async def test_token_for_nobody_or_a_closed_membership_is_refused(world: World) -> None:
    ((code, field),) = await world.refused(TOKEN, member={"externalId": "nobody"})
    assert (code, field[0]) == ("NOT_FOUND", "member")
    close = "mutation ($input: UpdateMemberInput!) { updateMember(input: $input) { userErrors { code } } }"
    await world.done(close, member={"id": world.member}, status="SUSPENDED")
    token = await world.token_for(world.member)
    assert (await world.api.call(VIEWER, token=token))["viewer"]["id"] == world.member
    await world.done(close, member={"id": world.member}, status="CLOSED")
    assert await world.refused(TOKEN, member={"id": world.member}) == [("WRONG_STATE", ["member"])]
    for old in (token, world.token):
        assert (await world.api.post(VIEWER, token=old)).status == 401


async def test_expired_token_is_refused(world: World) -> None:
    signer = MemberTokens(secret_key(world.api.settings))
    long_ago = clock.now() - timedelta(seconds=70)
    token = signer.issue(world.program_id, uuid_of(world.member), 60, long_ago).token
    answer = await world.api.post(VIEWER, token=token)
    assert (answer.status, answer.codes) == (401, ["UNAUTHENTICATED"])
    assert "expired" in answer.error["message"]


async def test_token_stops_working_when_its_time_is_over_though_it_was_just_used(world: World) -> None:
    signer = MemberTokens(secret_key(world.api.settings))
    # One second more than the five that clocks may differ by.
    nearly = clock.now() - timedelta(seconds=63.5)
    token = signer.issue(world.program_id, uuid_of(world.member), 60, nearly).token
    assert (await world.api.post(VIEWER, token=token)).status == 200
    await asyncio.sleep(2.2)
    assert (await world.api.post(VIEWER, token=token)).status == 401


def _forged(token: str) -> list[str]:
    header, body, signature = token.split(".")
    claims = jwt.decode(token, options={"verify_signature": False})
    return [
        f"{header}.{body}.{signature[:-4]}AAAA",
        f"{header}.{body}.",
        jwt.encode(claims, None, "none", headers={"typ": "laurel-member"}),
        jwt.encode(claims, "x" * 32, "HS256", headers={"typ": "laurel-member"}),
        jwt.encode(claims, "x" * 64, "HS512", headers={"typ": "laurel-member"}),
        f"{header}.{body}x.{signature}",
    ]


async def test_forged_token_is_refused(world: World) -> None:
    for forged in _forged(world.token):
        answer = await world.api.post(VIEWER, token=forged)
        assert (answer.status, answer.codes) == (401, ["UNAUTHENTICATED"]), forged


async def test_token_of_another_installation_is_refused(world: World) -> None:
    other = MemberTokens("another installation's secret, which is long enough")
    token = other.issue(world.program_id, uuid_of(world.member), 60, clock.now()).token
    assert (await world.api.post(VIEWER, token=token)).status == 401


async def test_token_of_a_member_in_another_program_opens_neither(api: Api) -> None:
    """Even our own signature is no proof that a member and a program belong together."""
    ours, theirs = await make_world(api), await make_world(api)
    signer = MemberTokens(secret_key(api.settings))
    token = signer.issue(ours.program_id, uuid_of(theirs.member), 60, clock.now()).token
    assert (await api.post(VIEWER, token=token)).status == 401


async def test_viewer_is_nobody_for_a_key_and_the_platform(world: World) -> None:
    assert await world.call(VIEWER) == {"viewer": None}
    assert await world.api.call("{ viewer { __typename } }", token=world.api.admin) == {"viewer": None}

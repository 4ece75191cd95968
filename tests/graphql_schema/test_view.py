"""The endpoint as a client meets it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse

from app.access.principal import ANONYMOUS, Principal
from app.access.tokens import InvalidCredential
from app.errors import Unavailable
from app.settings import Settings
from graphql_schema.build import build_schema
from graphql_schema.context import Context
from graphql_schema.view import GRAPHQL_JSON, GraphQLView, negotiate
from tests.graphql_schema import small

KEYS = {"reader": small.READER, "ruler": small.RULER, "ada": small.MEMBER}
SCHEMA = build_schema(small.Query, small.Mutation, types=[small.Rule])


async def authenticate(request: Request) -> Principal:
    """Take the bearer token for a caller's name, or for how it fails."""
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    if token == "away":
        raise Unavailable("redis://secret is down")
    if token == "often":
        raise HTTPException(429, "Too many requests.", {"Retry-After": "7"})
    if token and token not in KEYS:
        raise InvalidCredential("The credential is not valid.")
    return KEYS.get(token, ANONYMOUS)


def client(**options: Any) -> httpx.AsyncClient:
    settings = Settings(max_body_bytes=2000, request_timeout_seconds=0.2)
    view = GraphQLView(SCHEMA, authenticate=authenticate, settings=settings, **options)
    transport = httpx.ASGITransport(app=view)
    headers = {"authorization": "Bearer reader"}
    return httpx.AsyncClient(transport=transport, base_url="http://laurel", headers=headers)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with client(ide=lambda: HTMLResponse("<p>GraphiQL</p>")) as opened:
        yield opened


def code(response: httpx.Response) -> str:
    return str(response.json()["errors"][0]["extensions"]["code"])


async def post(
    http: httpx.AsyncClient, query: str, accept: str = GRAPHQL_JSON, **more: Any
) -> httpx.Response:
    headers = {"accept": accept, **more.pop("headers", {})}
    return await http.post("/graphql", json={"query": query, **more}, headers=headers)


@pytest.mark.parametrize("accept", ["application/json", GRAPHQL_JSON, "*/*", ""])
async def test_a_query_is_answered_in_the_media_type_that_was_asked_for(http: Any, accept: str) -> None:
    response = await post(http, "query($n: String!) { hello(name: $n) }", accept, variables={"n": "Åda"})
    assert response.status_code == 200
    expected = GRAPHQL_JSON if accept == GRAPHQL_JSON else "application/json"
    assert response.headers["content-type"] == f"{expected}; charset=utf-8"
    assert response.json() == {"data": {"hello": "hello Åda"}}


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("", "application/json"),
        ("text/html, */*;q=0.1", "application/json"),
        (f"application/json;q=0.5, {GRAPHQL_JSON}", GRAPHQL_JSON),
        (f"application/json, {GRAPHQL_JSON};q=0.9", "application/json"),
        (f"{GRAPHQL_JSON};charset=utf-8", GRAPHQL_JSON),
        (f"{GRAPHQL_JSON};charset=latin-1, */*;q=0.1", "application/json"),
        ("Application/JSON;q=nonsense", None),
        ("application/json;q=0", None),
        ("text/html", None),
        (",;,", None),
    ],
)
def test_the_media_type_is_the_one_that_the_client_likes_best(accept: str, media: str | None) -> None:
    assert negotiate(accept) == media


async def test_a_client_that_takes_neither_media_type_is_told_so(http: Any) -> None:
    response = await post(http, "{ hello }", "text/event-stream")
    assert (response.status_code, code(response)) == (406, "NOT_ACCEPTABLE")


async def test_queries_may_come_by_get_and_mutations_may_not(http: Any) -> None:
    params = {"query": "query($n: String) { hello(name: $n) }", "variables": '{"n": "you & me"}'}
    response = await http.get("/graphql", params=params, headers={"accept": GRAPHQL_JSON})
    assert response.json() == {"data": {"hello": "hello you & me"}}
    small.ran.clear()
    response = await http.get("/graphql", params={"query": "mutation { write }"})
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert small.ran == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_other_methods_are_not_allowed(http: Any, method: str) -> None:
    response = await http.request(method, "/graphql")
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, POST"


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "",
        "application/json;charset=utf-16",
    ],
)
async def test_only_json_is_taken(http: Any, content_type: str) -> None:
    response = await http.post(
        "/graphql", content=b'{"query":"{hello}"}', headers={"content-type": content_type}
    )
    assert (response.status_code, code(response)) == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b'[{"query":"{hello}"}]',
        b"1",
        b"null",
        b"{}",
        b'{"query":""}',
        b'{"query":1}',
        b'{"query":"{hello}","variables":[]}',
        b'{"query":"{hello}","operationName":1}',
        b'{"query":NaN}',
        b'{"query":"{hello}","extensions":"x"}',
        b'{"query":"{hello}","operationName":"Other"}',
        b"[" * 5000,
        b'{"query":"query A{hello} query B{hello}"}',
        b'{"query":"fragment F on Query{hello}"}',
    ],
)
async def test_what_is_not_a_request_is_refused_in_json(http: Any, body: bytes) -> None:
    response = await http.post("/graphql", content=body[:1500], headers={"content-type": "application/json"})
    assert response.json()["errors"][0]["message"]
    assert "data" not in response.json()
    if code(response) != "GRAPHQL_VALIDATION_FAILED":
        assert response.status_code == 400


@pytest.mark.parametrize("query", ["{ hello(", "{ nothing }", "query($v: JSON!) { echo(value: $v) }"])
async def test_a_document_that_cannot_run_is_400_in_the_new_media_type_only(http: Any, query: str) -> None:
    response = await post(http, query)
    assert response.status_code == 400
    assert "data" not in response.json()
    response = await post(http, query, "application/json")
    assert response.status_code == 200
    assert "data" not in response.json()


async def test_without_a_credential_the_answer_is_401(http: Any) -> None:
    for accept in (GRAPHQL_JSON, "application/json"):
        response = await http.post(
            "/graphql", json={"query": "{ hello }"}, headers={"accept": accept, "authorization": ""}
        )
        assert (response.status_code, code(response)) == (401, "UNAUTHENTICATED")
        assert response.headers["www-authenticate"] == "Bearer"
    response = await http.post("/graphql", json={"query": "{ __typename }"}, headers={"authorization": ""})
    assert response.json() == {"data": {"__typename": "Query"}}


async def test_a_credential_that_is_not_good_is_401_whatever_is_asked(http: Any) -> None:
    response = await post(http, "{ __typename }", headers={"authorization": "Bearer stolen"})
    assert (response.status_code, code(response)) == (401, "UNAUTHENTICATED")
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json()["errors"][0]["message"] == "The credential is not valid."


async def test_a_scope_that_is_missing_is_403_in_the_new_media_type(http: Any) -> None:
    response = await post(http, "mutation { write }")
    assert (response.status_code, code(response)) == (403, "FORBIDDEN")
    response = await post(http, "mutation { write }", "application/json")
    assert (response.status_code, code(response)) == (200, "FORBIDDEN")


async def test_limits_and_outages_of_the_authentication_reach_the_client(http: Any) -> None:
    response = await post(http, "{ hello }", headers={"authorization": "Bearer often"})
    assert (response.status_code, code(response)) == (429, "RATE_LIMITED")
    assert response.headers["retry-after"] == "7"
    response = await post(http, "{ hello }", headers={"authorization": "Bearer away"})
    assert (response.status_code, code(response)) == (503, "UNAVAILABLE")
    assert "secret" not in response.text


async def test_errors_beside_data_are_answered_with_200(http: Any) -> None:
    response = await post(http, '{ hello fail(how: "refused") }')
    assert response.status_code == 200
    assert response.json()["data"] == {"hello": "hello you", "fail": None}
    response = await post(http, "{ broken }")
    assert response.status_code == 200
    assert response.json()["data"] is None


async def test_an_operation_that_takes_too_long_is_stopped(http: Any) -> None:
    response = await post(http, "{ slow(seconds: 30) }")
    assert (response.status_code, code(response)) == (504, "TIMEOUT")
    assert (await post(http, "{ slow(seconds: 0.01) }")).json() == {"data": {"slow": "done"}}


async def test_a_body_that_says_it_is_too_large_is_not_read(http: Any) -> None:
    response = await post(http, "{ hello } #" + "x" * 2000)
    assert (response.status_code, code(response)) == (413, "PAYLOAD_TOO_LARGE")


async def test_a_body_that_does_not_say_how_large_it_is_is_cut_off(http: Any) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 100
            yield b"x" * 100

    response = await http.post("/graphql", content=endless(), headers={"content-type": "application/json"})
    assert response.status_code == 413
    assert read <= 2200


async def test_a_body_may_come_in_pieces(http: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b'{"query":', b"", b'"{ he', b'llo }"}'):
            yield piece

    response = await http.post("/graphql", content=pieces(), headers={"content-type": "application/json"})
    assert response.json() == {"data": {"hello": "hello you"}}


async def test_a_browser_gets_the_page_and_a_program_does_not(http: Any) -> None:
    page = await http.get("/graphql", headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert page.text == "<p>GraphiQL</p>"
    assert (await http.get("/graphql", headers={"accept": "*/*"})).status_code == 400
    query = await http.get("/graphql?query={hello}", headers={"accept": "text/html,*/*;q=0.8"})
    assert query.json() == {"data": {"hello": "hello you"}}
    async with client() as without:
        assert (await without.get("/graphql", headers={"accept": "text/html"})).status_code == 406


async def test_a_query_string_that_cannot_be_read_is_refused(http: Any) -> None:
    assert (await http.get("/graphql?query=%ff")).status_code == 400
    assert (await http.get("/graphql?query={hello}&variables={")).status_code == 400


async def test_a_client_that_leaves_is_not_answered() -> None:
    view = GraphQLView(SCHEMA, authenticate=authenticate)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    await view({"type": "http", "method": "POST", "headers": headers, "query_string": b""}, receive, send)
    assert sent == []


async def test_loaders_live_as_long_as_their_request() -> None:
    async def load(context: Context, keys: list[int]) -> list[int]:
        return [key * 2 for key in keys]

    first, second = Context(), Context()
    assert first.loader(load) is first.loader(load)
    assert first.loader(load) is not second.loader(load)
    assert await asyncio.gather(first.loader(load).load(1), first.loader(load).load(2)) == [2, 4]


def test_settings_of_the_view_are_optional() -> None:
    assert GraphQLView(SCHEMA, authenticate=authenticate)._max_body_bytes == Settings().max_body_bytes

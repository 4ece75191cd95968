"""What holds for every request: limits, methods and media types, names for errors, and who watches."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
import structlog
from graphql import get_introspection_query
from structlog.testing import capture_logs

from app import clock, health
from app.metrics import FAILING, QUEUES, WORKERS
from app.programs import service as programs
from app.settings import Settings
from graphql_schema import programs as programs_schema
from tests.api.client import RECORD, Answer, Api, World, make_world, running, unique

HELLO = "{ __typename }"
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def requests_logged() -> Iterator[None]:
    """Let the log take requests: the tests hear warnings only."""
    before = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(20))
    yield
    structlog.configure(wrapper_class=before)


def answer_of(response: httpx.Response) -> Answer:
    return Answer(response.status_code, response.json(), response.headers)


# --- what a document may ask for ------------------------------------------------------------


def nested(levels: int) -> str:
    """Return a query of so many levels of fields, which goes round from events to members."""
    text = "id"
    for level in range(levels - 2, 0, -1):
        text = (
            f"member {{ {text} }}"
            if level % 3 == 0
            else f"nodes {{ {text} }}"
            if level % 3 == 2
            else f"events(first: 1) {{ {text} }}"
        )
    return f"{{ viewer {{ {text} }} }}"


async def test_query_may_be_twelve_levels_deep_and_no_deeper(world: World) -> None:
    assert (await world.api.post(nested(12), token=world.token)).status == 200
    answer = await world.api.post(nested(13), token=world.token)
    assert answer.codes == ["QUERY_TOO_COMPLEX"]
    assert "13 levels" in answer.error["message"]
    assert "12 are allowed" in answer.error["message"]


async def test_fragments_do_not_hide_depth(api: Api) -> None:
    query = """{ viewer { ...A } } fragment A on Member { events { nodes { member { ...B } } } }
        fragment B on Member { events { nodes { member { ...C } } } }
        fragment C on Member { events { nodes { member { events { nodes { id } } } } } }"""
    assert (await api.post(query)).codes == ["QUERY_TOO_COMPLEX"]


async def test_introspection_of_graphiql_passes_the_limits(api: Api) -> None:
    answer = await api.post(
        get_introspection_query(directive_is_repeatable=True, input_value_deprecation=True)
    )
    assert len(answer.data["__schema"]["types"]) > 50


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("{ " + " ".join(f"a{n}: __typename" for n in range(31)) + " }", "31 aliases"),
        ("{ " + "__typename " * 2000 + "}", "2,000 tokens"),
        ("{ __typename " + "@include(if: true) " * 51 + "}", "51 directives"),
        ("{ __typename # " + "x" * 100_000 + "\n}", "100,000 characters"),
        ("{ a " * 900 + "}" * 900, "deep"),
    ],
)
async def test_document_that_asks_for_too_much_is_refused(api: Api, query: str, says: str) -> None:
    answer = await api.post(query)
    assert set(answer.codes) <= {"QUERY_TOO_COMPLEX"}
    assert says in answer.errors[0]["message"] or says == "deep"


async def test_thirty_aliases_are_fine(api: Api) -> None:
    assert len(await api.call("{ " + " ".join(f"a{n}: __typename" for n in range(30)) + " }")) == 30


async def test_pages_within_pages_are_counted(world: World) -> None:
    inner = "events(first: $n) { nodes { member { ledger(first: $n) { nodes { id } } } } }"
    sized = f"query ($n: Int = 100) {{ members(first: $n) {{ nodes {{ {inner} }} }} }}"
    answer = await world.post(sized)
    assert answer.codes == ["QUERY_TOO_COMPLEX"]
    assert "objects" in answer.error["message"]
    assert (await world.post(sized, {"n": 10})).errors == []
    assert (await world.post(sized, {"n": 100})).codes == ["QUERY_TOO_COMPLEX"]


async def test_a_hundred_ids_are_the_most(world: World) -> None:
    query = "query ($ids: [ID!]!) { nodes(ids: $ids) { id } }"
    hundred = [world.member, *["none"] * 99]
    found = (await world.call(query, {"ids": hundred}))["nodes"]
    assert found == [{"id": world.member}, *[None] * 99]
    answer = await world.post(query, {"ids": [*hundred, "none"]})
    assert (answer.codes, answer.error["extensions"]["field"]) == (["BAD_USER_INPUT"], ["ids"])


async def test_numbers_of_thousands_of_digits_are_refused_quickly(world: World) -> None:
    digits = "9" * 50_000
    for query in (
        f"{{ members(first: {digits}) {{ nodes {{ id }} }} }}",
        f"{{ members(first: 1.{digits}) {{ nodes {{ id }} }} }}",
    ):
        assert (await world.post(query)).codes == ["GRAPHQL_VALIDATION_FAILED"]
    query = "query ($n: Int) { members(first: $n) { nodes { id } } }"
    body = f'{{"query": "{query}", "variables": {{"n": {digits}}}}}'
    response = await world.api.http.post(
        "/graphql",
        content=body,
        headers={"content-type": "application/json", "authorization": f"Bearer {world.key}"},
    )
    assert response.status_code in (200, 400)
    assert response.json()["errors"][0]["extensions"]["code"] in ("BAD_USER_INPUT", "BAD_REQUEST")


async def test_json_nested_without_end_is_refused(api: Api) -> None:
    body = b'{"query": "{ __typename }", "variables": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
    response = await api.http.post("/graphql", content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["errors"][0]["extensions"]["code"]) == (400, "BAD_REQUEST")


@pytest.mark.parametrize("text", ['"\\ud800"', '"a\\u0000b"', '"\\uD83D\\uDE00"'])
async def test_text_that_cannot_be_stored_never_breaks_anything(world: World, text: str) -> None:
    query = "query ($s: String!) { members(search: $s) { nodes { id } } }"
    body = f'{{"query": "{query}", "variables": {{"s": {text}}}}}'
    headers = {"content-type": "application/json", "authorization": f"Bearer {world.key}"}
    response = await world.api.http.post("/graphql", content=body, headers=headers)
    assert response.status_code in (200, 400)
    assert "INTERNAL" not in response.text


# --- bodies, methods, media types ------------------------------------------------------------


def body_of(size: int) -> bytes:
    start = b'{"query": "{ __typename }", "variables": {"a": "'
    return start + b"x" * (size - len(start) - 3) + b'"}}'


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "in chunks"])
async def test_body_may_have_two_mebibytes_and_no_more(api: Api, announced: bool) -> None:
    limit = 2 * 1024 * 1024

    async def chunks(body: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    for size, status in ((limit, 200), (limit + 1, 413)):
        body = body_of(size)
        content = body if announced else chunks(body)
        response = await api.http.post(
            "/graphql", content=content, headers={"content-type": "application/json"}
        )
        assert response.status_code == status
        assert ("content-length" in response.request.headers) is announced
    answer = answer_of(response)
    assert answer.codes == ["PAYLOAD_TOO_LARGE"]
    assert "2,097,152" in answer.error["message"]


async def test_length_that_lies_is_refused_without_reading(api: Api) -> None:
    headers = {"content-type": "application/json", "content-length": "9" * 30}
    response = await api.http.post("/graphql", content=b"{}", headers=headers)
    assert response.status_code == 413


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_other_methods_are_not_allowed(api: Api, method: str) -> None:
    response = await api.http.request(method, "/graphql")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, POST")


async def test_get_answers_queries_and_refuses_mutations(world: World) -> None:
    headers = {"authorization": f"Bearer {world.key}"}
    query = "query ($id: ID!) { node(id: $id) { id } }"
    params = {"query": query, "variables": json.dumps({"id": world.member})}
    response = await world.api.http.get("/graphql", params=params, headers=headers)
    assert response.json() == {"data": {"node": {"id": world.member}}}
    mutation = f'mutation {{ revokeApiKey(id: "{world.member}") {{ userErrors {{ code }} }} }}'
    response = await world.api.http.get("/graphql", params={"query": mutation}, headers=headers)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/json; charset=latin-1",
        "",
    ],
)
async def test_body_of_another_type_is_refused(api: Api, content_type: str) -> None:
    """Above all what a browser sends from another site without asking first."""
    headers = {"content-type": content_type} if content_type else {}
    response = await api.http.post("/graphql", content=json.dumps({"query": HELLO}), headers=headers)
    assert (response.status_code, answer_of(response).codes) == (415, ["UNSUPPORTED_MEDIA_TYPE"])


@pytest.mark.parametrize(
    ("accept", "status", "media"),
    [
        ("application/json", 200, "application/json"),
        ("application/graphql-response+json", 200, "application/graphql-response+json"),
        ("*/*", 200, "application/json"),
        (
            "application/json;q=0.5, application/graphql-response+json",
            200,
            "application/graphql-response+json",
        ),
        ("text/html", 406, "application/json"),
        ("image/png", 406, "application/json"),
        ("application/json;q=0", 406, "application/json"),
    ],
)
async def test_answer_is_in_a_type_that_the_client_takes(
    api: Api, accept: str, status: int, media: str
) -> None:
    response = await api.http.post("/graphql", json={"query": HELLO}, headers={"accept": accept})
    assert response.status_code == status
    assert response.headers["content-type"] == f"{media}; charset=utf-8"


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "null", '"x"', "{}", '{"query": 1}', '{"query": ""}', "\x00"]
)
async def test_body_that_is_no_request_is_refused(api: Api, body: str) -> None:
    response = await api.http.post("/graphql", content=body, headers={"content-type": "application/json"})
    assert (response.status_code, answer_of(response).codes) == (400, ["BAD_REQUEST"])


async def test_syntax_and_unknown_fields_are_told_with_their_place(api: Api) -> None:
    for query, code in (("{ viewer", "GRAPHQL_PARSE_FAILED"), ("{ nope }", "GRAPHQL_VALIDATION_FAILED")):
        answer = await api.post(query)
        assert answer.codes == [code]
        assert answer.error["locations"]


async def test_browser_gets_graphiql_and_its_files_from_here(api: Api) -> None:
    response = await api.http.get("/graphql", headers={"accept": "text/html,*/*;q=0.8"})
    assert response.headers["content-type"].startswith("text/html")
    assert response.status_code in (200, 503)
    assert "https://" not in response.text.replace("https://github.com", "")


async def test_unknown_address_is_not_found_and_still_carries_an_id(api: Api) -> None:
    response = await api.http.get("/nowhere")
    assert response.status_code == 404
    assert response.headers["x-request-id"]


async def test_one_of_several_operations_has_to_be_named(api: Api) -> None:
    body = {"query": "query A { __typename } query B { b: __typename }"}
    for name, status in ((None, 400), ("C", 400), ("__proto__", 400), ("B", 200)):
        response = await api.http.post("/graphql", json=body | {"operationName": name})
        assert response.status_code == status
    assert response.json() == {"data": {"b": "Query"}}


async def test_client_that_hangs_up_harms_nobody(world: World) -> None:
    """A purchase whose client is gone is recorded once all the same, and the next ones are served."""
    await world.rule()
    purchase = {"member": {"id": world.member}, "externalId": unique("sale"), "amount": "10"}
    gone = [asyncio.create_task(world.done(RECORD, **purchase)) for _ in range(5)]
    await asyncio.sleep(0.004)
    for task in gone:
        task.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    done = await world.done(RECORD, **purchase)
    assert done["member"]["balance"]["available"] == done["event"]["points"] == 10
    assert (await world.purchase("5"))["member"]["balance"]["available"] == 15


# --- names for requests and errors -----------------------------------------------------------


@pytest.mark.usefixtures("requests_logged")
async def test_request_id_comes_back_and_is_in_the_log(api: Api) -> None:
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        answer = await api.post(HELLO, None, None, **{"x-request-id": "till-4.2026_03"})
    assert answer.headers["x-request-id"] == "till-4.2026_03"
    (line,) = [line for line in logs if line["event"] == "request"]
    assert (line["request_id"], line["status"], line["path"]) == ("till-4.2026_03", 200, "/graphql")
    assert line["duration_ms"] >= 0


@pytest.mark.usefixtures("requests_logged")
async def test_log_tells_who_asked_for_what_and_how_many_errors_they_were_told(world: World) -> None:
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        await world.call(
            'mutation Sale { recordPurchase(input: {member: {externalId: "nobody"}, externalId: "x",'
            ' amount: "1"}) { userErrors { code } } }'
        )
    (line,) = [line for line in logs if line["event"] == "request"]
    assert (line["operation"], line["user_errors"], line["program"]) == ("Sale", 1, str(world.program_id))
    assert line["credential"]
    assert "outcome" not in line


@pytest.mark.parametrize("sent", ["a b", "x" * 65, 'id"; drop', "é"])
async def test_request_id_that_would_spoil_the_log_is_replaced(api: Api, sent: str) -> None:
    response = await api.http.post("/graphql", json={"query": HELLO}, headers={"x-request-id": sent.encode()})
    assert len(response.headers["x-request-id"]) == 32


async def test_unexpected_error_is_masked_under_an_id_that_is_in_the_log(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("the password is hunter2")

    monkeypatch.setattr(programs, "get_program", broken)
    assert programs_schema.service is programs
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        answer = await world.post("query Tour { program { id } viewer { id } }")
    assert (answer.status, answer.codes) == (200, ["INTERNAL"])
    assert "hunter2" not in json.dumps(answer.body)
    assert "RuntimeError" not in json.dumps(answer.body)
    assert answer.error["path"] == ["program"]
    (line,) = [line for line in logs if line["event"] == "graphql_error"]
    assert line["error_id"] == answer.error["extensions"]["errorId"]
    assert line["request_id"] == answer.headers["x-request-id"]
    assert line["operation"] == "Tour"
    assert "hunter2" in str(line["exc_info"][1])


async def test_failing_mutation_is_masked_too_and_names_no_table(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise ValueError("relation api_key")

    monkeypatch.setattr("app.access.keys.create_api_key", broken)
    query = """mutation { createApiKey(input: {name: "x", scopes: ["program:read"]}) { secret } }"""
    answer = await world.post(query)
    assert (answer.codes, answer.error["message"]) == (["INTERNAL"], "Something went wrong on our side.")


# --- limits on time and on the number of requests -----------------------------------------------


async def test_operation_that_takes_too_long_is_stopped(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(settings.model_copy(update={"request_timeout_seconds": 0.3})) as api:
        world = await make_world(api)

        async def slow(*_: object) -> None:
            await asyncio.sleep(30)

        monkeypatch.setattr(programs, "get_program", slow)
        answer = await api.post(
            "{ program { id } }", None, world.key, accept="application/graphql-response+json"
        )
    assert (answer.status, answer.codes) == (504, ["TIMEOUT"])
    assert "0.3 seconds" in answer.error["message"]


async def test_rate_limit_answers_429_and_says_when_to_come_again(settings: Settings) -> None:
    tiny = {"key_rate_limit": "5/minute", "member_rate_limit": "3/minute"}
    async with running(settings) as roomy:
        world = await make_world(roomy)
        other = await make_world(roomy)
    async with running(settings.model_copy(update=tiny)) as api:
        for token, allowed in ((world.key, 5), (world.token, 3)):
            answers = [await api.post("{ viewer { id } }", token=token) for _ in range(allowed + 2)]
            assert [answer.status for answer in answers] == [200] * allowed + [429] * 2
            refused = answers[-1]
            assert refused.codes == ["RATE_LIMITED"]
            assert 1 <= int(refused.headers["retry-after"]) <= 60
        # Everybody is counted by themselves, and in every process together.
        assert (await api.post("{ viewer { id } }", token=other.key)).status == 200
    async with running(settings.model_copy(update=tiny)) as second:
        assert (await second.post("{ viewer { id } }", token=world.key)).status == 429


async def test_tokens_of_one_member_count_together(settings: Settings) -> None:
    async with running(settings) as roomy:
        world = await make_world(roomy)
        tokens = [world.token, *[await world.token_for(world.member) for _ in range(3)]]
    async with running(settings.model_copy(update={"member_rate_limit": "3/minute"})) as api:
        statuses = [(await api.post("{ viewer { id } }", token=token)).status for token in tokens]
    assert statuses == [200, 200, 200, 429]


async def test_guessing_credentials_counts_against_the_address(settings: Settings) -> None:
    async with running(settings.model_copy(update={"key_rate_limit": "4/minute"})) as api:
        transport = httpx.ASGITransport(api.application, client=("198.51.100.7", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://laurel.test") as http:
            statuses = []
            for n in range(6):
                headers = {"authorization": f"Bearer laurel_abcdefgh_{n:043d}"}
                statuses.append(
                    (await http.post("/graphql", json={"query": HELLO}, headers=headers)).status_code
                )
    assert statuses == [401] * 4 + [429] * 2


async def test_api_goes_on_without_redis(settings: Settings) -> None:
    tiny = {"redis_url": NOWHERE, "key_rate_limit": "1/minute"}
    async with running(settings) as usual:
        world = await make_world(usual)
    async with running(settings.model_copy(update=tiny)) as api:
        for _ in range(6):
            assert (await api.call("{ viewer { id } }", token=world.token))["viewer"]["id"] == world.member
        away = World(api, world.program, world.slug, world.key, world.member, "", "", world.token)
        await away.rule()
        assert (await away.purchase("5"))["event"]["points"] == 5
        assert (await away.purchase("5", processing="DEFERRED"))["event"]["status"] == "QUEUED"


# --- for those who watch ---------------------------------------------------------------------


async def test_probes_answer_when_all_is_well(api: Api) -> None:
    assert (await api.http.get("/healthz")).json() == {"status": "ok"}
    response = await api.http.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"status": "ok", "database": "ok", "redis": "ok", "migrations": "ok"}


async def test_readiness_names_redis_when_it_is_away_and_the_process_lives_on(settings: Settings) -> None:
    async with running(settings.model_copy(update={"redis_url": NOWHERE})) as api:
        response = await api.http.get("/readyz")
        assert response.status_code == 503
        assert response.json() == {
            "status": "unavailable",
            "database": "ok",
            "redis": "away",
            "migrations": "ok",
        }
        assert (await api.http.get("/healthz")).status_code == 200
        assert (await api.http.get("/metrics")).status_code == 200


async def test_readiness_names_the_database_and_missing_migrations(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def some(_: object) -> list[str]:
        return ["0099_future"]

    async with running(settings) as api:
        monkeypatch.setattr(health, "pending", some)
        response = await api.http.get("/readyz")
        assert (response.status_code, response.json()["migrations"]) == (503, "pending")

        def gone() -> Any:
            raise ConnectionRefusedError

        monkeypatch.setattr(health, "connection", gone)
        response = await api.http.get("/readyz")
        assert (response.status_code, response.json()["database"]) == (503, "away")


def value_of(exposition: str, sample: str) -> float:
    """Return the value of one sample; 0 for one that is not there yet."""
    lines = [line for line in exposition.splitlines() if line.startswith(f"{sample} ")]
    return float(lines[0].rsplit(" ", 1)[1]) if lines else 0.0


async def test_metrics_count_requests_by_operation_and_points_as_they_are_earned(world: World) -> None:
    name = unique("Tour").replace("-", "_")
    before = (await world.api.http.get("/metrics")).text
    await world.rule()
    await world.purchase("25")
    await world.post(f"query {name} {{ program {{ id }} }}")
    await world.api.post(f"query {name} {{ program {{ debtLimit }} }}", token=world.token)
    response = await world.api.http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    after = response.text
    ok, forbidden = (
        f'laurel_requests_total{{operation="{name}",outcome="{outcome}"}}' for outcome in ("ok", "FORBIDDEN")
    )
    assert (value_of(after, ok), value_of(after, forbidden)) == (1, 1)
    earned = "laurel_points_earned_total"
    assert value_of(after, earned) - value_of(before, earned) == 25
    assert value_of(after, "laurel_request_seconds_count") > value_of(before, "laurel_request_seconds_count")


async def test_metrics_tell_the_age_of_what_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (await world.api.http.get("/metrics")).text
    await world.purchase("1", processing="DEFERRED")
    later = clock.now() + timedelta(seconds=90)
    monkeypatch.setattr(clock, "now", lambda: later)
    after = (await world.api.http.get("/metrics")).text
    items, age = (f'laurel_queue_{name}{{queue="earning"}}' for name in ("items", "age_seconds"))
    assert value_of(after, items) == value_of(before, items) + 1
    assert value_of(after, age) >= 85
    for name in WORKERS:
        assert f'laurel_workers{{name="{name}"}}' in after
    for queue in FAILING:
        assert f'laurel_failed_jobs{{queue="{queue}"}}' in after
    for queue in QUEUES:
        assert value_of(after, f'laurel_queue_age_seconds{{queue="{queue}"}}') >= 0
        assert value_of(after, f'laurel_queue_items{{queue="{queue}"}}') >= 0


async def test_names_that_clients_make_up_do_not_fill_the_metrics(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.metrics._operations", {f"Known{n}" for n in range(200)})
    name = unique("Made").replace("-", "_")
    await api.post(f"query {name} {{ __typename }}")
    text = (await api.http.get("/metrics")).text
    assert name not in text
    assert value_of(text, 'laurel_requests_total{operation="other",outcome="ok"}') >= 1


async def test_errors_are_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(programs, "get_program", broken)
    before = (await world.api.http.get("/metrics")).text
    await world.post("{ program { id } }")
    after = (await world.api.http.get("/metrics")).text

    def total(text: str) -> float:
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith("laurel_errors_total{")
        )

    assert total(after) == total(before) + 1

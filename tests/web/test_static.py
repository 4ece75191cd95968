"""The built pages are served from our own origin, under a policy that allows nothing else."""

import gzip
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.web.static import graphiql_page, web_routes


def client(dist: Path) -> httpx.AsyncClient:
    async def page(request: Request) -> Response:
        return graphiql_page(dist)

    app = Starlette(routes=[Route("/graphql", page), *web_routes(dist)])
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://laurel")


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    dist = tmp_path / "dist"
    (dist / "graphiql").mkdir(parents=True)
    (dist / "graphiql" / "index.html").write_text("<!doctype html><title>Laurel · GraphiQL</title>")
    (dist / "assets").mkdir()
    (dist / "assets" / "app-1a2b.js").write_text("export {};")
    (dist / "assets" / "app-1a2b.js.gz").write_bytes(gzip.compress(b"export {};"))
    (dist / "assets" / "icons-3c4d.ttf").write_bytes(b"\0\1\0\0")
    (dist / ".built-from").write_text("secret")
    (tmp_path / "secret.txt").write_text("secret")
    return dist


async def test_page_is_served_with_a_strict_policy_and_is_never_kept(dist: Path) -> None:
    answer = await client(dist).get("/graphql")
    assert answer.status_code == 200
    assert "Laurel · GraphiQL" in answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


async def test_policy_allows_no_inline_script_and_no_other_host(dist: Path) -> None:
    policy = dict(
        directive.split(" ", 1)
        for directive in (await client(dist).get("/graphql")).headers["content-security-policy"].split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    sources = {source for value in policy.values() for source in value.split()}
    assert sources == {"'none'", "'self'", "'unsafe-inline'", "data:"}


async def test_missing_build_says_which_command_builds_it(tmp_path: Path) -> None:
    answer = await client(tmp_path / "dist").get("/graphql")
    assert answer.status_code == 503
    assert "make web" in answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert "content-security-policy" in answer.headers


async def test_missing_build_leaves_files_not_found_rather_than_failing(tmp_path: Path) -> None:
    assert (await client(tmp_path / "dist").get("/web/assets/app-1a2b.js")).status_code == 404


async def test_build_that_comes_later_is_seen_without_a_restart(tmp_path: Path) -> None:
    browser = client(tmp_path / "dist")
    assert (await browser.get("/graphql")).status_code == 503
    (tmp_path / "dist" / "graphiql").mkdir(parents=True)
    (tmp_path / "dist" / "graphiql" / "index.html").write_text("built")
    (tmp_path / "dist" / "assets").mkdir()
    (tmp_path / "dist" / "assets" / "app-1a2b.js").write_text("export {};")
    assert (await browser.get("/graphql")).text == "built"
    assert (await browser.get("/web/assets/app-1a2b.js")).status_code == 200


async def test_hashed_files_are_kept_for_good(dist: Path) -> None:
    answer = await client(dist).get("/web/assets/app-1a2b.js", headers={"accept-encoding": "identity"})
    assert answer.text == "export {};"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "content-encoding" not in answer.headers


async def test_squeezed_copy_goes_to_those_who_take_it(dist: Path) -> None:
    answer = await client(dist).get("/web/assets/app-1a2b.js", headers={"accept-encoding": "br, gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["vary"] == "accept-encoding"
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.text == "export {};"


async def test_file_without_a_squeezed_copy_goes_as_it_is(dist: Path) -> None:
    answer = await client(dist).get("/web/assets/icons-3c4d.ttf", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in answer.headers
    assert answer.headers["content-type"] == "font/ttf"


async def test_unchanged_file_is_not_sent_again(dist: Path) -> None:
    browser = client(dist)
    etag = (await browser.get("/web/assets/app-1a2b.js")).headers["etag"]
    answer = await browser.get("/web/assets/app-1a2b.js", headers={"if-none-match": etag})
    assert answer.status_code == 304
    assert answer.content == b""


@pytest.mark.parametrize(
    "path",
    [
        "/web/assets/../../secret.txt",
        "/web/assets/%2e%2e/%2e%2e/secret.txt",
        "/web/assets/..%2f..%2fsecret.txt",
        "/web/assets/%2e%2e/.built-from",
        "/web/assets//etc/passwd",
        "/web/assets/%00",
        "/web/assets/",
        "/web/graphiql/index.html",
        "/web/.built-from",
    ],
)
async def test_nothing_but_the_files_of_the_pages_can_be_read(dist: Path, path: str) -> None:
    answer = await client(dist).get(path)
    assert answer.status_code == 404
    assert "secret" not in answer.text

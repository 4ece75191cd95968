"""Serve the built pages and their files from our own origin, under a policy that allows nothing else."""

import mimetypes
from collections.abc import Mapping
from html import escape
from os import PathLike, stat, stat_result
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

DIST: Final = Path(__file__).resolve().parent / "dist"
"""Where the build puts the pages; beside this module, so that an installed wheel has it as well."""

CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        # The editor positions its lines and colours with style attributes.
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "font-src 'self'",
        # Covers the WebSocket of subscriptions too, which is on the same host and port.
        "connect-src 'self'",
        "worker-src 'self'",
        "base-uri 'none'",
        # React submits no form; a form injected into the page could carry a key away.
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

PAGE_HEADERS: Final[Mapping[str, str]] = {
    # A page names its files by their hash: an old page would ask for files that an upgrade took away.
    "cache-control": "no-cache",
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}

# What a browser refuses to run or apply under the wrong type. The table of the machine is not
# asked for these: some Windows registries call JavaScript text/plain.
_TYPES: Final = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".ttf": "font/ttf",
    ".woff2": "font/woff2",
}

_NOT_BUILT: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="color-scheme" content="light dark">
<title>Laurel · not built</title>
<style>
  body {{ max-width: 36rem; margin: 15vh auto; padding: 0 1.5rem; font: 16px/1.6 system-ui, sans-serif }}
</style>
<h1>This page is not built yet</h1>
<p>The API works without it. To build the page, run this in the folder of Laurel and reload:</p>
<pre>make web</pre>
<p>It looked for <code>{path}</code>.</p>
</html>
"""


def graphiql_page(dist: Path = DIST) -> Response:
    """Answer with the GraphiQL page, or with 503 and how to build it."""
    return _page("graphiql", dist)


def web_routes(dist: Path = DIST) -> list[BaseRoute]:
    """Return the routes of the files that the pages are made of, `/web/assets/*`.

    The pages themselves are not among them: each has an address of its own and its own headers.
    """
    return [Mount("/web/assets", _HashedFiles(directory=dist / "assets", check_dir=False), name="web-assets")]


def _page(name: str, dist: Path) -> Response:
    # Read anew each time: it is a kilobyte, and a build is seen without a restart.
    path = dist / name / "index.html"
    try:
        html = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return HTMLResponse(_NOT_BUILT.format(path=escape(str(path))), 503, PAGE_HEADERS)
    return HTMLResponse(html, headers=PAGE_HEADERS)


class _HashedFiles(StaticFiles):
    """Files whose names change with their content: kept for good by browsers, sent squeezed."""

    async def check_config(self) -> None:
        """Let the folder be missing: Laurel runs without its pages, and they can be built later."""

    def file_response(
        self, full_path: PathLike[str] | str, stat_result: stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        path = Path(full_path)
        request_headers = Headers(scope=scope)
        headers = {
            "cache-control": "public, max-age=31536000, immutable",
            "vary": "accept-encoding",
            "x-content-type-options": "nosniff",
        }
        media_type = _TYPES.get(path.suffix) or mimetypes.guess_type(path)[0] or "application/octet-stream"
        if "gzip" in request_headers.get("accept-encoding", ""):
            squeezed = path.with_name(f"{path.name}.gz")
            if squeezed.is_file():
                path, stat_result = squeezed, stat(squeezed)
                headers["content-encoding"] = "gzip"
        response = FileResponse(
            path, status_code, headers=headers, media_type=media_type, stat_result=stat_result
        )
        if self.is_not_modified(response.headers, request_headers):
            return NotModifiedResponse(response.headers)
        return response

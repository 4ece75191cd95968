"""A tiny server for a browser to look at: the built pages over a GraphQL endpoint of a few fields."""

from dataclasses import dataclass, field
from typing import Any

import strawberry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.web.static import graphiql_page, web_routes

GOOD_KEY = "good-key_0.1+2"


@strawberry.type
class Program:
    name: str


@strawberry.type
class Viewer:
    name: str | None
    external_id: str


@strawberry.type
class Query:
    @strawberry.field
    def program(self) -> Program:
        return Program(name="Harbour Coffee")

    @strawberry.field
    def viewer(self) -> Viewer | None:
        return None


SCHEMA = strawberry.Schema(Query)


@dataclass(slots=True)
class Seen:
    """What the browser asked for."""

    addresses: list[str] = field(default_factory=list)
    credentials: list[tuple[str, str | None]] = field(default_factory=list)
    """Each GraphQL query with the Authorization header that came with it."""
    violations: list[Any] = field(default_factory=list)
    """What the browser's policy stopped: other hosts, inline scripts."""


def app(seen: Seen) -> Starlette:
    """Return the server; `seen` fills up while it runs."""

    async def graphql(request: Request) -> Response:
        seen.addresses.append(str(request.url))
        if request.method == "GET":
            response = graphiql_page()
            response.headers["content-security-policy"] += "; report-uri /violations"
            return response
        body = await request.json()
        credential = request.headers.get("authorization")
        seen.credentials.append((body["query"], credential))
        if credential not in (None, f"Bearer {GOOD_KEY}"):
            return JSONResponse({"errors": [{"message": "Unknown credential."}]}, 401)
        result = await SCHEMA.execute(body["query"], body.get("variables"))
        errors = [error.formatted for error in result.errors or []]
        return JSONResponse({"data": result.data, **({"errors": errors} if errors else {})})

    async def violations(request: Request) -> Response:
        seen.violations.append(await request.json())
        return Response(status_code=204)

    return Starlette(
        routes=[
            Route("/graphql", graphql, methods=["GET", "POST"]),
            Route("/violations", violations, methods=["POST"]),
            *web_routes(),
        ]
    )

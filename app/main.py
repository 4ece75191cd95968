"""The ASGI application: everything that answers over HTTP and WebSockets, put together."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse
from starlette.routing import Route, WebSocketRoute

from app import database
from app.access.authenticate import Authenticator
from app.access.gate import Gate, request_gate
from app.access.principal import Principal
from app.access.rate_limit import RateLimiter
from app.access.tokens import MemberTokens
from app.catalog.vault import Vault
from app.coalescing import Coalescer
from app.earning.recording import record_now
from app.health import Health
from app.http import RequestLog
from app.keyring import admin_key, codes_key, secret_key
from app.live.hints import Publisher
from app.live.hub import Hub
from app.metrics import observe
from app.redemptions.taking import take
from app.settings import Settings
from app.settings import settings as process_settings
from app.stores.codes import CheckInCodes
from app.web.static import graphiql_page, web_routes
from graphql_schema.context import Context, Services, make_context
from graphql_schema.root import laurel_schema
from graphql_schema.running import Runner
from graphql_schema.sockets import Sockets
from graphql_schema.view import GraphQLView


def create_app(settings: Settings | None = None) -> Starlette:
    """Return the application of one process. Its servers are connected when its lifespan starts.

    Args:
        settings: with complete addresses of both servers; those of the process when left out.
    """
    settings = settings or process_settings()
    secret = secret_key(settings)
    tokens = MemberTokens(secret)
    authenticator = Authenticator(admin_key(settings), tokens)
    limiter = RateLimiter(settings)
    vault = Vault(codes_key(settings))
    recorder = Coalescer(record_now, "recording")
    redeemer = Coalescer(partial(take, vault=vault), "redeeming")
    hub = Hub(settings)
    services = Services(tokens, recorder, redeemer, CheckInCodes(secret), vault, hub)
    health = Health(settings)

    def context(request: HTTPConnection, principal: Principal) -> Context:
        return make_context(request, principal, services)

    @asynccontextmanager
    async def lifespan(application: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await database.connect(settings, "laurel-api")
            stack.push_async_callback(database.disconnect)
            await stack.enter_async_context(authenticator)
            await stack.enter_async_context(limiter)
            await stack.enter_async_context(health)
            await stack.enter_async_context(Publisher(settings))
            await stack.enter_async_context(hub)
            await stack.enter_async_context(sockets)
            for coalescer in (recorder, redeemer):
                await coalescer.start()
                stack.push_async_callback(coalescer.stop)
            yield

    schema = laurel_schema(settings)
    sockets = Sockets(Runner(schema, settings, observe), Gate(authenticator, limiter), context, settings)
    view = GraphQLView(
        schema,
        authenticate=request_gate(authenticator, limiter),
        context=context,
        settings=settings,
        ide=graphiql_page,
        observe=observe,
    )
    application = Starlette(
        routes=[
            Route("/", RedirectResponse("/graphql")),
            Route("/graphql", view),
            WebSocketRoute("/graphql", sockets),
            *health.routes(),
            *web_routes(),
        ],
        lifespan=lifespan,
    )
    # Outermost, so that even what nobody expected carries the request's id.
    application.build_middleware_stack = _logged(application.build_middleware_stack)  # type: ignore[method-assign]
    return application


def _logged(build: Callable[[], object]) -> Callable[[], RequestLog]:
    return lambda: RequestLog(build())  # type: ignore[arg-type]

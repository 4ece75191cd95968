"""One API process: uvicorn around the application, alone or as one of several."""

import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.supervisors import Multiprocess

from app import logs
from app.embedded import die_with_parent
from app.settings import Settings, settings
from app.supervisor import LISTENER_VARIABLE

if TYPE_CHECKING:
    from starlette.applications import Starlette

_GRACE_SECONDS = 20
_BACKLOG = 2048
_KEEP_ALIVE_SECONDS = 75
# A peer that does not answer a ping within as long again is gone.
_PING_SECONDS = 20
_STARTUP_FAILED = 3


def application() -> "Starlette":
    """Make the application of one process; uvicorn calls it in each."""
    if parent := multiprocessing.parent_process():
        # uvicorn's own children live on when their parent is killed, and hold the port.
        die_with_parent(parent.pid or 0)
        logs.configure(settings())
    from app.main import create_app

    return create_app()


def serve(settings: Settings, *, processes: int = 1) -> None:
    """Serve the API until SIGINT or SIGTERM; requests under way get 20 seconds.

    Args:
        settings: host, port, and complete addresses of both servers.
        processes: how many processes share the port.

    Raises:
        SystemExit: with 0 after a signal; with 3 when the application did not start.
    """
    config = uvicorn.Config(
        "app.serving:application",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=processes,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=settings.max_body_bytes,
        # Messages are small, and a compressor for each connection is not.
        ws_per_message_deflate=False,
        ws_ping_interval=_PING_SECONDS,
        ws_ping_timeout=_PING_SECONDS,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    # The supervisor has bound the port already and keeps it while this process is started again.
    inherited = os.environ.get(LISTENER_VARIABLE)
    sockets = [socket.socket(fileno=int(inherited))] if inherited else None
    if processes > 1:
        # Whichever process a scrape meets answers for all of them.
        os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", tempfile.mkdtemp(prefix="laurel-metrics-"))
        Multiprocess(config, sockets=sockets or [config.bind_socket()]).run()
    else:
        # uvicorn stops in order, and then sends itself the signal again: that is the end, and a good one.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _leave)
        server = uvicorn.Server(config)
        server.run(sockets=sockets)
        if not server.started:
            sys.exit(_STARTUP_FAILED)


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)

"""One instance for each data folder: who holds it, and where its servers are."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypedDict

from app.embedded.postgres import EmbeddedPostgres
from app.embedded.process import StartError
from app.embedded.valkey import EmbeddedRedis
from app.settings import Settings

_LOCK_NAME = "run.lock"
_NOTE_NAME = "run.json"
# Long enough for a reader to let go of the lock that it looked at, too short to be noticed.
_LOCK_PATIENCE_SECONDS = 0.5
_INSTANCE_PATIENCE_SECONDS = 30
_POLL_SECONDS = 0.05


class AlreadyRunningError(StartError):
    """The data folder is in use by a living process."""


class Note(TypedDict):
    """What a running instance tells other processes, in `<data_dir>/run.json`."""

    pid: int
    address: str
    database_url: str
    redis_url: str


def prepare_data_dir(settings: Settings) -> Path:
    """Return the data folder's absolute path; a new one is for its owner only.

    Raises:
        StartError: it cannot be made or written to.
    """
    folder = settings.data_dir.expanduser().resolve()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"The data folder {folder} cannot be made: {error.strerror}.") from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise StartError(f"The data folder {folder} belongs to another user; set LAUREL_DATA_DIR.")
    return folder


@contextmanager
def exclusive(data_dir: Path, address: str = "") -> Iterator[None]:
    """Hold a data folder for this process; the lock ends with the process, however that ends.

    Args:
        data_dir: an absolute folder that exists.
        address: where this process will be reached, for the message that a second one gets.

    Raises:
        AlreadyRunningError: another living process holds it.
    """
    descriptor = os.open(data_dir / _LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + _LOCK_PATIENCE_SECONDS
        while not _try_lock(descriptor, fcntl.LOCK_EX):
            if time.monotonic() >= deadline:
                raise AlreadyRunningError(_holder_text(data_dir, os.pread(descriptor, 4096, 0)))
            time.sleep(_POLL_SECONDS)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "address": address}).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder_text(data_dir: Path, content: bytes) -> str:
    try:
        holder = json.loads(content)
    except ValueError:
        return f"Laurel is running already in {data_dir}."
    about = ", ".join(filter(None, (f"process {holder['pid']}", holder["address"])))
    return f"Laurel is running already in {data_dir} ({about})."


def is_held(data_dir: Path) -> bool:
    """Return whether a living process holds the data folder."""
    try:
        descriptor = os.open(data_dir / _LOCK_NAME, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


@contextmanager
def announced(data_dir: Path, settings: Settings, address: str) -> Iterator[None]:
    """Tell other processes on this machine where this instance's servers are, as long as it runs."""
    note = Note(
        pid=os.getpid(),
        address=address,
        database_url=settings.database_url or "",
        redis_url=settings.redis_url or "",
    )
    path = data_dir / _NOTE_NAME
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(note, file)
    fresh.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def running_instance(data_dir: Path) -> Note | None:
    """Return the note of the instance that runs in a data folder; None when none does."""
    try:
        note: Note = json.loads((data_dir / _NOTE_NAME).read_text())
        holder = json.loads((data_dir / _LOCK_NAME).read_text())
    except (OSError, ValueError):
        return None
    # A killed instance leaves its note behind; the lock it cannot leave behind.
    return note if holder.get("pid") == note["pid"] and is_held(data_dir) else None


def _with_note(settings: Settings, note: Note) -> Settings:
    return settings.model_copy(
        update={
            "database_url": settings.database_url or note["database_url"],
            "redis_url": settings.redis_url or note["redis_url"],
        }
    )


def resolve_servers(settings: Settings) -> Settings:
    """Return settings that name both servers, for a process that starts none itself.

    What is not set is taken from the instance that runs in the data folder.

    Raises:
        StartError: something is not set, and nothing runs there.
    """
    if settings.database_url and settings.redis_url:
        return settings
    data_dir = settings.data_dir.expanduser().resolve()
    if note := running_instance(data_dir):
        return _with_note(settings, note)
    missing = [
        name
        for name, url in (("DATABASE_URL", settings.database_url), ("REDIS_URL", settings.redis_url))
        if not url
    ]
    raise StartError(
        f"{' and '.join(missing)} not set, and no Laurel runs in {data_dir}. "
        "Set them to your servers, or start everything with `laurel run`."
    )


@contextmanager
def command_servers(settings: Settings, *, redis: bool = True) -> Iterator[Settings]:
    """Lend the servers to a command that runs for a moment: given, running, or started for it.

    The servers are those that the settings name, else those of the instance that runs in the data
    folder, else the embedded ones, started for this command alone.

    Args:
        settings: what the environment says.
        redis: False for a command that needs the database only.

    Raises:
        AlreadyRunningError: another command has been using the data folder for 30 seconds.
        StartError: a server does not start.
    """
    if settings.database_url and (settings.redis_url or not redis):
        yield settings
        return
    data_dir = prepare_data_dir(settings)
    with ExitStack() as stack:
        deadline = time.monotonic() + _INSTANCE_PATIENCE_SECONDS
        while True:
            if note := running_instance(data_dir):
                resolved = _with_note(settings, note)
                break
            try:
                stack.enter_context(exclusive(data_dir))
            except AlreadyRunningError:
                # Another command, or an instance that is still starting: both take seconds.
                if time.monotonic() >= deadline:
                    raise
                continue
            resolved = _start(stack, data_dir, settings, redis)
            break
        yield resolved


def _start(stack: ExitStack, data_dir: Path, settings: Settings, redis: bool) -> Settings:
    update = {}
    if not settings.database_url:
        update["database_url"] = stack.enter_context(EmbeddedPostgres(data_dir)).url()
    if redis and not settings.redis_url:
        update["redis_url"] = stack.enter_context(EmbeddedRedis(data_dir)).url()
    return settings.model_copy(update=update)

"""The folder that holds the embedded servers' Unix sockets, closed to every other user."""

import os
import re
import stat
import tempfile
from pathlib import Path

from app.embedded.account import Account

# Addresses name sockets as they are; what would need quoting there goes to the temporary folder too.
_PLAIN = re.compile(r"[A-Za-z0-9/._-]+")
# A Unix socket's path has 104 bytes on macOS, 108 on Linux, a closing zero included.
_LONGEST_SOCKET_PATH = 100
_LONGEST_NAME = ".s.PGSQL.5432"


def socket_folder(data_dir: Path, account: Account | None) -> Path:
    """Return the folder for the sockets of a data folder, made when it is missing.

    It is `<data_dir>/sockets`; where that path is too long for a socket it is a folder of its own
    among the temporary files, whose name `<data_dir>/sockets.path` keeps.
    """
    owner = account.uid if account else os.geteuid()
    folder = data_dir / "sockets"
    if _fits(folder):
        folder.mkdir(mode=0o700, exist_ok=True)
    else:
        folder = _temporary_folder(data_dir / "sockets.path", owner)
    if folder.stat().st_uid != owner:
        os.chown(folder, owner, account.gid if account else -1)
    folder.chmod(0o700)
    return folder


def remove_socket_folder(data_dir: Path, folder: Path) -> None:
    """Remove a temporary socket folder once the last server has left it."""
    if folder.parent != data_dir:
        try:
            folder.rmdir()
        except OSError:
            return
        (data_dir / "sockets.path").unlink(missing_ok=True)


def _fits(folder: Path) -> bool:
    path = str(folder / _LONGEST_NAME)
    return len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH and _PLAIN.fullmatch(path) is not None


def _temporary_folder(note: Path, owner: int) -> Path:
    if note.exists():
        known = Path(note.read_text().strip())
        # Temporary files belong to everybody: only a folder that is still ours is used again.
        if known.is_dir() and not known.is_symlink():
            found = known.stat()
            if found.st_uid == owner and stat.S_IMODE(found.st_mode) == 0o700:
                return known
    base = Path(tempfile.gettempdir())
    if not _fits(base / "laurel-12345678"):
        base = Path("/tmp")  # noqa: S108
    folder = Path(tempfile.mkdtemp(prefix="laurel-", dir=base))
    note.write_text(f"{folder}\n")
    return folder

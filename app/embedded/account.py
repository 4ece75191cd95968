"""Which system account the embedded servers run as, and what that account may reach.

PostgreSQL refuses to run as root. When root starts Laurel, both servers run as an account of their
own that owns nothing but their data. It is given the right to pass through the folders above its
data, by an ACL for that account alone where the file system knows ACLs: nobody else sees more.
"""

import os
import pwd
import stat
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from app.embedded.process import StartError

ACCOUNT_NAME = "laurel-server"

_ACL = "system.posix_acl_access"
_ACL_VERSION = 2
_ENTRY = struct.Struct("<HHI")
_USER_OBJ, _USER, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_NOBODY_IN_PARTICULAR = 0xFFFFFFFF
_SEARCH = 1


@dataclass(frozen=True, slots=True)
class Account:
    """A system account: numeric user and group."""

    uid: int
    gid: int


def server_account(data_dir: Path) -> Account | None:
    """Return the account for the embedded servers, made when it is missing.

    Args:
        data_dir: data that is there already keeps the owner it has.

    Returns:
        None when the servers run as whoever runs this process, which is everybody but root.

    Raises:
        StartError: this is root and no account could be made.
    """
    if os.geteuid() != 0:
        return None
    for folder in (data_dir / "postgres", data_dir / "redis"):
        if folder.exists() and (found := folder.stat()).st_uid != 0:
            return Account(found.st_uid, found.st_gid)
    problem = ""
    for _ in range(20):
        try:
            entry = pwd.getpwnam(ACCOUNT_NAME)
        except KeyError:
            # Two instances may do this at the same time: the loser finds the account on its next turn.
            problem = _add_account()
            time.sleep(0.1)
        else:
            return Account(entry.pw_uid, entry.pw_gid)
    raise StartError(
        f"PostgreSQL does not run as root, and the account {ACCOUNT_NAME!r} could not be made ({problem}). "
        "Run Laurel as an ordinary user, or set DATABASE_URL and REDIS_URL."
    )


def _add_account() -> str:
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    command += ["--shell", "/usr/sbin/nologin", ACCOUNT_NAME]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stderr.strip()


def let_pass(account: Account, folder: Path) -> None:
    """Let an account pass through a folder and everything above it, without listing any of it."""
    for path in (folder, *folder.parents):
        found = path.stat()
        if found.st_mode & stat.S_IXOTH or (found.st_uid == account.uid and found.st_mode & stat.S_IXUSR):
            continue
        try:
            _grant_search(path, found.st_mode, account.uid)
        except (OSError, AttributeError):
            # No ACLs here: passing through is the least that a mode can say.
            path.chmod(stat.S_IMODE(found.st_mode) | stat.S_IXOTH)


def _grant_search(path: Path, mode: int, uid: int) -> None:
    """Add `user:<uid>:--x` to the ACL of a folder."""
    try:
        raw = os.getxattr(path, _ACL)
        entries = {(tag, who): rights for tag, rights, who in _ENTRY.iter_unpack(raw[4:])}
    except OSError:
        entries = {
            (_USER_OBJ, _NOBODY_IN_PARTICULAR): mode >> 6 & 7,
            (_GROUP_OBJ, _NOBODY_IN_PARTICULAR): mode >> 3 & 7,
            (_OTHER, _NOBODY_IN_PARTICULAR): mode & 7,
        }
    group = entries[_GROUP_OBJ, _NOBODY_IN_PARTICULAR]
    mask = entries.get((_MASK, _NOBODY_IN_PARTICULAR), group)
    entries[_USER, uid] = entries.get((_USER, uid), 0) | _SEARCH
    entries[_MASK, _NOBODY_IN_PARTICULAR] = mask | _SEARCH
    packed = b"".join(_ENTRY.pack(tag, entries[tag, who], who) for tag, who in sorted(entries))
    os.setxattr(path, _ACL, struct.pack("<I", _ACL_VERSION) + packed)


def let_execute(account: Account, tree: Path) -> None:
    """Let an account read and run an installed package's binaries (public files, nothing of ours)."""
    let_pass(account, tree.parent)
    wanted = stat.S_IROTH | stat.S_IXOTH
    if tree.stat().st_mode & wanted == wanted:
        return
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))

"""The three secrets of an installation: given from outside, or made once and kept in the data folder."""

import fcntl
import os
import secrets
import stat
from pathlib import Path

from pydantic import SecretStr

from app.settings import Settings

_BYTES = 32


def admin_key(settings: Settings) -> str:
    """Return the platform administrator's key: LAUREL_ADMIN_KEY, else `<data_dir>/admin.key`.

    Raises:
        OSError: the data folder cannot be read or written.
    """
    return _secret(settings, settings.admin_key, "admin.key")


def secret_key(settings: Settings) -> str:
    """Return the key that signs tokens and codes: LAUREL_SECRET_KEY, else `<data_dir>/secret.key`.

    Processes on several machines need the same one: set it there. Under another one, codes that hang
    printed in stores are refused.

    Raises:
        OSError: the data folder cannot be read or written.
    """
    return _secret(settings, settings.secret_key, "secret.key")


def codes_key(settings: Settings) -> str:
    """Return the key that encrypts the codes of rewards: LAUREL_CODES_KEY, else `<data_dir>/codes.key`.

    Processes on several machines need the same one: set it there. Keep a copy apart from the backups
    of the database. When it is lost or changed, what was encrypted can never be read again: members do
    not see their codes, tills do not find them, and codes that are there are not recognised.

    Raises:
        OSError: the data folder cannot be read or written.
    """
    return _secret(settings, settings.codes_key, "codes.key")


def has_codes_key(settings: Settings) -> bool:
    """Tell whether `codes_key` would return a key that is there already, and not make one."""
    given = settings.codes_key is not None and bool(settings.codes_key.get_secret_value())
    return given or (settings.data_dir.expanduser().resolve() / "codes.key").exists()


def admin_key_file(settings: Settings) -> Path | None:
    """Return the file that holds the administrator's key; None when the key is set from outside."""
    if settings.admin_key and settings.admin_key.get_secret_value():
        return None
    return settings.data_dir.expanduser().resolve() / "admin.key"


def _secret(settings: Settings, given: SecretStr | None, name: str) -> str:
    # A variable that is set to nothing must not make nothing the password.
    if given and (value := given.get_secret_value()):
        return value
    path = settings.data_dir.expanduser().resolve() / name
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        path.chmod(0o600)
    value = path.read_text().strip()
    if not value:
        raise OSError(f"{path} is empty: remove it to have a new key made, or restore it.")
    return value


def _make(path: Path) -> None:
    """Write a new secret; of several processes that try at once one writes, the others find it."""
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return
        write_secret(path, secrets.token_urlsafe(_BYTES))
    finally:
        os.close(lock)


def write_secret(path: Path, secret: str) -> None:
    """Put a secret into a file that its owner alone can read: the whole of it, or nothing."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)


def read_secret(path: Path) -> str | None:
    """Return the secret that a file holds; None when there is none."""
    return path.read_text().strip() or None if path.exists() else None

"""Identities: time-ordered UUIDs inside, opaque global ids outside."""

import base64
import binascii
import hashlib
import os
import time
from uuid import UUID

_last_ms = 0
_counter = 0


def new_id() -> UUID:
    """Return a UUID of version 7 (RFC 9562): later ids of one process sort after earlier ones.

    The 12 bits after the milliseconds count within the millisecond, starting at a random place
    in the lower half, so that ids of one batch keep their order; the other 62 bits are random.
    """
    global _last_ms, _counter
    random = int.from_bytes(os.urandom(10))
    ms = time.time_ns() // 1_000_000
    if ms > _last_ms:
        _last_ms, _counter = ms, random >> 69
    else:
        _counter += 1
        if _counter > 0xFFF:
            _last_ms, _counter = _last_ms + 1, random >> 69
    value = (_last_ms & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | _counter << 64 | 0b10 << 62
    return UUID(int=value | random & 0x3FFF_FFFF_FFFF_FFFF)


def key_id(*parts: object) -> UUID:
    """Return the UUID (version 8) that stands for an idempotency key: the same parts, the same id."""
    digest = hashlib.blake2b(b"\0".join(str(part).encode() for part in parts), digest_size=16).digest()
    value = int.from_bytes(digest) & ~(0xF << 76) & ~(0b11 << 62)
    return UUID(int=value | 0x8 << 76 | 0b10 << 62)


def content_hash(content: bytes) -> int:
    """Return a signed 64-bit hash of a request's content, to tell a replay from another request."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), signed=True)


def to_global_id(type_name: str, key: UUID | str) -> str:
    """Return the id by which the API knows an object: opaque, and naming its type."""
    raw = f"{type_name}:".encode() + (key.bytes if isinstance(key, UUID) else b"=" + key.encode())
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def from_global_id(value: str) -> tuple[str, UUID | str] | None:
    """Return the type's name and the key that a global id stands for; None for anything else."""
    if not value.isascii() or len(value) > 200:
        return None
    try:
        raw = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except (binascii.Error, ValueError):
        return None
    name, colon, key = raw.partition(b":")
    if not colon or not name.isalpha():
        return None
    if key.startswith(b"=") and len(key) != 16:
        try:
            return name.decode(), key[1:].decode()
        except UnicodeDecodeError:
            return None
    return (name.decode(), UUID(bytes=key)) if len(key) == 16 else None

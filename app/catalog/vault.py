"""Seals what must not be read in the database, such as codes: with a key that is not in the database.

What is sealed is 29 bytes longer than its content:

     1  the scheme, so that another one can come later: 1 is this one
    12  the nonce, at random: one key is good for some 4,000,000,000 contents
     n  the content, by AES-256-GCM, with the id of what it belongs to as associated data
    16  the tag
"""

import hashlib
import hmac
import os
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_SCHEME = b"\x01"
_NONCE_BYTES = 12
_KEY_BYTES = 32


class SealBroken(Exception):
    """What was sealed cannot be opened: another key, another context, or bytes that were changed."""

    def __init__(self) -> None:
        super().__init__("The content was sealed with another key (LAUREL_CODES_KEY), or it was altered.")


class Vault:
    """Seals contents and opens them again, and tells by a digest whether a code is there."""

    def __init__(self, secret: str) -> None:
        """Derive the keys from a secret of any length, which should hold 128 bits of chance or more."""
        self._cipher = AESGCM(_derive(secret, b"laurel codes: sealing"))
        self._digest_key = _derive(secret, b"laurel codes: digests")

    def seal(self, content: bytes, context: UUID) -> bytes:
        """Return a content sealed: 29 bytes longer, and different each time.

        Args:
            context: the id of what the content belongs to; it opens there and nowhere else.
        """
        nonce = os.urandom(_NONCE_BYTES)
        return _SCHEME + nonce + self._cipher.encrypt(nonce, content, context.bytes)

    def open(self, sealed: bytes, context: UUID) -> bytes:
        """Return what was sealed for a context.

        Raises:
            SealBroken: it was sealed with another key, for another context, or not by `seal`; or
                something was changed.
        """
        start = len(_SCHEME) + _NONCE_BYTES
        if sealed[: len(_SCHEME)] != _SCHEME:
            raise SealBroken
        try:
            return self._cipher.decrypt(sealed[len(_SCHEME) : start], sealed[start:], context.bytes)
        except (InvalidTag, ValueError) as error:
            raise SealBroken from error

    def digest(self, program_id: UUID, code: str) -> bytes:
        """Return the 32 bytes by which a code of a program is found again; they tell nothing of the code."""
        return hmac.digest(self._digest_key, program_id.bytes + code.encode(), hashlib.sha256)


def _derive(secret: str, purpose: bytes) -> bytes:
    return HKDF(SHA256(), length=_KEY_BYTES, salt=None, info=purpose).derive(secret.encode())

"""Check-in codes: signed, bound to one store of one program, good for a while or, printed, for good.

A code is `LC1-` and 45 bytes in Base32, all of them characters that QR codes keep shortest:

    16  the store's id
     5  the second (since 1970) from which it is good for nothing any more; 0 for never
     8  its serial: at random, so that no two codes are the same
    16  the first half of an HMAC-SHA256 over the prefix, the program's id and all of the above

45 bytes are 72 characters without a bit left over, so that one code can be written in one way only.
"""

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from uuid import UUID

from app.errors import ErrorCode, refuse

SHORTEST_SECONDS = 5
LONGEST_SECONDS = 365 * 86_400

_PREFIX = "LC1-"
_CODE = re.compile(_PREFIX + "[A-Z2-7]{72}", re.ASCII)
_EXPIRY_BYTES = 5
_SERIAL_BYTES = 8
_MAC_BYTES = 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class CheckInCode:
    """A code, and the second (UTC) from which it is good for nothing any more; None for never."""

    text: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class CodeContent:
    """What a code of ours says: its store, until when (UTC) it is good, and what tells it from others.

    Attributes:
        expires_at: None for a code that was made to be printed.
        serial: 16 hexadecimal digits; a printed code has the same one for everybody who scans it.
    """

    store_id: UUID
    expires_at: datetime | None
    serial: str

    def check_time(self, now: datetime, zone: tzinfo = UTC) -> None:
        """Refuse a code whose time is over at a moment; its last second is the one before `expires_at`.

        Args:
            zone: in which the message tells the time: the store's, so that it is read as on its clocks.

        Raises:
            Refused: NOT_ELIGIBLE for `code`.
        """
        if self.expires_at is not None and now >= self.expires_at:
            local = self.expires_at.astimezone(zone)
            until = f"{local.day} {local:%B %Y, %H:%M:%S} ({zone})"
            message = f"The code was valid until {until}; scan a fresh one."
            raise refuse(ErrorCode.NOT_ELIGIBLE, message, "code")


class CheckInCodes:
    """Makes and reads the check-in codes of an installation."""

    def __init__(self, secret_key: str) -> None:
        # Derived, so that neither a token nor anything else that the secret signs passes for a code.
        self._key = hmac.digest(secret_key.encode(), b"laurel check-in code", hashlib.sha256)

    def make(
        self, program_id: UUID, store_id: UUID, valid_for_seconds: int | None, now: datetime
    ) -> CheckInCode:
        """Sign a code for a store that holds from a moment (UTC) for 5 to 31,536,000 seconds; None: for good.

        Its end is a whole second, and never earlier than was asked for.
        """
        end, expires_at = 0, None
        if valid_for_seconds is not None:
            assert SHORTEST_SECONDS <= valid_for_seconds <= LONGEST_SECONDS
            end = -((_EPOCH - now) // _SECOND) + valid_for_seconds
            expires_at = _EPOCH + end * _SECOND
        said = store_id.bytes + end.to_bytes(_EXPIRY_BYTES) + secrets.token_bytes(_SERIAL_BYTES)
        encoded = base64.b32encode(said + self._mac(program_id, said))
        return CheckInCode(_PREFIX + encoded.decode(), expires_at)

    def read(self, program_id: UUID, text: str, now: datetime) -> CodeContent:
        """Return what a code says that is good at a moment (UTC).

        Whether its program still has the store is for the caller to find out.

        Raises:
            Refused: for `code`: INVALID, as `content` says; NOT_ELIGIBLE, its time is over.
        """
        content = self.content(program_id, text)
        content.check_time(now)
        return content

    def content(self, program_id: UUID, text: str) -> CodeContent:
        """Return what a code of a program says, whether or not its time is over.

        Args:
            text: exactly as it was made; only space around it is let pass.

        Raises:
            Refused: INVALID for `code`: anything but a code of this installation and program.
        """
        if _CODE.fullmatch(stripped := text.strip()):
            raw = base64.b32decode(stripped.removeprefix(_PREFIX))
            said, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
            if hmac.compare_digest(mac, self._mac(program_id, said)):
                end = int.from_bytes(said[16:-_SERIAL_BYTES])
                expires_at = _EPOCH + end * _SECOND if end else None
                return CodeContent(UUID(bytes=said[:16]), expires_at, said[-_SERIAL_BYTES:].hex())
        raise refuse(ErrorCode.INVALID, "This is not a code of ours, or it was altered.", "code")

    def _mac(self, program_id: UUID, said: bytes) -> bytes:
        # Every part has a fixed length: no two contents are signed as the same bytes.
        return hmac.digest(self._key, _PREFIX.encode() + program_id.bytes + said, hashlib.sha256)[:_MAC_BYTES]

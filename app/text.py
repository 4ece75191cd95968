"""Which texts can be kept and shown."""

import re
import unicodedata

# An odd number of backslashes before u0000.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def is_line(value: str) -> bool:
    """Tell whether a text can be stored and shown in one line.

    Joiners, which several scripts need within words, are allowed; control characters, line ends and
    halves of surrogate pairs, which PostgreSQL cannot store, are not.
    """
    # Nearly every text is printable as a whole, which is a hundred times quicker to find out.
    return value.isprintable() or not any(
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in value
    )


def is_text(value: str) -> bool:
    """Tell whether a text of several lines can be stored: as `is_line`, but lines may end and be indented."""
    return is_line(value.translate(_LAYOUT))


_LAYOUT = dict.fromkeys(map(ord, "\n\r\t"), " ")


def holds_nul(content: bytes) -> bool:
    """Tell whether encoded JSON holds a NUL, which PostgreSQL cannot store."""
    return b"\\u0000" in content and _NUL.search(content) is not None

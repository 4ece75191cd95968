"""The picture of a code: black on white, with its quiet zone, and as large as it is shown."""

import re
from datetime import UTC, datetime
from uuid import uuid4
from xml.etree import ElementTree

import pytest
import segno

from app.stores.codes import CheckInCodes
from app.stores.qr import QUIET_MODULES, svg

TEXT = CheckInCodes("a secret of the tests").make(uuid4(), uuid4(), None, datetime.now(UTC)).text
SVG = "{http://www.w3.org/2000/svg}"
_STEP = re.compile(r"([Mmh])(-?[0-9.]+)(?: (-?[0-9.]+))?")


def drawn(path: str, size: int) -> list[list[int]]:
    """Return the modules that the strokes of a path cover."""
    modules = [[0] * size for _ in range(size)]
    x, y = 0.0, 0.0
    steps = [(name, float(a), float(b or 0)) for name, a, b in _STEP.findall(path)]
    assert "".join(found[0] for found in _STEP.finditer(path)) == path
    for name, a, b in steps:
        if name == "h":
            for column in range(int(x), int(x + a)):
                modules[int(y)][column] = 1
            x += a
        else:
            x, y = (a, b) if name == "M" else (x + a, y + b)
    return modules


@pytest.mark.parametrize("text", [TEXT, "A", "LC1-" + "7" * 300], ids=["code", "short", "long"])
def test_picture_shows_the_symbol_of_the_text_and_white_around_it(text: str) -> None:
    picture = ElementTree.fromstring(svg(text))
    symbol = segno.make_qr(text, error="m", boost_error=False)
    size = len(symbol.matrix) + 2 * QUIET_MODULES
    edge = [0] * QUIET_MODULES
    empty = [[0] * size] * QUIET_MODULES
    expected = [*empty, *([*edge, *row, *edge] for row in symbol.matrix), *empty]

    assert picture.get("viewBox") == f"0 0 {size} {size}"
    white, black = picture.findall(f"{SVG}path")
    assert white.get("fill") == "#fff"
    assert white.get("d") == f"M0 0h{size}v{size}h-{size}z"
    assert black.get("stroke") == "#000"
    assert drawn(black.get("d") or "", size) == expected


def test_code_is_kept_in_the_alphanumeric_mode_of_a_symbol_that_phones_read_from_afar() -> None:
    symbol = segno.make_qr(TEXT, error="m", boost_error=False)
    assert (symbol.mode, symbol.designator) == ("alphanumeric", "4-M")


def test_picture_has_a_title_and_fits_into_pages_and_files() -> None:
    markup = svg(TEXT)
    picture = ElementTree.fromstring(markup)
    assert picture.tag == f"{SVG}svg"
    assert (picture.get("width"), picture.get("height")) == (None, None)
    assert picture.findtext(f"{SVG}title") == "Check-in code"
    assert markup.startswith("<svg ")
    assert markup.endswith("</svg>")
    assert not {"class", "id", "style"} & {name for each in picture.iter() for name in each.attrib}


def test_same_code_has_the_same_picture() -> None:
    assert svg(TEXT) == svg(TEXT)

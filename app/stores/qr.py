"""Check-in codes as pictures."""

from io import BytesIO

import segno

QUIET_MODULES = 4
"""The white edge that readers need, in modules: what ISO/IEC 18004 asks for."""

_TITLE = "Check-in code"


def svg(text: str) -> str:
    """Return a text as a QR code: SVG markup for a page or a file, which fills the space that it is given.

    A symbol of error correction M can be read with 15 % of it lost; it is black on white, whatever is
    behind it.
    """
    code = segno.make_qr(text, error="m", boost_error=False)
    markup = BytesIO()
    code.save(
        markup,
        kind="svg",
        border=QUIET_MODULES,
        light="#fff",
        title=_TITLE,
        xmldecl=False,
        omitsize=True,
        nl=False,
        svgclass=None,
        lineclass=None,
    )
    return markup.getvalue().decode()

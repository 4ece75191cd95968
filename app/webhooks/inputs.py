"""What can be said of a webhook, and what is wrong with it."""

import re

import httpx

from app.validation import Problems
from app.webhooks.addresses import is_public, literal_address

MAX_URL = 2_000

_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.(?!-)[a-z0-9_-]{1,63})*\.?", re.ASCII)


def check_url(text: str, allow_private: bool, problems: Problems) -> str:
    """Note what is wrong with the address of a receiver; return how it is kept.

    Args:
        allow_private: whether private addresses are allowed, and http.
    """
    if not 1 <= len(text) <= MAX_URL:
        problems.add(f"Url must have between 1 and {MAX_URL:,} characters.", "url")
        return text
    try:
        url = httpx.URL(text)
        host = url.raw_host.decode().rstrip(".")
    except (httpx.InvalidURL, UnicodeError, ValueError):
        problems.add("Url is not an address, such as https://example.com/hooks.", "url")
        return text
    schemes = ("https", "http") if allow_private else ("https",)
    if url.scheme not in schemes:
        problems.add(f"Url must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}.", "url")
    if url.userinfo:
        problems.add("Url must not hold a name or a password; deliveries are signed.", "url")
    literal = literal_address(host)
    if not host or (literal is None and not _NAME.fullmatch(host)):
        problems.add("Url must name a host.", "url")
    elif not allow_private and _is_private(host, literal):
        message = "Url must not lead to a private address, unless LAUREL_ALLOW_PRIVATE_WEBHOOKS allows it."
        problems.add(message, "url")
    if url.port is not None and not 1 <= url.port <= 65_535:
        problems.add("Url must name a port between 1 and 65,535.", "url")
    kept = str(url.copy_with(fragment=None))
    if len(kept) > 2 * MAX_URL:
        problems.add(f"Url must have between 1 and {MAX_URL:,} characters.", "url")
    return kept


def _is_private(host: str, literal: str | None) -> bool:
    if literal is not None:
        return not is_public(literal)
    return host == "localhost" or host.endswith((".localhost", ".local", ".internal"))

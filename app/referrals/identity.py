"""Whether two members are one person: the same e-mail address or phone number in another spelling. Pure.

What providers ignore in an address is theirs to say, so only those are listed that do; of any other address
nothing but the case is ignored. Phone numbers are compared by Google's libphonenumber.
"""

import contextlib
import re
from collections.abc import Iterable
from typing import NamedTuple

import phonenumbers
from phonenumbers import MatchType, NumberParseException, PhoneNumber

_SAME_HOST = {
    "googlemail.com": "gmail.com",
    "me.com": "icloud.com",
    "mac.com": "icloud.com",
    "protonmail.com": "proton.me",
    "protonmail.ch": "proton.me",
    "pm.me": "proton.me",
    "ya.ru": "yandex.ru",
}
_YANDEX = re.compile(r"yandex\.(ru|com|by|kz|uz|ua|com\.tr|com\.ge|fr|az|lt|lv|md|tj|tm|ee|co\.il)")
_YAHOO = re.compile(
    r"(yahoo\.(com|[a-z]{2}|co\.[a-z]{2}|com\.[a-z]{2})|ymail\.com|rocketmail\.com|myyahoo\.com)"
)
_OUTLOOK = re.compile(
    r"(outlook|hotmail|live)\.(com|[a-z]{2}|co\.[a-z]{2}|com\.[a-z]{2})|msn\.com|passport\.com"
)
_PLUS_TAGS = frozenset(
    {
        "gmail.com",
        "icloud.com",
        "proton.me",
        "yandex.ru",
        "fastmail.com",
        "fastmail.fm",
        "zoho.com",
        "zohomail.com",
        "zoho.eu",
        "zohomail.eu",
        "hey.com",
        "mailbox.org",
        "posteo.de",
        "runbox.com",
    }
)
_IGNORED = {"gmail.com": ".", "proton.me": ".-_"}
"""Characters that a provider does not look at."""


class Identity(NamedTuple):
    """What tells who a member is."""

    email: str | None
    phone: str | None
    locale: str | None = None


def same_identity(one: Identity, other: Identity) -> bool:
    """Tell whether two members have the same e-mail address or phone number, however it is spelled."""
    return same_email(one.email, other.email) or same_phone(one, other)


def same_email(one: str | None, other: str | None) -> bool:
    """Tell whether two addresses reach the same mailbox; unknown ones reach none."""
    return one is not None and other is not None and mailbox(one) == mailbox(other)


def mailbox(email: str) -> str:
    """Return an address as all its spellings have it in common: case, and what common providers ignore."""
    name, _, host = email.strip().lower().rpartition("@")
    host = _host(host)
    kept = name
    if host in _PLUS_TAGS or _OUTLOOK.fullmatch(host):
        kept = name.partition("+")[0]
    elif _YAHOO.fullmatch(host):
        kept = name.partition("-")[0]
    if host == "yandex.ru":
        kept = kept.replace("-", ".")
    for ignored in _IGNORED.get(host, ""):
        kept = kept.replace(ignored, "")
    # An address of nothing but a tag is no address that its provider knows.
    return f"{kept or name}@{host}"


def _host(host: str) -> str:
    host = host.rstrip(".")
    with contextlib.suppress(UnicodeError):
        host = host.encode("idna").decode()
    host = _SAME_HOST.get(host, host)
    return "yandex.ru" if _YANDEX.fullmatch(host) else host


def same_phone(one: Identity, other: Identity) -> bool:
    """Tell whether two phone numbers are the same in other formats; unknown ones are not.

    A number without its country is taken for one of the member's locale; where that says no country, or the
    number is none of that country's, for one of the country of the other number or the other's locale.
    """
    if one.phone is None or other.phone is None:
        return False
    if (digits := _digits(one.phone)) == _digits(other.phone) and digits:
        return _written_alike(one, other)
    regions = [*_regions(one), *_regions(other)]
    readings = [_readings(each, regions) for each in (one, other)]
    return any(
        phonenumbers.is_number_match(a, b) in (MatchType.EXACT_MATCH, MatchType.NSN_MATCH)
        for a in readings[0]
        for b in readings[1]
    )


def _written_alike(one: Identity, other: Identity) -> bool:
    """Tell whether numbers of the same digits are the same: not when each is good in a country of its own."""
    first, second = _own(one), _own(other)
    return first is None or second is None or first.country_code == second.country_code


def _digits(phone: str) -> str:
    return "".join(filter(str.isdigit, phone))


def _parse(phone: str, region: str | None) -> PhoneNumber | None:
    # Outside North America 00 stands for +, and inside no number begins with it.
    text = re.sub(r"^\s*\(?00", "+", phone) if re.match(r"\s*\(?00[1-9]", phone) else phone
    try:
        return phonenumbers.parse(text, region)
    except NumberParseException:
        return None


def _region(locale: str | None) -> str | None:
    """Return the country of a language tag, such as AT of de-AT."""
    for part in (locale or "").split("-")[1:]:
        if len(part) == 1:
            break
        if len(part) == 2 and part.upper() in phonenumbers.SUPPORTED_REGIONS:
            return part.upper()
    return None


def _own(who: Identity) -> PhoneNumber | None:
    """Return a number as it is read by itself: with its country, or as one of the member's locale."""
    assert who.phone is not None
    number = _parse(who.phone, _region(who.locale))
    return number if number is not None and phonenumbers.is_possible_number(number) else None


def _regions(who: Identity) -> list[str]:
    """Return the countries that a number and a locale speak for."""
    assert who.phone is not None
    abroad = _parse(who.phone, None)
    code = None if abroad is None else abroad.country_code
    found = [] if code is None else list(phonenumbers.region_codes_for_country_code(code))
    region = _region(who.locale)
    return [*found, *([region] if region else [])]


def _readings(who: Identity, regions: Iterable[str]) -> list[PhoneNumber]:
    """Return what a number may be: itself with its country, or else one of each country that is near."""
    assert who.phone is not None
    alone = _parse(who.phone, None)
    if alone is not None:
        return [alone]
    own = _parse(who.phone, _region(who.locale))
    if own is not None and phonenumbers.is_valid_number(own):
        return [own]
    found = (_parse(who.phone, region) for region in dict.fromkeys(regions))
    return [number for number in found if number is not None]

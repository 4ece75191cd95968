"""What can be said about a member, and what is wrong with it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any

import orjson

from app.text import holds_nul, is_line
from app.validation import Problems

MAX_ATTRIBUTES_BYTES = 16 * 1024
FIRST_BIRTHDAY = date(1900, 1, 1)
FIRST_JOINED_AT = datetime(1900, 1, 1, tzinfo=UTC)

PROFILE = ("email", "phone", "name", "birthday", "locale", "attributes")
"""What can be left out when a member is enrolled, and what null clears later."""

_PHONE = re.compile(r"[0-9+(). -]{1,40}", re.ASCII)
_LOCALE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*", re.ASCII)
_FURTHEST_EAST = timedelta(hours=14)
_CLOCK_SKEW = timedelta(minutes=5)


class MemberStatus(StrEnum):
    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    """Reads, but neither earns nor spends."""
    CLOSED = "CLOSED"
    """For good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMember:
    """A member to be enrolled.

    Attributes:
        external_id: the caller's own name for the member, 1 to 255 printable characters.
        email: one address of at most 320 characters, unique in the program.
        phone: at most 40 digits, spaces and + - ( ) .
        name: at most 255 characters.
        birthday: from 1900 to today.
        locale: a language tag of BCP 47, such as de-AT, at most 35 characters.
        attributes: a JSON object of at most 16 KiB.
        joined_at: not in the future; None for now.
        referral_code: of the member who brought them; upper and lower case, spaces and hyphens are the same.
    """

    external_id: str
    email: str | None = None
    phone: str | None = None
    name: str | None = None
    birthday: date | None = None
    locale: str | None = None
    attributes: dict[str, Any] | None = None
    joined_at: datetime | None = None
    referral_code: str | None = None


def check_new(member: NewMember, problems: Problems, moment: datetime) -> None:
    """Note what is wrong with a member to be enrolled at a moment (UTC)."""
    if not 1 <= len(member.external_id) <= 255:
        problems.add("External id must have between 1 and 255 characters.", "external_id")
    elif not member.external_id.isprintable() or member.external_id != member.external_id.strip():
        message = "External id must be printable, without a space at its start or end."
        problems.add(message, "external_id")
    check_profile({name: getattr(member, name) for name in PROFILE}, problems, moment)
    if member.joined_at is not None and not FIRST_JOINED_AT <= member.joined_at <= moment + _CLOCK_SKEW:
        problems.add("Joined at must be after 1900 and not in the future.", "joined_at")


def check_profile(values: Mapping[str, Any], problems: Problems, moment: datetime) -> None:
    """Note what is wrong with the values of PROFILE that are there; None is right for all of them."""
    for name, value in values.items():
        if value is None:
            continue
        if value == "":
            problems.add(f"{name.capitalize()} must not be empty; use null for none.", name)
        elif name == "email":
            _check_email(value, problems)
        elif name == "phone":
            if not _PHONE.fullmatch(value) or not any(character.isdigit() for character in value):
                problems.add("Phone must be at most 40 digits, spaces and + - ( ) .", "phone")
        elif name == "name":
            problems.line(value, 255, "name")
        elif name == "birthday":
            # The last day that has begun anywhere: the member may live east of the program.
            if not FIRST_BIRTHDAY <= value <= (moment + _FURTHEST_EAST).date():
                problems.add("Birthday must be from 1900 or later, and not in the future.", "birthday")
        elif name == "locale":
            if len(value) > 35 or not _LOCALE.fullmatch(value):
                problems.add("Locale must be a language tag of BCP 47, such as de-AT.", "locale")
        elif name == "attributes":
            _check_attributes(value, problems)
        else:
            raise AssertionError(name)


def _check_email(email: str, problems: Problems) -> None:
    name, _, host = email.partition("@")
    if len(email) > 320:
        problems.add("Email must have at most 320 characters.", "email")
    elif not name or not host or "@" in host or any(map(str.isspace, email)) or not is_line(email):
        problems.add("Email must be one address, such as ada@example.com.", "email")


def _check_attributes(attributes: object, problems: Problems) -> None:
    if not isinstance(attributes, dict):
        problems.add("Attributes must be a JSON object.", "attributes")
        return
    try:
        content = orjson.dumps(attributes)
    except (TypeError, ValueError):
        problems.add("Attributes must be plain JSON.", "attributes")
        return
    if len(content) > MAX_ATTRIBUTES_BYTES:
        message = f"Attributes can have {MAX_ATTRIBUTES_BYTES} bytes; these have {len(content)}."
        problems.add(message, "attributes")
    elif holds_nul(content):
        problems.add("Attributes must not contain the character NUL.", "attributes")

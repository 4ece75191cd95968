"""Checking what comes in, and bringing it into the form in which it is kept. Pure."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import cast
from uuid import UUID

import msgspec
import orjson

from app.earning.events import (
    MAX_DATA_BYTES,
    MAX_FUTURE,
    MAX_LINES,
    OWN_PREFIX,
    Body,
    Deed,
    Incoming,
    Line,
    OwnDeed,
    Prepared,
    Purchase,
    PurchaseLine,
)
from app.earning.rule_checks import check_action
from app.earning.rules import MAX_AMOUNT, MAX_DECIMALS, Action, EventKind
from app.errors import UserError
from app.programs.policy import ProgramPolicy
from app.text import holds_nul, is_line
from app.validation import Problems

_EARLIEST_YEAR = 1970


def check_id(value: str, what: str, problems: Problems, *field: str) -> None:
    """Note what is wrong with an id that stands for itself; `what` is how a sentence calls it."""
    if not 1 <= len(value) <= 255 or not value.isprintable() or value != value.strip():
        problems.add(f"{what} has 1 to 255 printable characters, without spaces around them.", *field)


def check_number(value: Decimal, what: str, problems: Problems, *field: str, positive: bool = False) -> bool:
    """Note what is wrong with an amount or a quantity; return whether it can be counted.

    Args:
        what: how a sentence that starts with it calls it.
        positive: 0 is wrong, too.
    """
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -MAX_DECIMALS or abs(value) > MAX_AMOUNT:
        problems.add(f"{what} has at most {MAX_DECIMALS} decimals and is at most {MAX_AMOUNT:,f}.", *field)
    elif value < 0 or (positive and not value):
        problems.add(f"{what} must be more than 0." if positive else f"{what} must not be negative.", *field)
    else:
        return True
    return False


_ZERO, _ONE, _CENT = Decimal(0), Decimal(1), Decimal("0.01")


def _is_common(line: Line, quantity: Decimal) -> bool:
    """Tell quickly that nothing is wrong with a line; False means that it needs a closer look."""
    sku, name, category, brand, amount = line.sku, line.name, line.category, line.brand, line.amount
    return (
        0 < len(sku) <= 255
        and sku.isprintable()
        and sku == sku.strip()
        and (name is None or (len(name) <= 1000 and name.isprintable()))
        and (category is None or (len(category) <= 1000 and category.isprintable()))
        and (brand is None or (len(brand) <= 1000 and brand.isprintable()))
        # Whole numbers and cents; NaN has no exponent to compare.
        and (quantity.same_quantum(_ONE) or quantity.same_quantum(_CENT))
        and (amount.same_quantum(_CENT) or amount.same_quantum(_ONE))
        and _ZERO < quantity <= MAX_AMOUNT
        and _ZERO <= amount <= MAX_AMOUNT
    )


def _check_line(n: int, line: Line, quantity: Decimal, problems: Problems) -> bool:
    """Note what is wrong with a line; return whether its amount can be counted."""
    check_id(line.sku, "An SKU", problems, "lines", str(n), "sku")
    for name in ("name", "category", "brand"):
        value = getattr(line, name)
        if value is not None and (len(value) > 1000 or not is_line(value)):
            problems.add(f"A {name} has at most 1,000 printable characters.", "lines", str(n), name)
    check_number(quantity, "A quantity", problems, "lines", str(n), "quantity", positive=True)
    return check_number(line.amount, "A line's amount", problems, "lines", str(n), "amount")


def _lines(purchase: Purchase, problems: Problems) -> tuple[tuple[PurchaseLine, ...], Decimal]:
    lines, total = [], _ZERO
    for n, line in enumerate(purchase.lines or ()):
        quantity = _ONE if line.quantity is None else line.quantity
        if _is_common(line, quantity) or _check_line(n, line, quantity, problems):
            total += line.amount
        lines.append(PurchaseLine(line.sku, line.amount, quantity, line.name, line.category, line.brand))
    return tuple(lines), total


def prepare(
    incoming: Incoming, policy: ProgramPolicy, now: datetime, event_id: UUID
) -> Prepared | Sequence[UserError]:
    """Check an event, and bring it into the form in which it is kept.

    Args:
        now: the time of recording (UTC); at most five minutes later may it have happened.

    Returns:
        The event, or everything that is wrong with it, fields below the event's input.
    """
    problems = Problems()
    content = incoming.content
    if not isinstance(content, OwnDeed):
        check_external_id(content.external_id, problems)
    occurred_at = check_occurred_at(content.occurred_at, _WHAT[incoming.kind], now, problems)
    if incoming.kind is EventKind.PURCHASE:
        purchase = cast("Purchase", content)
        amount, body = _purchase(purchase, policy, problems)
    else:
        amount, body = None, _deed(cast("Deed | OwnDeed", content), problems)
    encoded = b"" if problems.errors else _encode(body, problems)
    if body is None or problems.errors:
        return problems.errors
    return Prepared(
        event_id,
        incoming.kind,
        content.external_id,
        occurred_at,
        amount,
        body,
        encoded,
        incoming.member,
        incoming.store,
        incoming.redemption_id,
    )


_WHAT = {
    EventKind.PURCHASE: "The purchase",
    EventKind.ACTION: "The action",
    EventKind.CHECK_IN: "The visit",
    EventKind.REFERRAL: "The referral",
}


def check_external_id(value: str, problems: Problems) -> None:
    """Note what is wrong with the id that a caller chose."""
    check_id(value, "An external id", problems, "external_id")
    if value.startswith(OWN_PREFIX):
        message = f"Ids that begin with {OWN_PREFIX} are Laurel's own; choose another."
        problems.add(message, "external_id")


def check_occurred_at(value: datetime | None, what: str, now: datetime, problems: Problems) -> datetime:
    """Return when something happened, which is now unless it is said; note it when that cannot be."""
    if value is None:
        return now
    if value > now + MAX_FUTURE:
        message = f"{what} lies in the future, by more than the 5 minutes that clocks may differ."
        problems.add(message, "occurred_at")
    elif value.year < _EARLIEST_YEAR:
        problems.add(f"{what} lies before {_EARLIEST_YEAR}.", "occurred_at")
    return value


def _purchase(
    purchase: Purchase, policy: ProgramPolicy, problems: Problems
) -> tuple[Decimal | None, Body | None]:
    if purchase.currency is not None and purchase.currency != policy.currency:
        message = f"The program counts in {policy.currency}: convert the purchase before it is recorded."
        problems.add(message, "currency")
    if purchase.lines and len(purchase.lines) > MAX_LINES:
        problems.add(f"A purchase has at most {MAX_LINES:,} lines.", "lines")
        return None, None
    lines, total = _lines(purchase, problems)
    amount = total if purchase.amount is None else purchase.amount
    if purchase.amount is None and not lines:
        problems.add("A purchase needs an amount, or lines that have one.", "amount")
    elif (
        check_number(amount, "The amount", problems, "amount")
        and lines
        and amount != total
        and not problems.errors
    ):
        problems.add(f"The amount is {amount:f}, and the lines come to {total:f}.", "amount")
    return amount, Body(lines, purchase.data, purchase.occurred_at is not None)


def _deed(deed: Deed | OwnDeed, problems: Problems) -> Body:
    if not isinstance(deed, OwnDeed):
        check_action(deed.action, problems)
        if deed.action in tuple(Action):
            message = (
                f"{deed.action} is recorded by Laurel itself, when it happens; choose a name of your own."
            )
            problems.add(message, "action")
    brought = deed.brought if isinstance(deed, OwnDeed) else None
    return Body((), deed.data, deed.occurred_at is not None, deed.action, brought)


def _encode(body: Body | None, problems: Problems) -> bytes:
    if body is None:
        return b""
    if body.data is not None:
        if not isinstance(body.data, dict):
            problems.add("Data is a JSON object.", "data")
            return b""
        try:
            data = orjson.dumps(body.data)
        except TypeError:
            problems.add("Data holds text that is not valid Unicode, or is nested too deeply.", "data")
            return b""
        if len(data) > MAX_DATA_BYTES or holds_nul(data):
            problems.add("Data has at most 16 KiB of JSON, without NUL characters.", "data")
            return b""
    return msgspec.json.encode(body)

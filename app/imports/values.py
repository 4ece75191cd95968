"""What the cells of a file say: ids, texts, times, amounts.

A file repeats itself: what was read once is looked up the next time, at a tenth of the cost.
"""

import re
from datetime import UTC, datetime
from decimal import Context, Decimal
from zoneinfo import ZoneInfo

from app.earning.rules import MAX_AMOUNT
from app.imports.errors import ImportFileError
from app.money import round_half_up, trim

_SPREADSHEET_ID = re.compile(r"[0-9]+\.0+")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_EXACT = Context(prec=100)
_SOME_TIME = datetime(2026, 11, 22, 14, 30, tzinfo=UTC)


def clean_id(value: str) -> str:
    """Return an id as it was before a spreadsheet took it for a number: 17850.0 is 17850."""
    value = value.strip()
    return value.partition(".")[0] if value.endswith("0") and _SPREADSHEET_ID.fullmatch(value) else value


class Ids(dict[str, str]):
    """Ids by what the file has for them."""

    def __missing__(self, value: str) -> str:
        known = self[value] = clean_id(value)
        return known


class Texts(dict[str, str | None]):
    """Texts by what the file has for them, in one line; None for nothing but spaces."""

    def __missing__(self, value: str) -> str | None:
        lines = value.strip().splitlines()
        text = lines[0] if len(lines) == 1 else " ".join(filter(None, map(str.strip, lines)))
        known = self[value] = text or None
        return known


class Times(dict[str, datetime]):
    """Times by what the file has for them; those without an offset are the zone's.

    Raises:
        ImportFileError: the format is none that times can be read by.
    """

    def __init__(self, zone: ZoneInfo, format: str | None) -> None:
        super().__init__()
        self._zone = zone
        self._format = format
        if format is not None:
            try:
                datetime.strptime(_SOME_TIME.strftime(format), format)
            except (ValueError, re.error) as error:
                raise ImportFileError(f"Times cannot be read by the format {format!r}: {error}.") from None

    def __missing__(self, value: str) -> datetime:
        known = self[value] = self._parse(value.strip())
        return known

    def _parse(self, text: str) -> datetime:
        try:
            if self._format is None:
                time = datetime.fromisoformat(text)
            else:
                time = datetime.strptime(text, self._format)
            if time.tzinfo is None:
                time = time.replace(tzinfo=self._zone)
            return time.astimezone(UTC)
        except (ValueError, OverflowError):
            example = "2026-11-22 14:30:00" if self._format is None else self._format
            raise ValueError(f"{text!r} is not a time such as {example}.") from None


def _number(text: str, what: str) -> Decimal:
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{what} {text!r} is not a number.")
    number = Decimal(text)
    if number > MAX_AMOUNT:
        raise ValueError(f"{what} {text!r} is more than {MAX_AMOUNT:,}.")
    return number


class Amounts(dict[tuple[str | None, str], tuple[Decimal, Decimal]]):
    """Quantities and amounts of lines by what the file has for quantity and amount, or unit price."""

    def __init__(self, whole: bool, digits: int) -> None:
        super().__init__()
        self._whole = whole
        self._digits = digits

    def __missing__(self, value: tuple[str | None, str]) -> tuple[Decimal, Decimal]:
        pieces, money = value
        quantity = Decimal(1) if pieces is None else self._quantity(pieces)
        if self._whole:
            amount = self._amount(money)
        else:
            amount = _EXACT.multiply(quantity, _number(money, "The unit price"))
        if amount < 0:
            raise ValueError(f"The amount {amount} is negative.")
        known = self[value] = quantity, round_half_up(amount, self._digits)
        return known

    @staticmethod
    def _quantity(text: str) -> Decimal:
        quantity = _number(text, "The quantity")
        if quantity <= 0:
            raise ValueError(f"The quantity {quantity} is not more than 0: returns are not purchases.")
        return quantity

    @staticmethod
    def _amount(text: str) -> Decimal:
        return _number(text, "The amount")


class ReturnedAmounts(Amounts):
    """The same of lines of returns, as what came back: the file has quantities below zero.

    An amount of the whole line may have either sign there: it decides nothing.
    """

    @staticmethod
    def _quantity(text: str) -> Decimal:
        quantity = _number(text, "The quantity")
        if quantity >= 0:
            raise ValueError(f"The quantity {quantity} is not less than 0: by its id the order is a return.")
        if -quantity > MAX_AMOUNT:
            raise ValueError(f"The quantity {text.strip()!r} is less than -{MAX_AMOUNT:,}.")
        # The same number of pieces is the same return, however it is written.
        return trim(quantity.copy_negate())

    @staticmethod
    def _amount(text: str) -> Decimal:
        return _number(text.strip().removeprefix("-"), "The amount")

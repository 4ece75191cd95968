"""What a redemption costs in points, and what it is worth in money. Pure."""

from decimal import Decimal
from typing import NamedTuple

from app.catalog.rewards import Reward, RewardKind, money_for
from app.earning.exact import plural
from app.errors import ErrorCode
from app.money import MINOR_DIGITS, format_money, trim
from app.redemptions.inputs import Wanted
from app.validation import Problems

_NOTHING = Decimal(0)


class Price(NamedTuple):
    """Points that all pieces cost, and their money: taken off an order, or the face value."""

    points: int
    amount: Decimal | None


def price(
    reward: Reward, wanted: Wanted, currency: str, problems: Problems, paid: Decimal = _NOTHING
) -> Price:
    """Return what is asked for costs, and note what is wrong with it.

    Args:
        paid: what the member's points have taken off the same order already.
    """
    if reward.kind is RewardKind.DISCOUNT:
        return _of_discount(reward, wanted, currency, paid, problems)
    assert reward.points is not None
    if wanted.points is not None:
        message = f"The price of a {reward.kind} is fixed; points are named for a DISCOUNT alone."
        problems.add(message, "points")
    amount = None
    if reward.face_value is not None:
        amount = trim(reward.face_value * wanted.quantity, MINOR_DIGITS[currency])
    return Price(reward.points * wanted.quantity, amount)


def _of_discount(reward: Reward, wanted: Wanted, currency: str, paid: Decimal, problems: Problems) -> Price:
    assert reward.points_per_currency_unit is not None
    digits, order_amount = MINOR_DIGITS[currency], wanted.order_amount
    if wanted.quantity != 1:
        problems.add("A DISCOUNT is redeemed once for an order: the quantity is 1.", "quantity")
    if order_amount is None and reward.limits.max_share_of_order is not None:
        message = "The order's amount is needed: only a share of it can be paid with points."
        problems.add(message, "order_amount")
    points = wanted.points
    if points is None:
        problems.add("Points are needed: how many are to be spent on the order.", "points")
        return Price(reward.least_points, None)
    if reward.limits.min_points is not None and points < reward.limits.min_points:
        problems.add(f"At least {plural(reward.limits.min_points)} can be spent on an order.", "points")
    if order_amount is None:
        return Price(points, money_for(points, reward.points_per_currency_unit, digits, None))
    most_money = reward.most_money(order_amount, digits, paid)
    if points > (most := reward.most_points(order_amount, digits, paid)):
        money = format_money(most_money, currency)
        message = f"At most {plural(most)} can be spent on this order: {money} of it can be paid so."
        if paid:
            message = f"{format_money(paid, currency)} of this order is paid with points already. {message}"
        problems.add(message, "points", code=ErrorCode.LIMIT_REACHED)
    return Price(points, money_for(points, reward.points_per_currency_unit, digits, most_money))

"""In which order orders are recorded: each member's as they happened, in few transactions."""

import random

from app.imports.order_of_work import STEP_LINES, STEP_ORDERS, lanes, steps
from app.imports.purchases import Order, OrderLine


def _orders(text: str) -> list[Order]:
    """Return orders from names like "m1" (a purchase of m) and "mC2" (a return)."""
    return [Order(name, name[0], None, [], [n], is_return="C" in name) for n, name in enumerate(text.split())]


def _names(text: str) -> list[tuple[str, str]]:
    return [
        (
            " ".join(each.external_id for each in step.purchases),
            " ".join(each.external_id for each in step.returns),
        )
        for step in steps(_orders(text))
    ]


def test_purchases_are_recorded_together_and_returns_after_them():
    assert _names("a1 b1 aC1 b2 bC1 c1") == [("a1 b1 b2 c1", "aC1 bC1")]


def test_what_a_member_buys_after_a_return_waits_and_other_members_do_not():
    assert _names("a1 aC1 b1 a2 b2 aC2 bC1") == [("a1 b1 b2", "aC1 bC1"), ("a2", "aC2")]


def test_each_members_orders_keep_their_order_and_each_comes_once():
    chance = random.Random(5)
    orders = [
        Order(f"{n}", chance.choice("aaaabcdefgh"), None, [], [n], is_return=chance.random() < 0.2)
        for n in range(5000)
    ]
    done = [order for lane in lanes(orders) for step in steps(lane) for order in step.orders]
    assert len(done) == len(orders)
    for member in "abcdefgh":
        assert [each.rows for each in done if each.member_id == member] == [
            each.rows for each in orders if each.member_id == member
        ]


def test_one_member_with_many_returns_does_not_make_one_transaction_for_each_purchase_of_others():
    orders = _orders(" ".join("a1 aC1 " + " ".join(f"b{n}" for n in range(50)) for _ in range(40)))
    assert len(list(steps(orders))) <= 44


def test_a_step_has_a_bound_in_orders_and_in_lines():
    line = OrderLine("A", None, None, None, None, 1)  # type: ignore[arg-type]
    few = [Order(f"{n}", "m", None, [line], [n]) for n in range(STEP_ORDERS + 1)]
    assert [len(step.purchases) for step in steps(few)] == [STEP_ORDERS, 1]
    large = [Order(f"{n}", "m", None, [line] * (STEP_LINES // 2 + 1), [n]) for n in range(3)]
    assert [len(step.purchases) for step in steps(large)] == [1, 1, 1]

"""In which order an import records what it has read: each member's orders as they happened. Pure."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple
from zlib import crc32

from app.imports.purchases import Order

STEP_ORDERS = 500
STEP_LINES = 10_000
LANES = 3
"""Transactions at once: while PostgreSQL works on one, the next is being prepared."""


class Step(NamedTuple):
    """Orders that are recorded together: all purchases in one transaction, and then return by return."""

    purchases: list[Order]
    returns: list[Order]

    @property
    def orders(self) -> list[Order]:
        """All of them; of members who have both the purchases happened first."""
        return self.purchases + self.returns


def lanes(orders: Iterable[Order]) -> list[list[Order]]:
    """Share orders out so that no member is in two lanes: neither waits for the other's accounts."""
    shared: list[list[Order]] = [[] for _ in range(LANES)]
    for order in orders:
        shared[crc32(order.member_id.encode()) % LANES].append(order)
    return shared


def steps(orders: Sequence[Order]) -> Iterator[Step]:
    """Share orders out among steps, each member's in the order given.

    What a member bought after a return waits for a later step, and so does all that comes after it:
    then other members' purchases need not be recorded in a transaction of their own for it.
    """
    queue = deque(orders)
    while queue:
        yield _next_step(queue)


def _next_step(queue: deque[Order]) -> Step:
    """Take the orders of one step out of a queue."""
    step = Step([], [])
    lines = 0
    returning: set[str] = set()
    behind: set[str] = set()
    waiting: list[Order] = []
    while queue and len(step.purchases) + len(step.returns) < STEP_ORDERS and len(waiting) < STEP_ORDERS:
        order = queue[0]
        member = order.member_id
        if member in behind or (member in returning and not order.is_return):
            behind.add(member)
            waiting.append(queue.popleft())
            continue
        lines += len(order.lines)
        if lines > STEP_LINES and (step.purchases or step.returns):
            break
        if order.is_return:
            returning.add(member)
            step.returns.append(queue.popleft())
        else:
            step.purchases.append(queue.popleft())
    queue.extendleft(reversed(waiting))
    return step

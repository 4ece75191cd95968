"""What an import came to, for whoever ran it."""

from dataclasses import dataclass, field
from decimal import Decimal

from app.earning.recording import Recorded
from app.earning.refunds import Refunded
from app.imports.purchases import Order


@dataclass
class ReturnsSummary:
    """What the returns of an import came to.

    All but the first two count those of earlier runs, too: they are the same however often it is run.

    Attributes:
        matched: pieces for which a purchase was found.
        points: taken back, less those that were given again.
        debt: the part of them that members had spent, and now owe.
        written_off: points that could be neither taken nor owed.
    """

    orders: int = 0
    known_orders: int = 0
    matched: Decimal = Decimal(0)
    unmatched: Decimal = Decimal(0)
    points: int = 0
    debt: int = 0
    written_off: int = 0


@dataclass
class Summary:
    """What an import came to. Orders that were there before count as known, not as imported.

    Attributes:
        orders: purchases; their returns are counted apart.
        points: of all purchases of the file that are in the books, before returns.
        refused: why the rows of orders that were turned away were, by number of row.
    """

    orders: int = 0
    known_orders: int = 0
    lines: int = 0
    amount: Decimal = Decimal(0)
    enrolled: int = 0
    members: set[str] = field(default_factory=set, repr=False)
    points: int = 0
    rejected_by_rules: int = 0
    returns: ReturnsSummary = field(default_factory=ReturnsSummary)
    refused: dict[int, str] = field(default_factory=dict, repr=False)

    def refuse(self, order: Order, reason: str) -> None:
        """Note that an order was turned away."""
        self.refused |= dict.fromkeys(order.rows, reason)

    def add_purchase(self, order: Order, result: Recorded) -> None:
        """Count a purchase that is in the books."""
        assert result.event
        self.members.add(order.member_id)
        if result.replayed:
            self.known_orders += 1
        else:
            self.orders += 1
            self.lines += len(order.lines)
            self.amount += result.event.amount or 0

    def add_return(self, order: Order, result: Refunded) -> None:
        """Count a return that is in the books."""
        self.members.add(order.member_id)
        returns = self.returns
        if result.replayed:
            returns.known_orders += 1
        else:
            returns.orders += 1
        unmatched = sum((each.quantity for each in result.unmatched), Decimal(0))
        returns.unmatched += unmatched
        returns.matched += sum((line.quantity or 0 for line in order.lines), Decimal(0)) - unmatched
        for refund in result.refunds:
            returns.points += refund.points
            returns.debt += refund.debt
            returns.written_off += refund.written_off

"""Which version of a rule was in force when. Pure.

An event goes by the rules of the time at which it happened: what a till sends in late earns what it
would have earned in time. What happened before a program had any rule goes by those of today, so that
history can be brought in.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

from app.earning.rules import Action, Rule
from app.earning.ruleset import Facts


class RuleVersion(NamedTuple):
    """A version of a rule, whose `updated_at` is when it came, and the version of the rule set with it."""

    rule: Rule
    rules_version: int


class RuleHistory:
    """All versions of a program's rules up to one version of its rule set.

    Args:
        versions: each rule's in their order, one rule after the other.
    """

    def __init__(self, versions: Iterable[RuleVersion], until: int) -> None:
        known = (each.rule for each in versions if each.rules_version <= until)
        self._rules: Mapping[object, Sequence[Rule]] = {
            rule_id: list(rules) for rule_id, rules in groupby(known, key=lambda rule: rule.id)
        }
        self._turns = sorted({rule.updated_at for rules in self._rules.values() for rule in rules})

    def epoch(self, facts: Facts) -> int:
        """Return a number that is the same for events that meet the same versions; 0 is those of today."""
        if not self._turns or goes_by_today(facts):
            return 0
        return bisect_right(self._turns, facts.occurred_at) % len(self._turns)

    def rules(self, epoch: int) -> list[Rule]:
        """Return the version of each rule that events of an epoch meet."""
        if not epoch:
            return [rules[-1] for rules in self._rules.values()]
        moment = self._turns[epoch - 1]
        return [
            rules[bisect_right(rules, moment, key=_came_at) - 1]
            for rules in self._rules.values()
            if _came_at(rules[0]) <= moment
        ]


def goes_by_today(facts: Facts) -> bool:
    """Tell whether an event is one that Laurel finds out by itself: then the rules of that moment count."""
    return facts.action in _OWN


_OWN = frozenset(Action)


def _came_at(rule: Rule) -> datetime:
    return rule.updated_at

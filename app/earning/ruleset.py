"""A program's rules made ready to be evaluated often: compiled once for each version, and indexed. Pure."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import msgspec

from app.campaigns.campaigns import Campaign
from app.earning.compiled import CompiledRule
from app.earning.exact import Ratio
from app.earning.rules import (
    Brought,
    EventKind,
    ReferralSide,
    ReferralTrigger,
    Rule,
    RuleStatus,
)
from app.programs.policy import ProgramPolicy
from app.tiers.tiers import Factor as FactorSince
from app.tiers.tiers import Tier, starting_tier


class FactLine(NamedTuple):
    """One line of a purchase as the engine looks at it; the amount is in millionths."""

    sku: str
    category: str | None
    brand: str | None
    micros: int


class Facts(NamedTuple):
    """What happened: all that rules can look at. A purchase without lines is one nameless line.

    `points_share` is the part of the amount that was paid with points, None for nothing; `brought` is what a
    REFERRAL is about.
    """

    kind: EventKind
    occurred_at: datetime
    micros: int = 0
    lines: Sequence[FactLine] = ()
    store_id: UUID | None = None
    action: str | None = None
    points_share: Ratio | None = None
    brought: Brought | None = None


class Factor(msgspec.Struct, frozen=True, array_like=True):
    """The factor of a tier or a campaign, as it was at the time of an event."""

    id: UUID
    name: str
    multiplier: Decimal


class Standing(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a member's event meets beside the rules: the tier of its time, and the factors in force."""

    tier_id: UUID | None = None
    tier: Factor | None = None
    campaigns: tuple[Factor, ...] = ()


NOTHING_MET = Standing()
"""Neither tier nor campaign."""


class Calendar:
    """Which campaigns run when: between two moments at which any begins or ends they are the same."""

    def __init__(self, campaigns: Sequence[Campaign]) -> None:
        self._campaigns = [each for each in campaigns if each.starts_at < each.ends_at]
        self._turns = sorted({turn for each in self._campaigns for turn in (each.starts_at, each.ends_at)})
        self._running: dict[int, list[Campaign]] = {}

    def at(self, moment: datetime) -> Sequence[Campaign]:
        """Return the campaigns that run at a moment, in their order."""
        if not self._turns:
            return ()
        stretch = bisect_right(self._turns, moment)
        if stretch not in self._running:
            self._running[stretch] = [
                each for each in self._campaigns if each.starts_at <= moment < each.ends_at
            ]
        return self._running[stretch]


class Candidate(NamedTuple):
    """A rule that an event may concern, and which lines match; None is all of them, and the nameless one."""

    rule: CompiledRule
    lines: list[int] | None


class RuleSet:
    """A program's policy, rules, tiers and campaigns at one version.

    Attributes:
        every: all rules that are not archived, in the order in which limits are spent: highest
            priority first, then the oldest.
        looks_at_lines: whether an active rule asks what was bought.
        made_at, changed_at: when the first of a program's rules was made, and when one changed last; what
            happened in between may go by other versions.
        rewards_first_purchases: whether a rule, archived or not, is for friends' first purchases.
    """

    __slots__ = (
        "_actions",
        "_brands",
        "_broad",
        "_calendar",
        "_categories",
        "_check_ins",
        "_friends",
        "_plain",
        "_referrals",
        "_skus",
        "_start",
        "_tiers",
        "changed_at",
        "compiled",
        "every",
        "has_actions",
        "looks_at_lines",
        "made_at",
        "policy",
        "rewards_first_purchases",
    )

    def __init__(
        self,
        policy: ProgramPolicy,
        rules: Iterable[Rule],
        tiers: Sequence[Tier] = (),
        campaigns: Sequence[Campaign] = (),
        made_at: datetime | None = None,
        changed_at: datetime | None = None,
        rewards_first_purchases: bool = False,
    ) -> None:
        self.policy = policy
        self.made_at, self.changed_at = made_at, changed_at or made_at
        self.rewards_first_purchases = rewards_first_purchases
        self.every = sorted(
            (rule for rule in rules if rule.status is not RuleStatus.ARCHIVED),
            key=lambda rule: (-rule.definition.priority, rule.created_at, rule.id),
        )
        self.compiled = {
            rule.id: CompiledRule(rule, number, policy.currency) for number, rule in enumerate(self.every)
        }
        self._skus: dict[str, list[CompiledRule]] = {}
        self._categories: dict[str, list[CompiledRule]] = {}
        self._brands: dict[str, list[CompiledRule]] = {}
        self._broad: list[CompiledRule] = []
        self._plain: list[CompiledRule] = []
        self._actions: dict[str, list[CompiledRule]] = {}
        self._check_ins: list[CompiledRule] = []
        self._referrals: dict[ReferralTrigger, list[CompiledRule]] = {}
        self._friends: dict[UUID, CompiledRule] = {}
        for rule in self.every:
            if rule.status is RuleStatus.ACTIVE:
                self._index(self.compiled[rule.id])
            if rule.definition.referred_points is not None:
                self._friends[rule.id] = CompiledRule(
                    rule, self.compiled[rule.id].number, policy.currency, ReferralSide.REFERRED
                )
        self.looks_at_lines = bool(self._skus or self._categories or self._brands or self._broad)
        self.has_actions = frozenset(self._actions)
        self._tiers = {tier.id: tier for tier in tiers}
        self._start = starting_tier(tiers)
        self._calendar = Calendar(campaigns)

    def _index(self, rule: CompiledRule) -> None:
        definition = rule.definition
        if definition.trigger is EventKind.CHECK_IN:
            self._check_ins.append(rule)
        elif definition.trigger is EventKind.ACTION:
            self._actions.setdefault(definition.action or "", []).append(rule)
        elif definition.trigger is EventKind.REFERRAL:
            if definition.referral_trigger is not None:
                self._referrals.setdefault(definition.referral_trigger, []).append(rule)
        elif definition.trigger is EventKind.PURCHASE:
            products = definition.products
            if not products:
                self._plain.append(rule)
            elif not (products.skus or products.categories or products.brands):
                self._broad.append(rule)
            else:
                for index, names in (
                    (self._skus, products.skus),
                    (self._categories, products.categories),
                    (self._brands, products.brands),
                ):
                    for name in set(names):
                        index.setdefault(name, []).append(rule)

    @property
    def has_tiers(self) -> bool:
        """Tell whether a member's tier can matter."""
        return bool(self._tiers)

    @property
    def can_climb(self) -> bool:
        """Tell whether there is a tier that has to be reached."""
        return any(tier.threshold for tier in self._tiers.values())

    def referral_rules(self, trigger: ReferralTrigger) -> Sequence[CompiledRule]:
        """Return the active rules for what a friend did, as they are for who brought the friend.

        Those that pay the friend alone are among them: their `fixed` is None.
        """
        return self._referrals.get(trigger, ())

    def _brought(self, brought: Brought | None) -> list[Candidate]:
        if brought is None:
            return []
        rules = self.referral_rules(brought.trigger)
        if brought.side is ReferralSide.REFERRER:
            return [Candidate(rule, None) for rule in rules if rule.fixed is not None]
        return [
            Candidate(self._friends[rule.id], None)
            for rule in rules
            if rule.id in brought.rules and rule.id in self._friends
        ]

    def candidates(self, facts: Facts) -> list[Candidate]:
        """Return the active rules that what happened may concern, in the order of the rules."""
        if facts.kind is EventKind.CHECK_IN:
            return [Candidate(rule, None) for rule in self._check_ins]
        if facts.kind is EventKind.ACTION:
            return [Candidate(rule, None) for rule in self._actions.get(facts.action or "", ())]
        if facts.kind is EventKind.REFERRAL:
            return self._brought(facts.brought)
        found = [Candidate(rule, None) for rule in self._plain]
        if facts.lines and self.looks_at_lines:
            found += self._matching(facts.lines)
            found.sort(key=_number)
        return found

    def _matching(self, lines: Sequence[FactLine]) -> list[Candidate]:
        """Return the rules with a product filter that match lines; rules that match none cost nothing."""
        matched: dict[int, Candidate] = {}
        nothing: tuple[CompiledRule, ...] = ()
        for n, line in enumerate(lines):
            for rules in (
                self._skus.get(line.sku, nothing),
                self._categories.get(line.category, nothing) if line.category is not None else nothing,
                self._brands.get(line.brand, nothing) if line.brand is not None else nothing,
                self._broad,
            ):
                for rule in rules:
                    candidate = matched.get(rule.number)
                    if candidate is not None and candidate.lines and candidate.lines[-1] == n:
                        continue
                    if rule.excludes(line):
                        continue
                    if candidate is None:
                        matched[rule.number] = Candidate(rule, [n])
                    else:
                        assert candidate.lines is not None
                        candidate.lines.append(n)
        return list(matched.values())

    def standing(self, facts: Facts, tier_id: UUID | None) -> Standing:
        """Return the tier and the factors that an event meets.

        Args:
            tier_id: what the member was given at the event's time; None for where everybody starts.
        """
        # A tier that was made after this version was read is not known yet.
        tier = self._start if tier_id is None else self._tiers.get(tier_id, self._start)
        moment = facts.occurred_at
        running = self._calendar.at(moment)
        if tier is None and not running:
            return NOTHING_MET
        own = None if tier is None else tier.id
        campaigns = tuple(
            _in_force(campaign.id, campaign.factors, moment)
            for campaign in running
            if facts.kind in campaign.applies_to
            and (not campaign.audience.tiers or own in campaign.audience.tiers)
            and (not campaign.audience.stores or facts.store_id in campaign.audience.stores)
        )
        factor = None if tier is None else _in_force(tier.id, tier.factors, moment)
        return Standing(own, factor, campaigns)


def _number(candidate: Candidate) -> int:
    return candidate.rule.number


def _in_force(key: UUID, factors: Sequence[FactorSince], moment: datetime) -> Factor:
    """Return the last factor that had begun by a moment; the first one counts for all time before it."""
    chosen = factors[0]
    for factor in factors[1:]:
        if factor.since > moment:
            break
        chosen = factor
    return Factor(key, chosen.name, chosen.multiplier)

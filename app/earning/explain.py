"""Why each rule paid for an event, or did not. Pure: told from what decided at the time."""

from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

from app.earning.engine import evaluate, not_meant
from app.earning.outcomes import Award, Reason, Rooms, Verdict
from app.earning.rules import EventKind, ReferralSide, ReferralTrigger, Rule, RuleStatus
from app.earning.ruleset import Facts, RuleSet, Standing


class RuleOutcome(NamedTuple):
    """What became of one rule for one event."""

    rule_id: UUID
    rule_version: int
    reason: Reason
    message: str
    points: int = 0

    @property
    def paid(self) -> bool:
        """Tell whether the rule gave at least one point, or multiplied some."""
        return self.reason is Reason.PAID


class Explained(NamedTuple):
    """What an event earns, and what became of every rule for events of its kind."""

    awards: list[Award]
    outcomes: list[RuleOutcome]


def explain(rule_set: RuleSet, facts: Facts, standing: Standing, rooms: Rooms) -> Explained:
    """Return what an event earns, with the outcome of every rule that is not archived.

    Outcomes are in the order of the rules, those for other actions last.

    Args: as `evaluate` takes them.

    Raises:
        TooManyPoints: an award would pass MAX_POINTS.
    """
    verdicts: dict[UUID, Verdict] = {}
    awards = evaluate(rule_set, facts, standing, rooms, verdicts=verdicts)
    points = {award.rule_id: award.points for award in awards}
    outcomes = [
        RuleOutcome(
            rule.id,
            rule.version,
            *_verdict(rule_set, rule, facts, standing, verdicts),
            points.get(rule.id, 0),
        )
        for rule in rule_set.every
        if rule.definition.trigger is facts.kind
    ]
    # Rules for other actions say the least.
    outcomes.sort(key=lambda outcome: outcome.reason is Reason.OTHER_ACTION)
    return Explained(awards, outcomes)


_FRIENDS = {
    ReferralTrigger.REGISTRATION: "The rule pays when a friend joins.",
    ReferralTrigger.FIRST_PURCHASE: "The rule pays when a friend buys something for the first time.",
}


def _not_for_referral(rule: Rule, facts: Facts) -> Verdict:
    """Return why a rule for referrals that is active was no candidate."""
    trigger, brought = rule.definition.referral_trigger, facts.brought
    if trigger is None or brought is None or trigger is not brought.trigger:
        message = _FRIENDS[trigger or ReferralTrigger.REGISTRATION]
        return Verdict(Reason.OTHER_ACTION, message)
    if brought.side is ReferralSide.REFERRER:
        return Verdict(Reason.OTHER_ACTION, "The rule pays the friend alone.")
    if rule.definition.referred_points is None:
        return Verdict(Reason.OTHER_ACTION, "The rule pays the one who brings a friend alone.")
    return Verdict(Reason.MEMBER_LIMIT_REACHED, "The rule is not there for the one who brought the member.")


_IDLE = {
    RuleStatus.DRAFT: "The rule is not switched on: it is a draft.",
    RuleStatus.PAUSED: "The rule is not switched on: it is paused.",
}


def _verdict(
    rule_set: RuleSet, rule: Rule, facts: Facts, standing: Standing, verdicts: Mapping[UUID, Verdict]
) -> Verdict:
    if rule.id in verdicts:
        return verdicts[rule.id]
    if rule.status is not RuleStatus.ACTIVE:
        return Verdict(Reason.NOT_ACTIVE, _IDLE[rule.status])
    if facts.kind is EventKind.REFERRAL:
        return _not_for_referral(rule, facts)
    # An amount that reaches every minimum: what does not match has none to be compared.
    compiled = rule_set.compiled[rule.id]
    micros = compiled.minimum or 0
    verdict = not_meant(compiled, facts, standing, micros, rule_set.policy.currency)
    if verdict is not None:
        return verdict
    if facts.kind is EventKind.ACTION:
        return Verdict(Reason.OTHER_ACTION, f"The rule is for the action {rule.definition.action}.")
    if not facts.lines:
        message = "The rule is for certain goods, and the purchase does not say what was bought."
        return Verdict(Reason.NO_MATCHING_PRODUCT, message)
    return Verdict(Reason.NO_MATCHING_PRODUCT, "Nothing that the rule is for was bought.")

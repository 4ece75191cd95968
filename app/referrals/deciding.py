"""Which rules pay for a friend: read while the account of the one who brought them is locked."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import asyncpg

from app.earning import rulesets
from app.earning.batch import Locked, check_sum, standings
from app.earning.compiled import CompiledRule
from app.earning.engine import evaluate, not_meant
from app.earning.limits import Book, Rooms, Waiting
from app.earning.outcomes import TooManyPoints
from app.earning.rules import Brought, EventKind, ReferralSide, ReferralTrigger
from app.earning.ruleset import Candidate, Facts, RuleSet
from app.ids import new_id
from app.members.inputs import MemberStatus
from app.referrals.identity import Identity, same_identity
from app.referrals.referrals import Occasion, Referral, ReferralRejection

_WHO = """
SELECT id, email, phone, locale FROM member WHERE program_id = $1 AND id = ANY($2::uuid[])
"""


class Decision(NamedTuple):
    """The rules that pay for a friend, or why none does.

    `may_come` tells that another rule may pay once the friend does more.
    """

    rules: Sequence[CompiledRule] = ()
    rejection: ReferralRejection | None = None
    may_come: bool = False

    def pays(self, side: ReferralSide) -> bool:
        """Tell whether a rule gives something to a side."""
        if side is ReferralSide.REFERRER:
            return any(rule.fixed is not None for rule in self.rules)
        return any(rule.definition.referred_points is not None for rule in self.rules)


async def decide(sql: asyncpg.Connection, locked: Locked, referral: Referral, occasion: Occasion) -> Decision:
    """Return the rules that pay for what a friend did, by those of the time at which it happened.

    Args:
        sql: a connection inside the transaction that holds the referrer's account.
        locked: that account.
    """
    if locked.status.get(referral.referrer_id) is not MemberStatus.ACTIVE:
        return Decision(rejection=ReferralRejection.REFERRER_NOT_ACTIVE)
    if await _are_one(sql, referral):
        return Decision(rejection=ReferralRejection.SAME_IDENTITY)
    brought = Brought(occasion.trigger, ReferralSide.REFERRER)
    facts = Facts(EventKind.REFERRAL, occasion.occurred_at, brought=brought)
    (rule_set,) = await rulesets.then(sql, locked.rule_set, [facts])
    waiting = Waiting(new_id(), referral.referrer_id, facts)
    found = await _paying(sql, locked, rule_set, waiting, rule_set.referral_rules(occasion.trigger))
    if isinstance(found, ReferralRejection):
        return Decision(rejection=found, may_come=_may_come(rule_set, occasion))
    return Decision(found)


async def _are_one(sql: asyncpg.Connection, referral: Referral) -> bool:
    rows = await sql.fetch(_WHO, referral.program_id, [referral.referrer_id, referral.referred_id])
    one, other = (Identity(row["email"], row["phone"], row["locale"]) for row in rows)
    return same_identity(one, other)


def _may_come(rule_set: RuleSet, occasion: Occasion) -> bool:
    """Tell whether a rule may pay for the friend's first purchase, when it was not that."""
    if occasion.trigger is ReferralTrigger.FIRST_PURCHASE:
        return False
    rules = rule_set.referral_rules(ReferralTrigger.FIRST_PURCHASE)
    return any(rule.ends_at is None or rule.ends_at > occasion.occurred_at for rule in rules)


async def _paying(
    sql: asyncpg.Connection,
    locked: Locked,
    rule_set: RuleSet,
    waiting: Waiting,
    rules: Sequence[CompiledRule],
) -> Sequence[CompiledRule] | ReferralRejection:
    """Return the rules that pay, or why none does."""
    candidates = [Candidate(rule, None) for rule in rules]
    (standing,) = await standings(sql, locked.rule_set, [waiting])
    book = Book(locked.rule_set.policy)
    await book.read(sql, [(waiting, candidates)])
    rooms = book.rooms(waiting)
    currency = rule_set.policy.currency
    meant = [rule for rule in rules if not_meant(rule, waiting.facts, standing, 0, currency) is None]
    own = [Candidate(rule, None) for rule in meant if rule.fixed is not None]
    try:
        awards = evaluate(rule_set, waiting.facts, standing, rooms, candidates=own)
        check_sum(locked.held[waiting.member_id], awards)
    except TooManyPoints:
        return ReferralRejection.LIMIT_REACHED
    given = {award.rule_id: award.points for award in awards}
    paying = [rule for rule in meant if _pays(rule, given, rooms)]
    if paying:
        return paying
    # What comes to less than one point is no limit.
    limited = any(rule.fixed is None or rule.id in given or _is_closed(rule, rooms) for rule in meant)
    return ReferralRejection.LIMIT_REACHED if limited else ReferralRejection.NO_ACTIVE_RULE


def _pays(rule: CompiledRule, given: dict[UUID, int], rooms: Rooms) -> bool:
    if rule.fixed is not None:
        return given.get(rule.id, 0) > 0
    return not _is_closed(rule, rooms) and rooms.of(rule).budget != 0


def _is_closed(rule: CompiledRule, rooms: Rooms) -> bool:
    return rule.has_limits and rooms.of(rule).closed is not None

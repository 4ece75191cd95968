"""Earning rules, as they are read: in full, one by one or in a list, and with their versions."""

from datetime import datetime
from functools import partial
from typing import Annotated
from uuid import UUID

import strawberry

from app import clock
from app.access.scopes import Scope
from app.earning import rule_service, rule_versions, rules
from app.earning.rules import EventKind, RuleStatus
from app.ids import to_global_id
from app.paging import Page, PageResult
from graphql_schema.access import object_type, resolver
from graphql_schema.context import Context
from graphql_schema.nodes import Info, Node, finds, key_of, program_of
from graphql_schema.pagination import (
    AFTER,
    BEFORE,
    FIRST,
    LAST,
    Connection,
    by_page,
    connection,
    page_of,
)
from graphql_schema.rule_states import EarningRuleVersion, RuleState

READ = (Scope.RULES_READ, Scope.RULES_WRITE)


@object_type(
    description="What members earn points by. A member's token sees the rules that are active and have"
    " started, and those that it was given points by.",
    scope=READ,
    member=True,
)
class EarningRule(RuleState, Node):
    updated_at: datetime = strawberry.field(description="When it was last changed.")
    key: strawberry.Private[UUID]

    @classmethod
    def of(cls, rule: rules.Rule) -> "EarningRule":
        """Return a rule as the API gives it."""
        return cls(
            **cls.said(rule),
            id=strawberry.ID(to_global_id("EarningRule", rule.id)),
            created_at=rule.created_at,
            updated_at=rule.updated_at,
            key=rule.id,
        )

    @resolver(description="What it said after each change, the latest first.", scope=READ)
    async def versions(
        self,
        info: Info,
        first: Annotated[int | None, strawberry.argument(description=FIRST)] = None,
        after: Annotated[str | None, strawberry.argument(description=AFTER)] = None,
        last: Annotated[int | None, strawberry.argument(description=LAST)] = None,
        before: Annotated[str | None, strawberry.argument(description=BEFORE)] = None,
    ) -> Connection[EarningRuleVersion]:
        page = page_of("versions", (int,), first=first, after=after, last=last, before=before)
        result = await info.context.loader(load_versions).load((self.key, page))
        return connection("versions", result, EarningRuleVersion.of, lambda rule: (rule.version,))


async def load_versions(context: Context, keys: list[tuple[UUID, Page]]) -> list[PageResult[rules.Rule]]:
    """Load pages of the versions of rules of the caller's program: one statement for each kind of page."""
    assert context.principal.program_id
    return await by_page(keys, partial(rule_versions.list_versions, context.principal.program_id))


async def load_rules(context: Context, keys: list[UUID]) -> list[EarningRule | None]:
    """Load rules of the caller's program."""
    assert context.principal.program_id
    found = await rule_service.get_rules(context.principal.program_id, keys)
    return [None if rule is None else EarningRule.of(rule) for rule in found]


def visible(context: Context, rule: EarningRule | None) -> EarningRule | None:
    """Return a rule as the caller may see it by itself: what is still to be announced no member's token."""
    if rule is None or context.principal.member_id is None:
        return rule
    started = rule.starts_at is None or rule.starts_at <= clock.now()
    return rule if started and rule.status is RuleStatus.ACTIVE else None


@finds("EarningRule")
async def _find_rule(context: Context, key: UUID | str) -> EarningRule | None:
    if context.principal.program_id is None or not isinstance(key, UUID):
        return None
    return visible(context, await context.loader(load_rules).load(key))


@object_type(description="")
class RuleQueries:
    @resolver(description="A rule; null when there is none.", scope=READ, member=True)
    async def earning_rule(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The rule's id.")]
    ) -> EarningRule | None:
        return await _find_rule(info.context, key_of(id, "EarningRule"))

    @resolver(
        description="The program's rules, oldest first; for a member's token those that are active and have"
        " started.",
        scope=READ,
        member=True,
    )
    async def earning_rules(
        self,
        info: Info,
        first: Annotated[int | None, strawberry.argument(description=FIRST)] = None,
        after: Annotated[str | None, strawberry.argument(description=AFTER)] = None,
        last: Annotated[int | None, strawberry.argument(description=LAST)] = None,
        before: Annotated[str | None, strawberry.argument(description=BEFORE)] = None,
        status: Annotated[RuleStatus | None, strawberry.argument(description="Only those in it.")] = None,
        trigger: Annotated[
            EventKind | None, strawberry.argument(description="Only those that pay for it.")
        ] = None,
    ) -> Connection[EarningRule]:
        page = page_of("earningRules", (UUID,), first=first, after=after, last=last, before=before)
        statuses, started_by = set(RuleStatus) if status is None else {status}, None
        if info.context.principal.member_id is not None:
            # As `visible` tells it of a rule by itself.
            statuses, started_by = statuses & {RuleStatus.ACTIVE}, clock.now()
        result = await rule_service.list_rules(program_of(info), page, statuses, trigger, started_by)
        return connection("earningRules", result, EarningRule.of, lambda rule: (rule.id,))

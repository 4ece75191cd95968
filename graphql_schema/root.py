"""The schema of the product: every concept's part of it, put together."""

from typing import Any

from strawberry.tools import merge_types

from app.settings import Settings
from graphql_schema.build import LaurelSchema, build_schema
from graphql_schema.campaigns import Campaign, CampaignMutations, CampaignQueries
from graphql_schema.catalog import CatalogQueries, Reward
from graphql_schema.catalog_changes import CatalogMutations
from graphql_schema.check_in import CheckInMutations
from graphql_schema.credentials import ApiKey, CredentialMutations, CredentialQueries
from graphql_schema.earning import Award
from graphql_schema.events import Event, EventQueries
from graphql_schema.giveaways import GiveawayMutations
from graphql_schema.jobs import FailedJob, Job, JobMutations, JobQueries
from graphql_schema.ledger import LedgerEntry, LedgerMutations
from graphql_schema.members import Member, MemberMutations, MemberQueries
from graphql_schema.messages import Message, MessageQueries
from graphql_schema.nodes import NodeQueries
from graphql_schema.points_payments import PointsPaymentQueries
from graphql_schema.programs import Program, ProgramMutations, ProgramQueries
from graphql_schema.recording import RecordingMutations
from graphql_schema.redeeming import RedemptionMutations
from graphql_schema.redemptions import Redemption, RedemptionQueries
from graphql_schema.referrals import Referral, ReferralQueries
from graphql_schema.refunding import RefundMutations
from graphql_schema.refunds import Refund
from graphql_schema.rule_changes import RuleMutations
from graphql_schema.rules import EarningRule, RuleQueries
from graphql_schema.simulation import SimulationQueries
from graphql_schema.statements import StatementQueries
from graphql_schema.stores import Store, StoreMutations, StoreQueries
from graphql_schema.subscriptions import Subscription
from graphql_schema.tiers import Tier, TierMutations, TierQueries
from graphql_schema.transfers import TransferMutations
from graphql_schema.webhooks import Webhook, WebhookMutations, WebhookQueries


def _merged(name: str, description: str, parts: tuple[type, ...]) -> type:
    merged: Any = merge_types(name, parts)
    # Strawberry merges without a description, and GraphiQL is the manual.
    merged.__strawberry_definition__.description = description
    return merged  # type: ignore[no-any-return]


Query = _merged(
    "Query",
    "What can be read. Everything is of the program that the credential belongs to.",
    (
        NodeQueries,
        ProgramQueries,
        CredentialQueries,
        MemberQueries,
        EventQueries,
        RuleQueries,
        SimulationQueries,
        StoreQueries,
        TierQueries,
        CampaignQueries,
        CatalogQueries,
        RedemptionQueries,
        ReferralQueries,
        PointsPaymentQueries,
        StatementQueries,
        MessageQueries,
        JobQueries,
        WebhookQueries,
    ),
)
Mutation = _merged(
    "Mutation",
    "What can be done. What the caller can put right comes back in userErrors.",
    (
        ProgramMutations,
        CredentialMutations,
        MemberMutations,
        RuleMutations,
        RecordingMutations,
        RefundMutations,
        LedgerMutations,
        StoreMutations,
        CheckInMutations,
        TierMutations,
        CampaignMutations,
        CatalogMutations,
        RedemptionMutations,
        GiveawayMutations,
        TransferMutations,
        JobMutations,
        WebhookMutations,
    ),
)
NODES: tuple[type, ...] = (
    Program,
    ApiKey,
    Member,
    LedgerEntry,
    Event,
    Award,
    Refund,
    EarningRule,
    Store,
    Tier,
    Campaign,
    Reward,
    Redemption,
    Message,
    Referral,
    Job,
    FailedJob,
    Webhook,
)


def laurel_schema(settings: Settings | None = None) -> LaurelSchema:
    """Return the product's schema; without settings with the usual limits."""
    return build_schema(Query, Mutation, Subscription, types=NODES, settings=settings)

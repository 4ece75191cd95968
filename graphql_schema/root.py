"""The schema of the product: every concept's part of it, put together."""

from strawberry.tools import merge_types

from app.settings import Settings
from graphql_schema.build import LaurelSchema, build_schema
from graphql_schema.credentials import ApiKey, CredentialMutations, CredentialQueries
from graphql_schema.earning import Award, EarningMutations, EarningQueries, EarningRule
from graphql_schema.events import Event, EventMutations, EventQueries
from graphql_schema.ledger import LedgerEntry, LedgerMutations
from graphql_schema.members import Member, MemberMutations, MemberQueries
from graphql_schema.nodes import NodeQueries
from graphql_schema.programs import Program, ProgramMutations, ProgramQueries

Query = merge_types(
    "Query", (NodeQueries, ProgramQueries, CredentialQueries, MemberQueries, EventQueries, EarningQueries)
)
Mutation = merge_types(
    "Mutation",
    (
        ProgramMutations,
        CredentialMutations,
        MemberMutations,
        EarningMutations,
        EventMutations,
        LedgerMutations,
    ),
)
NODES: tuple[type, ...] = (Program, ApiKey, Member, LedgerEntry, Event, Award, EarningRule)


def laurel_schema(settings: Settings | None = None) -> LaurelSchema:
    """Return the product's schema; without settings with the usual limits."""
    return build_schema(Query, Mutation, types=NODES, settings=settings)

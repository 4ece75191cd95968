"""Programs: the settings that every calculation goes by."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import strawberry

from app.access.scopes import Scope
from app.errors import Refused
from app.ids import to_global_id
from app.ledger import expiry
from app.ledger.expiry import ExpiryKind
from app.programs import models, service
from app.programs.inputs import NewProgram
from app.programs.policy import MultiplierStacking, Rounding
from app.tiers.policy import TierBasis, TierDowngrade, TierWindow
from graphql_schema.access import INHERITED, field, object_type, resolver
from graphql_schema.context import Context
from graphql_schema.enums import enum_type
from graphql_schema.errors import UserError, user_errors
from graphql_schema.inputs import changes, given
from graphql_schema.nodes import Info, Node, finds, program_of
from graphql_schema.scalars import Points
from graphql_schema.tier_policy import TierPolicy, TierPolicyInput

READ = (Scope.PROGRAM_READ, Scope.PROGRAM_WRITE, Scope.PLATFORM_ADMIN)

enum_type(
    Rounding,
    description="How the points of one award become whole.",
    values={
        "FLOOR": "Down: 4.9 points are 4.",
        "HALF_UP": "To the nearest; a half goes up.",
        "CEILING": "Up: 4.1 points are 5.",
    },
)
enum_type(
    MultiplierStacking,
    description="How the tier's and the campaigns' factors combine.",
    values={
        "MULTIPLY": "By multiplication: x2 and x3 are x6.",
        "ADD": "By adding what each is above 1: x2 and x3 are x4.",
        "BEST": "The greatest alone: x2 and x3 are x3.",
    },
)
enum_type(
    ExpiryKind,
    description="When points expire. A lot is the points of one award.",
    values={
        "NEVER": "They do not.",
        "ROLLING_MONTHS": "Each lot, so many months after it became available.",
        "END_OF_YEAR": "The last day of the calendar year in which it became available.",
        "INACTIVITY_MONTHS": "Everything, so many months after the last earn or spend.",
    },
)


@object_type(description="When points expire.", access=INHERITED)
class ExpiryPolicy:
    kind: ExpiryKind = strawberry.field(description="What the time is counted from.")
    months: int | None = strawberry.field(description="How many, for the two kinds that count months.")


@object_type(description="A rewards program; everything else belongs to one.", scope=READ, member=True)
class Program(Node):
    slug: str = strawberry.field(description="A short name for addresses and commands.")
    name: str = strawberry.field(description="The name for people.")
    currency: str = strawberry.field(description="ISO 4217.")
    timezone: str = strawberry.field(
        description="IANA name; days, weeks and months of limits are counted in it."
    )
    rounding: Rounding = strawberry.field(description="How the points of one award become whole.")
    multiplier_stacking: MultiplierStacking = strawberry.field(
        description="How the tier's and the campaigns' factors combine."
    )
    max_points_per_day: Points | None = strawberry.field(
        description="Cap on what one member can earn in a calendar day, over all rules."
    )
    pending_days: int = strawberry.field(description="Days that earned points wait before they can be spent.")
    expiry: ExpiryPolicy = strawberry.field(description="When points expire.")
    tier_policy: TierPolicy = strawberry.field(description="By what members reach tiers, and lose them.")
    debt_limit: Points = field(
        description="How far a refund may push a balance below zero; 0 stops at zero.", scope=READ
    )
    point_cost: Decimal = field(description="What one point costs the program, in its currency.", scope=READ)
    earn_on_points_payments: bool = strawberry.field(
        description="Whether the part of a purchase that was paid with points earns points."
    )
    created_at: datetime = strawberry.field(description="When the program was made.")

    @classmethod
    def of(cls, row: models.Program) -> "Program":
        """Return a program as the API gives it."""
        return cls(
            id=strawberry.ID(to_global_id("Program", row.id)),
            slug=row.slug,
            name=row.name,
            currency=row.currency,
            timezone=row.timezone,
            rounding=Rounding(row.rounding),
            multiplier_stacking=MultiplierStacking(row.multiplier_stacking),
            max_points_per_day=None if row.max_points_per_day is None else Points(row.max_points_per_day),
            pending_days=row.pending_days,
            expiry=ExpiryPolicy(kind=ExpiryKind(row.expiry_kind), months=row.expiry_months),
            tier_policy=TierPolicy(
                basis=TierBasis(row.tier_basis),
                window=TierWindow(row.tier_window),
                months=row.tier_months,
                downgrade=TierDowngrade(row.tier_downgrade),
                grace_days=row.tier_grace_days,
            ),
            debt_limit=Points(row.debt_limit),
            point_cost=row.point_cost,
            earn_on_points_payments=row.earn_on_points_payments,
            created_at=row.created_at,
        )


@finds("Program")
async def _find(context: Context, key: UUID | str) -> Program | None:
    if key != context.principal.program_id:
        return None
    return Program.of(await service.get_program(context.principal.program_id))


@strawberry.input(description="When points expire.")
class ExpiryPolicyInput:
    kind: ExpiryKind = strawberry.field(description="What the time is counted from.")
    months: int | None = strawberry.field(
        description="How many, 1 to 1,200, for the two kinds that count months.", default=None
    )

    def value(self) -> expiry.ExpiryPolicy:
        """Return the policy that was sent."""
        return expiry.ExpiryPolicy(self.kind, self.months)


@strawberry.input(description="A program to be made. Currency and time zone stay as they are for good.")
class CreateProgramInput:
    slug: str = strawberry.field(description="1 to 64 of a-z, 0-9 and single hyphens; unique.")
    name: str = strawberry.field(description="1 to 200 characters.")
    currency: str = strawberry.field(description="ISO 4217, such as EUR.")
    timezone: str = strawberry.field(description="IANA name, such as Europe/Berlin.")
    rounding: Rounding | None = strawberry.field(
        description="How the points of one award become whole.", default=Rounding.FLOOR
    )
    multiplier_stacking: MultiplierStacking | None = strawberry.field(
        description="How the tier's and the campaigns' factors combine.", default=MultiplierStacking.MULTIPLY
    )
    max_points_per_day: Points | None = strawberry.field(
        description="Cap on what one member can earn in a calendar day, over all rules.", default=None
    )
    pending_days: int | None = strawberry.field(
        description="Days that earned points wait before they can be spent; 0 to 3,650.", default=0
    )
    expiry: ExpiryPolicyInput | None = strawberry.field(
        description="When points expire; never, when left out.", default=None
    )
    debt_limit: Points | None = strawberry.field(
        description="How far a refund may push a balance below zero; 0 stops at zero.", default=Points(0)
    )
    point_cost: Decimal | None = strawberry.field(
        description="What one point costs the program, in its currency; at most six decimals.",
        default=Decimal("0.01"),
    )
    earn_on_points_payments: bool | None = strawberry.field(
        description="Whether the part of a purchase that was paid with points earns points.", default=False
    )
    tier_policy: TierPolicyInput | None = strawberry.field(
        description="By what members reach tiers; the points of a lifetime, when left out.", default=None
    )


@strawberry.input(description="What is to change; what is left out stays as it is.")
class UpdateProgramInput:
    name: str | None = strawberry.field(description="1 to 200 characters.", default=strawberry.UNSET)
    rounding: Rounding | None = strawberry.field(
        description="How the points of one award become whole.", default=strawberry.UNSET
    )
    multiplier_stacking: MultiplierStacking | None = strawberry.field(
        description="How the tier's and the campaigns' factors combine.", default=strawberry.UNSET
    )
    max_points_per_day: Points | None = strawberry.field(
        description="Cap on what one member can earn in a calendar day; null for none.",
        default=strawberry.UNSET,
    )
    pending_days: int | None = strawberry.field(
        description="Days that points earned from now on wait; 0 to 3,650.", default=strawberry.UNSET
    )
    expiry: ExpiryPolicyInput | None = strawberry.field(
        description="When points earned from now on expire; null for never. What was earned keeps its day.",
        default=strawberry.UNSET,
    )
    debt_limit: Points | None = strawberry.field(
        description="How far a refund may push a balance below zero.", default=strawberry.UNSET
    )
    point_cost: Decimal | None = strawberry.field(
        description="What one point costs the program, in its currency.", default=strawberry.UNSET
    )
    earn_on_points_payments: bool | None = strawberry.field(
        description="Whether the part of purchases from now on that is paid with points earns points.",
        default=strawberry.UNSET,
    )
    tier_policy: TierPolicyInput | None = strawberry.field(
        description="By what members reach tiers, as a whole; null for the points of a lifetime. It counts"
        " for everything that members ever did.",
        default=strawberry.UNSET,
    )


@object_type(description="The program that was made.", access=INHERITED)
class CreateProgramPayload:
    program: Program | None = strawberry.field(description="Null when nothing was done.", default=None)
    secret: str | None = strawberry.field(
        description="A first API key with every scope of the new program. It is shown this once.",
        default=None,
    )
    user_errors: list[UserError] = strawberry.field(
        description="What is to be put right; empty when it is done."
    )


@object_type(description="The program as it is now.", access=INHERITED)
class UpdateProgramPayload:
    program: Program | None = strawberry.field(description="Null when nothing was done.", default=None)
    user_errors: list[UserError] = strawberry.field(
        description="What is to be put right; empty when it is done."
    )


def _settings(fields: dict[str, Any]) -> dict[str, Any]:
    for name in ("expiry", "tier_policy"):
        if fields.get(name) is not None:
            fields[name] = fields[name].value()
    return fields


@object_type(description="")
class ProgramQueries:
    @resolver(
        description="The program that the credential belongs to.",
        scope=(Scope.PROGRAM_READ, Scope.PROGRAM_WRITE),
        member=True,
    )
    async def program(self, info: Info) -> Program:
        return Program.of(await service.get_program(program_of(info)))


@object_type(description="")
class ProgramMutations:
    @resolver(description="Makes a program, with a first API key.", scope=Scope.PLATFORM_ADMIN)
    async def create_program(
        self, input: Annotated[CreateProgramInput, strawberry.argument(description="The program.")]
    ) -> CreateProgramPayload:
        try:
            row, secret = await service.create_program(NewProgram(**_settings(given(input))))
        except Refused as refused:
            return CreateProgramPayload(user_errors=user_errors(refused.errors))
        return CreateProgramPayload(program=Program.of(row), secret=secret, user_errors=[])

    @resolver(description="Changes a program's settings.", scope=Scope.PROGRAM_WRITE)
    async def update_program(
        self,
        info: Info,
        input: Annotated[UpdateProgramInput, strawberry.argument(description="The changes.")],
    ) -> UpdateProgramPayload:
        try:
            row = await service.update_program(program_of(info), _settings(changes(input)))
        except Refused as refused:
            return UpdateProgramPayload(user_errors=user_errors(refused.errors))
        return UpdateProgramPayload(program=Program.of(row), user_errors=[])

"""What is kept beside an event's awards, so that its outcome can be told, and taken back, as it was decided.

The rules themselves are kept as versions; here is what else decided: rounding, stacking, cap and whether
points payments earned at the time, tier and campaign factors, and the room that limits left. Pure.
"""

from dataclasses import replace
from typing import Any
from uuid import UUID

import msgspec

from app.earning.compiled import CompiledRule
from app.earning.outcomes import UNLIMITED, Room
from app.earning.ruleset import NOTHING_MET, Standing
from app.programs.policy import MultiplierStacking, ProgramPolicy, Rounding


class KeptRooms(msgspec.Struct, frozen=True, omit_defaults=True):
    """The room that limits left before an event, for the rules that asked."""

    program_day: int | None = None
    rules: dict[UUID, Room] = {}

    def of(self, rule: CompiledRule) -> Room:
        """Return what the limits of a rule left."""
        return self.rules.get(rule.id, UNLIMITED)


NO_ROOMS = KeptRooms()
"""No limit was asked."""


class Context(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything but facts and rules that decided what an event earned."""

    rounding: Rounding = Rounding.FLOOR
    stacking: MultiplierStacking = MultiplierStacking.MULTIPLY
    day_cap: int | None = None
    standing: Standing = NOTHING_MET
    rooms: KeptRooms = NO_ROOMS
    points_payments: bool = False

    @classmethod
    def of(cls, policy: ProgramPolicy, standing: Standing, rooms: KeptRooms) -> "Context":
        """Return the context of an event that is decided under a policy."""
        return cls(
            policy.rounding,
            policy.multiplier_stacking,
            policy.max_points_per_day,
            standing,
            rooms,
            policy.earn_on_points_payments,
        )

    def policy(self, policy: ProgramPolicy, version: int) -> ProgramPolicy:
        """Return a program's policy with what counted at the time."""
        return replace(
            policy,
            version=version,
            rounding=self.rounding,
            multiplier_stacking=self.stacking,
            max_points_per_day=self.day_cap,
            earn_on_points_payments=self.points_payments,
        )


PLAIN = Context()
_encoder = msgspec.json.Encoder()
_PLAIN = _encoder.encode(PLAIN)


def encode(context: Context) -> bytes:
    """Return a context as JSON."""
    return _PLAIN if context == PLAIN else _encoder.encode(context)


def decode(value: Any) -> Context:
    """Return a context from what JSON holds of it."""
    return msgspec.convert(value, Context)

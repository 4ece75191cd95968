"""Whom a campaign or a rule is meant for."""

from uuid import UUID

import msgspec

MAX_IDS = 100
"""Tiers, and stores, that one audience can name."""


class Audience(msgspec.Struct, frozen=True, omit_defaults=True):
    """Members of any of these tiers, in any of these stores; where none is named, all of them."""

    tiers: tuple[UUID, ...] = ()
    stores: tuple[UUID, ...] = ()

    def distinct(self) -> "Audience":
        """Return the same audience with every id once and in order, so that the same ones are equal."""
        return Audience(tuple(sorted(set(self.tiers))), tuple(sorted(set(self.stores))))


EVERYBODY = Audience()

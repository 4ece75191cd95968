"""A store: a place of the program's, whose clock the days of check-ins are counted by."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class Store:
    """A store as the database has it; times are in UTC.

    Attributes:
        timezone: an IANA name, such as Europe/Berlin.
        latitude, longitude: in degrees (WGS 84); both, or neither.
        radius_meters: how far away a check-in may be; None asks for no position.
    """

    id: UUID
    program_id: UUID
    external_id: str
    name: str
    timezone: str
    latitude: float | None
    longitude: float | None
    radius_meters: int | None
    created_at: datetime
    updated_at: datetime

    @property
    def zone(self) -> ZoneInfo:
        """The zone that its days are counted in."""
        return ZoneInfo(self.timezone)

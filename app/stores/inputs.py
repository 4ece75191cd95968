"""What can be said about a store, and what is wrong with it."""

from dataclasses import dataclass

from app.programs.inputs import check_timezone
from app.validation import Problems

MAX_RADIUS_METERS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreContent:
    """What somebody says of a store.

    Attributes:
        external_id: the caller's own name for the store, 1 to 255 printable characters; unique in
            the program.
        name: 1 to 200 characters.
        timezone: an IANA name, such as Europe/Berlin; None for the program's zone.
        latitude, longitude: in degrees, -90 to 90 and -180 to 180; both, or neither.
        radius_meters: 1 to 100,000, where there is a position; None asks check-ins for no position.
    """

    external_id: str
    name: str
    timezone: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    radius_meters: int | None = None


def check_content(store: StoreContent, problems: Problems) -> None:
    """Note what is wrong with a store."""
    if not 1 <= len(store.external_id) <= 255:
        problems.add("External id must have between 1 and 255 characters.", "external_id")
    elif not store.external_id.isprintable() or store.external_id != store.external_id.strip():
        message = "External id must be printable, without a space at its start or end."
        problems.add(message, "external_id")
    problems.line(store.name, 200, "name")
    if store.timezone is not None:
        check_timezone(store.timezone, problems)
    check_position(store.latitude, store.longitude, problems)
    if store.radius_meters is None:
        return
    problems.whole(store.radius_meters, 1, MAX_RADIUS_METERS, "radius_meters")
    if store.latitude is None and store.longitude is None:
        problems.add("Radius meters need a position: latitude and longitude.", "radius_meters")


def check_position(latitude: float | None, longitude: float | None, problems: Problems) -> None:
    """Note what is wrong with a position in degrees: half of one, or one that is nowhere on Earth."""
    # Comparisons with NaN are false, and those with infinities true.
    if latitude is not None and not -90 <= latitude <= 90:
        problems.add("Latitude must be between -90 and 90 degrees.", "latitude")
    if longitude is not None and not -180 <= longitude <= 180:
        problems.add("Longitude must be between -180 and 180 degrees.", "longitude")
    if (latitude is None) != (longitude is None):
        missing = "latitude" if latitude is None else "longitude"
        problems.add("Latitude and longitude come together: give both, or neither.", missing)

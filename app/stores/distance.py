"""How far apart two places on Earth are."""

from math import asin, cos, radians, sin, sqrt

EARTH_RADIUS_METERS = 6_371_008.8
"""The mean radius of the Earth (IUGG)."""


def distance_meters(
    latitude: float, longitude: float, other_latitude: float, other_longitude: float
) -> float:
    """Return the great-circle distance of two positions in degrees: metres, to half a percent.

    The Earth is taken for a ball: near a store the error is far below that of a phone's position.
    """
    up, other_up = radians(latitude), radians(other_latitude)
    across = radians(other_longitude - longitude)
    haversine = sin((other_up - up) / 2) ** 2 + cos(up) * cos(other_up) * sin(across / 2) ** 2
    # Rounding may lead a hair beyond 1 for opposite ends of the Earth, where there is no arc sine.
    return 2 * EARTH_RADIUS_METERS * asin(min(1.0, sqrt(haversine)))

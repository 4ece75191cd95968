"""Great-circle distances, against published ones and against a second formula."""

from math import acos, cos, isclose, pi, radians, sin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.stores.distance import EARTH_RADIUS_METERS, distance_meters

BERLIN = (52.520008, 13.404954)
PARIS = (48.856613, 2.352222)
LONDON = (51.507351, -0.127758)
NEW_YORK = (40.712776, -74.005974)
SYDNEY = (-33.868820, 151.209290)
TOKYO = (35.689487, 139.691711)
HALF_ROUND = pi * EARTH_RADIUS_METERS

latitudes = st.floats(-90, 90)
longitudes = st.floats(-180, 180)


@pytest.mark.parametrize(
    ("here", "there", "kilometers"),
    [
        (BERLIN, PARIS, 878),
        (LONDON, PARIS, 344),
        (LONDON, NEW_YORK, 5570),
        (TOKYO, SYDNEY, 7823),
        (NEW_YORK, SYDNEY, 15_989),
        (BERLIN, SYDNEY, 16_094),
    ],
)
def test_cities_are_as_far_apart_as_atlases_say(
    here: tuple[float, float], there: tuple[float, float], kilometers: int
) -> None:
    assert distance_meters(*here, *there) == pytest.approx(kilometers * 1000, rel=0.005)


@pytest.mark.parametrize(
    ("here", "there", "meters"),
    [
        ((0, 0), (0, 1), 111_195.08),
        ((0, 0), (1, 0), 111_195.08),
        ((60, 0), (60, 1), 55_595.34),
        ((52.52, 13.405), (52.5209, 13.405), 100.08),
        ((0, 179.9995), (0, -179.9995), 111.195),
        ((0, 180), (0, -180), 0),
        ((-16.8, 179.999), (-16.8, -179.999), 212.90),
        ((90, 0), (90, 123), 0),
        ((-90, -45), (-90, 123), 0),
        ((0, 0), (0, 180), HALF_ROUND),
        ((90, 0), (-90, 77), HALF_ROUND),
        ((52.52, 13.405), (-52.52, -166.595), HALF_ROUND),
        ((0, 0), (90, 0), HALF_ROUND / 2),
    ],
)
def test_steps_poles_date_line_and_opposite_ends(
    here: tuple[float, float], there: tuple[float, float], meters: float
) -> None:
    assert distance_meters(*here, *there) == pytest.approx(meters, rel=1e-4, abs=1e-3)


@given(latitudes, longitudes, latitudes, longitudes)
def test_distance_is_the_same_both_ways_and_never_more_than_half_round(
    latitude: float, longitude: float, other_latitude: float, other_longitude: float
) -> None:
    there = distance_meters(latitude, longitude, other_latitude, other_longitude)
    back = distance_meters(other_latitude, other_longitude, latitude, longitude)
    assert isclose(there, back, rel_tol=1e-9, abs_tol=1e-3)
    assert 0 <= there <= HALF_ROUND


@given(latitudes, longitudes)
def test_what_is_opposite_is_half_round_away_and_no_place_is_away_from_itself(
    latitude: float, longitude: float
) -> None:
    assert distance_meters(latitude, longitude, latitude, longitude) == 0
    opposite = longitude - 180 if longitude > 0 else longitude + 180
    # Near the other end a haversine tells metres, not millimetres, apart.
    assert distance_meters(latitude, longitude, -latitude, opposite) == pytest.approx(HALF_ROUND, abs=1)


@given(latitudes, longitudes, latitudes, longitudes)
def test_law_of_cosines_says_the_same(
    latitude: float, longitude: float, other_latitude: float, other_longitude: float
) -> None:
    up, other_up, across = radians(latitude), radians(other_latitude), radians(other_longitude - longitude)
    cosine = sin(up) * sin(other_up) + cos(up) * cos(other_up) * cos(across)
    expected = EARTH_RADIUS_METERS * acos(max(-1.0, min(1.0, cosine)))
    # It is the coarser of the two: about a metre where places are near, or opposite.
    assert distance_meters(latitude, longitude, other_latitude, other_longitude) == pytest.approx(
        expected, abs=2
    )


@given(latitudes, longitudes, st.integers(-2, 2))
def test_turning_round_the_globe_changes_nothing(latitude: float, longitude: float, turns: int) -> None:
    there = distance_meters(*BERLIN, latitude, longitude)
    assert distance_meters(*BERLIN, latitude, longitude + 360 * turns) == pytest.approx(there, abs=1)

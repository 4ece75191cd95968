"""PostgreSQL goes away while clients write, and comes back."""

import asyncio
import signal

import pytest

from tests.trust.books import check, drained, report
from tests.trust.place import Place
from tests.trust.tills import Shop

FIRST_WRITE_SECONDS = 15
# What a client may hear or see while the database is away.
CLEAN = {"ok", "UNAVAILABLE"}


@pytest.mark.parametrize(
    ("number", "seconds"),
    [(signal.SIGQUIT, 1.5), (signal.SIGKILL, 20)],
    ids=["for a moment", "for 20 seconds"],
)
async def test_postgres_is_away_while_clients_write(
    place: Place, shop: Shop, number: int, seconds: float
) -> None:
    pids = place.api.pid, place.worker.pid
    logs = place.log_places()
    async with shop.busy():
        await asyncio.sleep(1)
        place.signal(place.postgres, number)
        await asyncio.sleep(seconds)
        assert not place.postgres.is_alive()
        back = await place.bring_back(place.postgres)
        await asyncio.sleep(0.5)
    empty = await drained(place, back)
    await check(place, shop)
    first = shop.journal.first_after(back)
    name = signal.Signals(number).name
    report(
        shop,
        f"PostgreSQL ended by {name}, away for {seconds:g} s: first write {first:.2f} s,"
        f" drained {empty:.2f} s after it was back",
    )
    assert first < FIRST_WRITE_SECONDS
    assert set(shop.journal.answers) <= CLEAN
    assert (place.api.pid, place.worker.pid) == pids
    assert place.api.is_alive()
    assert place.worker.is_alive()
    place.assert_calm(logs)
